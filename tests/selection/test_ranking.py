"""Choosing a candidate by one score or by the mean rank of many."""

import numpy as np
import pytest

from isra_keras.selection import best_index, ensemble_ranks


def test_best_index():
    assert best_index([3.0, 1.0, 2.0], "min") == 1
    assert best_index([3.0, 1.0, 3.0], "max") == 0
    assert best_index([float("nan"), 5.0], "max") == 1
    assert best_index([float("nan"), 5.0], "min") == 1


def test_best_index_refuses():
    with pytest.raises(ValueError, match="finite"):
        best_index([float("nan")], "min")
    with pytest.raises(ValueError, match="direction"):
        best_index([1.0], "up")


def test_ensemble_ranks_known_answer():
    ranks = ensemble_ranks({"mean_entropy": [0.1, 0.2, 0.3], "snd": [1.0, 3.0, 2.0]})
    assert ranks == pytest.approx([2.0, 1.5, 2.5])


def test_ensemble_ranks_ties_nan_and_directions():
    ranks = ensemble_ranks({"a": [1.0, 1.0, np.nan]}, {"a": "max"})
    assert ranks == pytest.approx([1.5, 1.5, 3.0])
    with pytest.raises(ValueError, match="at least one"):
        ensemble_ranks({})
