"""Per-class tables and the rule that judges classes shared."""

import math

import numpy as np
import pytest

from isra_keras.analysis.per_class import (
    accuracy,
    confusion,
    judged_shared,
    per_class,
    prediction_weights,
    weights_judged_by,
)

LABELS = [0, 0, 0, 1, 1, -1]
PREDICTIONS = [0, 2, 2, 1, 0, 2]
NAMES = ["ant", "bee", "cat"]


def test_confusion_leaves_unknown_labels_out():
    assert confusion(LABELS, PREDICTIONS, 3).tolist() == [[1, 0, 2], [1, 1, 0], [0, 0, 0]]
    assert confusion([-1, -1], [0, 1], 3).sum() == 0


def test_per_class_rows():
    ant, bee, cat = per_class(LABELS, PREDICTIONS, NAMES)
    assert (ant.count, ant.correct, ant.predicted, ant.mistaken_for, ant.mistakes) == (3, 1, 2, "cat", 2)
    assert bee.accuracy == 0.5 and bee.mistaken_for == "ant"
    assert math.isnan(cat.accuracy) and cat.predicted == 2 and cat.mistaken_for == ""


def test_accuracy_overall_and_averaged():
    overall, averaged = accuracy(per_class(LABELS, PREDICTIONS, NAMES))
    assert overall == pytest.approx(2 / 5) and averaged == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert all(math.isnan(value) for value in accuracy(per_class([-1], [0], NAMES)))


def test_judged_shared():
    assert judged_shared([0.5, 0.4, 0.1]).tolist() == [True, True, False]
    assert judged_shared([5.0, 4.0, 1.0]).tolist() == [True, True, False]  # the scale does not count
    assert judged_shared([0.12, 0.09, 0.08, 0.11, 0.1, 0.13, 0.07, 0.1, 0.12, 0.08]).all(), "all are there"
    assert judged_shared([0.3, 0.25, 0.3] + [0.15 / 33] * 33).tolist() == [True] * 3 + [False] * 33
    assert judged_shared([1 / 3] * 3).all() and judged_shared(np.zeros(3)).all()


def test_prediction_weights():
    assert prediction_weights([[0.5, 0.5], [1.0, 0.0]]) == pytest.approx([0.75, 0.25])


def test_a_class_never_learnt_weighs_nothing():
    predictions = np.array([[0.2, 0.3, 0.5], [0.2, 0.2, 0.6]])
    assert weights_judged_by(None, predictions, [0, 1, 1]).tolist() == [0.2, 0.25, 0]
    assert weights_judged_by([1.0, 2.0, 9.0], predictions, [0, 1, 1]).tolist() == [1, 2, 0]
    assert weights_judged_by([1.0, 2.0, 9.0], predictions, [0, 1, 2]).tolist() == [1, 2, 9]
