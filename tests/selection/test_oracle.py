"""The oracle counts only labelled rows and stays out of the label-free scores."""

import math

import numpy as np

from isra_keras.selection import ORACLE, SCORES


def test_oracle_accuracy():
    function, direction = ORACLE["oracle_accuracy"]
    logits = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    assert direction == "max"
    assert function(logits, [0, 1, 1, 0]) == 0.5
    assert function(logits, [0, 1, -1, -1]) == 1.0
    assert math.isnan(function(logits, [-1] * 4))


def test_oracle_is_not_a_score():
    assert not set(ORACLE) & set(SCORES)
