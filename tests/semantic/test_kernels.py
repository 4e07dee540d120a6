"""What TensorFlow's own operations compute one by one is what the plain form computes."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from isra_keras.semantic import kernels
from isra_keras.semantic.blocks import align_topics, hidden_slopes
from isra_keras.semantic.kernels import (
    inner_products,
    one_by_one,
    sum_of_squares,
    sum_over_rows,
    sum_over_topics,
    where_positive,
)  # fmt: skip
from tests.gradients import values_and_gradients
from tests.semantic.test_blocks import make, terms_and_gradient
from tests.semantic.test_properties import random_features

TOPICS, ROWS, DEPTH = 5, 9, 6


def draw(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype("float32")


def both(function, *inputs):
    """(plain, one by one)."""
    found = []
    for allowed in (False, True):
        with one_by_one(allowed):
            found.append(np.asarray(function(*inputs)))
    return found


@pytest.mark.parametrize("function, weights, formula", [
    (sum_over_rows, draw(ROWS, DEPTH), "jid,id->jd"),
    (sum_over_topics, draw(TOPICS, DEPTH), "jid,jd->id"),
])  # fmt: skip
def test_sums(function, weights, formula):
    values = draw(TOPICS, ROWS, DEPTH)
    wanted = np.einsum(formula, values.astype("float64"), weights)
    for found in both(function, values, weights):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis, keepdims", [((1, 2), False), (-1, True)])
def test_squares(axis, keepdims):
    values = draw(TOPICS, ROWS, DEPTH)
    wanted = np.sum(values.astype("float64") ** 2, axis=axis, keepdims=keepdims)
    for found in both(lambda one: sum_of_squares(one, axis, keepdims), values):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, ROWS], ids=["the same for all rows", "for each row"])
def test_where_positive(rows):
    values, hidden = draw(TOPICS, rows, 4), draw(TOPICS, ROWS, 4, seed=1)
    hidden[0] = 0.0
    for found in both(where_positive, values, hidden):
        np.testing.assert_array_equal(found, np.where(hidden > 0, values, 0.0))


def test_inner_products_and_their_gradients():
    hidden, vectors, factors = draw(TOPICS, ROWS, 4), draw(TOPICS, 4, 1), draw(TOPICS, ROWS)
    values, gradients = values_and_gradients(
        lambda given: {"sum": ops.sum(ops.multiply(inner_products(given["hidden"], given["vectors"]), factors))},
        {"hidden": hidden, "vectors": vectors},
    )
    np.testing.assert_allclose(values["sum"], np.einsum("jnh,jho,jn->", hidden, vectors, factors), rtol=1e-5)
    np.testing.assert_allclose(gradients["sum"]["hidden"], np.einsum("jho,jn->jnh", vectors, factors), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradients["sum"]["vectors"], np.einsum("jnh,jn->jh", hidden, factors)[..., None], rtol=1e-5, atol=1e-6)


def test_slopes_without_factors_are_of_all_rows():
    hidden, output_kernel = draw(TOPICS, ROWS, 4), draw(TOPICS, 4, 1)
    for found in both(hidden_slopes, hidden, output_kernel):
        assert found.shape == hidden.shape
        np.testing.assert_array_equal(found, (hidden > 0) * output_kernel.transpose(0, 2, 1))


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("normalisation", ["frobenius", "row"])
def test_terms_and_gradients_are_those_of_the_plain_form(variant, normalisation, monkeypatch):
    source, target = random_features(1, 9, 6), random_features(2, 8, 6)
    plain, used = terms_and_gradient(make(3, variant, normalisation), source, target), []
    monkeypatch.setattr(kernels, "device_kind", lambda: used.append(1) or "cpu")
    with one_by_one(True):
        found = terms_and_gradient(make(3, variant, normalisation), source, target)
    assert used
    for name, value in plain[0].items():
        np.testing.assert_allclose(found[0][name], value, rtol=1e-6)
    np.testing.assert_allclose(found[1], plain[1], rtol=1e-5, atol=1e-6 * np.abs(plain[1]).max())
    for name, value in plain[2].items():
        np.testing.assert_allclose(found[2][name], value, rtol=1e-5)


def test_a_graph_may_leave_the_rows_open():
    @tf.function(input_signature=[tf.TensorSpec((None, 6))] * 2, autograph=False)
    def step(source, target):
        with one_by_one(True):
            return alignment_and_gradient(semantic, source, target)

    semantic = make(3)
    for rows in (1, 8):
        source, target = tf.constant(random_features(1, 9, 6)), tf.constant(random_features(2, rows, 6))
        for found, wanted in zip(step(source, target), alignment_and_gradient(semantic, source, target)):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def alignment_and_gradient(semantic, source, target):
    """Of all rows, source minus target, in blocks of three of the seven topics."""
    features = tf.concat([source, target], 0)
    weights = tf.concat([tf.ones(tf.shape(source)[0]), -tf.ones(tf.shape(target)[0])], 0)
    with tf.GradientTape() as tape:
        tape.watch(features)
        hidden = semantic.receptors.hidden(features)
        found = align_topics(semantic.receptors, hidden, hidden[:, :, 0], features, weights, "frobenius", 1.0, 3)
    return found["alignment"], tape.gradient(found["alignment"], features)
