"""The linear classifier on the source that collapse is measured against."""

import numpy as np
import pytest

from isra_keras.selection.probe import source_probe


def blobs(seed, per_class, shift=0.0):
    rng = np.random.default_rng(seed)
    centres = np.eye(3, 8) * 4 + shift
    labels = np.repeat(np.arange(3), per_class)
    return (centres[labels] + rng.normal(size=(len(labels), 8)) * 0.5).astype("float32"), labels


def test_learns_separable_classes_and_gives_probabilities():
    source, labels = blobs(0, 30)
    target, wanted = blobs(1, 10, shift=0.3)
    found = source_probe(source, labels, target, 4)
    assert found.shape == (30, 4) and found.sum(axis=1) == pytest.approx(1.0)
    assert (found.argmax(axis=1) == wanted).all()
    assert found[:, 3].max() < 0.3  # a class without samples


def test_agrees_with_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    source, labels = blobs(2, 20)
    target, _ = blobs(3, 20, shift=1.0)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (source, target)]
    theirs = LogisticRegression(C=10.0, tol=1e-8, max_iter=1000).fit(unit[0], labels).predict_proba(unit[1])
    assert np.abs(source_probe(source, labels, target, 3) - theirs).max() < 2e-3


def test_is_deterministic_and_survives_zero_rows():
    source, labels = blobs(4, 10)
    target = np.zeros((2, 8), "float32")
    first, second = (source_probe(source, labels, target, 3) for _ in range(2))
    assert np.array_equal(first, second) and np.isfinite(first).all()


def test_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="label for each source row"):
        source_probe(np.ones((3, 2)), [0, 1], np.ones((1, 2)), 2)
