"""Selection WITH target labels: an upper bound for comparison, never a way to choose a model.

No user of partial domain adaptation has these labels. Whatever is chosen by a function of this file is called
"oracle" in every table and never shares a column with the label-free scores.
"""

import numpy as np


def oracle_accuracy(logits, labels):
    """Share of the target set that is classified right, in [0, 1]; rows labelled -1 do not count.

    Args:
        logits: (N, C).
        labels: (N,) int target labels in source numbering, -1 where unknown.

    Returns:
        float, NaN if no row has a label.
    """
    labels = np.asarray(labels)
    known = labels >= 0
    if not known.any():
        return float("nan")
    return float(np.mean(np.argmax(logits, axis=-1)[known] == labels[known]))


ORACLE = {"oracle_accuracy": (oracle_accuracy, "max")}
"""{name: (function of (logits, target labels), direction)}."""
