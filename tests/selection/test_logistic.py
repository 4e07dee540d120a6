"""The domain classifier behind DEV against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from isra_keras.selection.logistic import domain_probability, standardised


def test_equals_scikit_learn():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(200, 5)), rng.normal(0.5, 1.3, size=(120, 5))
    rows = StandardScaler().fit_transform(np.concatenate([source, target]))
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=2000).fit(rows, [0] * 200 + [1] * 120)
    expected = model.predict_proba(rows[:200])[:, 1]
    assert np.abs(domain_probability(source, target) - expected).max() < 1e-4


def test_separable_and_constant_features_stay_finite():
    source, target = np.zeros((30, 3)), np.ones((30, 3))
    source[:, 2] = target[:, 2] = 7.0
    probability = domain_probability(source, target)
    assert np.isfinite(probability).all() and (probability < 0.2).all()


@pytest.mark.parametrize("shape", [(2, 3), (64, 5), (65, 1), (500, 33)])
def test_rows_are_standardised_as_in_one_piece(shape):
    rows = (np.random.default_rng(1).normal(size=shape) * 3 + 1).astype("float32")
    whole = rows.astype("float64")
    expected = ((whole - whole.mean(axis=0)) / np.maximum(whole.std(axis=0), 1e-12)).astype("float32")
    assert np.array_equal(standardised(rows), expected)
