"""Accuracy of every class, confusion, and the classes that a model judges to be in the target."""

from dataclasses import dataclass

import numpy as np

BORDER = 0.4
"""Of the even share, see `shared_border`."""


@dataclass(frozen=True)
class ClassRow:
    """One class of the table.

    Attributes:
        name: of the class.
        count: target samples of this class; 0 if it is not in the target.
        correct: those of them that were predicted as this class.
        predicted: target samples predicted as this class, right or wrong.
        accuracy: correct / count, NaN if count is 0.
        mistaken_for: the wrong class predicted most often for its samples, "" if none.
        mistakes: how often that was.
    """

    name: str
    count: int
    correct: int
    predicted: int
    accuracy: float
    mistaken_for: str
    mistakes: int


def confusion(labels, predictions, num_classes):
    """(C, C) int64 counts, row = true class, column = predicted class; rows labelled -1 are left out.

    Args:
        labels: (N,) int, predictions: (N,) int, both in source numbering.
    """
    from sklearn.metrics import confusion_matrix

    labels, predictions = np.asarray(labels), np.asarray(predictions)
    known = labels >= 0
    if not known.any():
        return np.zeros((num_classes, num_classes), "int64")
    return confusion_matrix(labels[known], predictions[known], labels=np.arange(num_classes)).astype("int64")


def per_class(labels, predictions, class_names):
    """A `ClassRow` for each class, in label order.

    Args:
        labels: (N,) int, -1 where unknown.
        predictions: (N,) int.
        class_names: C names.
    """
    table = confusion(labels, predictions, len(class_names))
    columns = table.sum(axis=0)
    rows = []
    for index, name in enumerate(class_names):
        wrong = table[index].copy()
        wrong[index] = 0
        worst = int(wrong.argmax())
        count, correct = int(table[index].sum()), int(table[index, index])
        rows.append(
            ClassRow(
                name, count, correct, int(columns[index]), correct / count if count else float("nan"),
                class_names[worst] if wrong[worst] else "", int(wrong[worst]),
            )
        )  # fmt: skip
    return rows


def accuracy(rows):
    """(overall, class-averaged) accuracy of a table; NaN without labelled samples.

    Overall is the share of all samples, as the papers report; class-averaged counts each present class once.
    """
    total = sum(row.count for row in rows)
    if not total:
        return float("nan"), float("nan")
    return sum(row.correct for row in rows) / total, float(np.mean([row.accuracy for row in rows if row.count]))


def prediction_weights(probabilities):
    """(C,) share of the target's probability mass on each class; sums to one."""
    mass = np.asarray(probabilities, "float64").sum(axis=0)
    return mass / mass.sum()


def weights_judged_by(class_weights, probabilities, source_labels):
    """The weights by which classes are judged shared: the method's, or else the mean of the predictions.

    A class without source samples was never learnt, whatever a network with random weights for it says: zero.

    Args:
        class_weights: (C,) of the method, or None.
        probabilities: (N, C) predictions for the target.
        source_labels: int array of the source's labels.

    Returns:
        (C,) float.
    """
    weights = prediction_weights(probabilities) if class_weights is None else np.asarray(class_weights)
    learnt = np.bincount(np.asarray(source_labels), minlength=len(weights)) > 0
    return np.where(learnt, weights, 0)


def judged_shared(class_weights):
    """Which classes the model takes to be in the target: weight above `shared_border`.

    Args:
        class_weights: (C,) >= 0.

    Returns:
        (C,) bool. All True where all weights are equal: then nothing was told apart.
    """
    weights = np.asarray(class_weights, "float64")
    if np.ptp(weights) <= 1e-9 * max(abs(weights).max(), 1e-300):
        return np.ones(len(weights), bool)
    return weights > shared_border(weights)


def shared_border(class_weights, share=BORDER):
    """0.4 / K of the weights' sum, K = exp(entropy of the weights): the number of classes that they spread over.

    1/C, the weight of every class if the target held all of them alike, would call half of the classes absent where all
    are there. The rule does not change if a method scales its weights (PADA divides by the largest).

    Args:
        class_weights: (C,) >= 0, not all zero.
        share: of the weight that a class would have if K classes were there alike; benchmarks/judged_classes.py.
    """
    weights = np.asarray(class_weights, "float64")
    shares = weights / weights.sum()
    entropy = -np.sum(shares * np.log(np.where(shares > 0, shares, 1.0)))
    return float(share * weights.sum() / np.exp(entropy))
