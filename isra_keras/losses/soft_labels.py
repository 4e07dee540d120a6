"""Cross-entropies of SLM: label smoothing over a given number of classes, soft labels."""

from keras import ops

from isra_keras.losses.classification import cross_entropy


def smoothed_cross_entropy(logits, labels, smoothing, classes=None):
    """-sum_c q_c log softmax(logits)_c, q = (1 - smoothing) onehot + smoothing / classes.

    Args:
        logits: (n, C) float32.
        labels: (n,) int32.
        smoothing: float in [0, 1).
        classes: C if None; SLM's code has 31 whatever C is.

    Returns:
        (n,) float32.
    """
    everywhere = -ops.sum(ops.log_softmax(logits, axis=-1), axis=-1)
    return (1.0 - smoothing) * cross_entropy(logits, labels) + smoothing / (classes or logits.shape[-1]) * everywhere


def soft_cross_entropy(logits, targets, twice=False):
    """-sum_c t_c log softmax(logits)_c.

    Args:
        logits: (n, C) float32.
        targets: (n, C) float32 >= 0.
        twice: takes softmax(logits) for the logits, as SLM's code does.

    Returns:
        (n,) float32.
    """
    if twice:
        logits = ops.softmax(logits, axis=-1)
    return -ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)
