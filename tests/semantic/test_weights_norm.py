"""Product and L1 norm in few passes are the plain ones, and so is the gradient that is made of both."""

import numpy as np
import pytest
import tensorflow as tf

from isra_keras.semantic import weights_norm
from isra_keras.semantic.kernels import one_by_one, shared_product
from isra_keras.semantic.weights_norm import product_and_l1


@pytest.fixture(params=[1, 2**26], ids=["gradient in blocks", "gradient as a whole"])
def small(request, monkeypatch):
    """Blocks of three topics of seven."""
    monkeypatch.setattr(weights_norm, "MANY", request.param)
    monkeypatch.setattr(weights_norm, "BLOCK", 3 * 20)


def draw():
    values = np.random.default_rng(0).normal(size=(7, 5, 4)).astype("float32")
    values[0, 0, :2] = 0.0
    return tf.Variable(values), tf.constant(np.random.default_rng(1).normal(size=(2, 5)).astype("float32"))


def loss_and_gradient(allowed, jit=False):
    """Loss with both, the norm, and the gradients to weights and rows."""
    weights, rows = draw()

    @tf.function(autograph=False, jit_compile=jit or None)
    def step():
        with one_by_one(allowed):
            product, norm = product_and_l1(rows, tf.convert_to_tensor(weights), shared_product)
        loss = tf.reduce_sum(tf.square(product)) + 0.3 * norm
        return loss, norm, *tf.gradients(loss, [weights, rows])

    return [value.numpy() for value in step()]


def test_equals_the_plain_norm(small):
    wanted, found = loss_and_gradient(False), loss_and_gradient(True)
    assert found[:2] == pytest.approx(wanted[:2], rel=1e-6)
    for number in (2, 3):
        np.testing.assert_allclose(found[number], wanted[number], rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(found[number], loss_and_gradient(True)[number])
    assert float(found[1]) == pytest.approx(np.abs(draw()[0].numpy()).sum(), rel=1e-6)


def test_eager(small):
    weights, rows = draw()
    gradients = []
    for allowed in (False, True):
        with tf.GradientTape() as tape, one_by_one(allowed):
            product, norm = product_and_l1(rows, tf.convert_to_tensor(weights), shared_product)
            loss = tf.reduce_sum(tf.square(product)) + 0.3 * norm
        gradients.append(tape.gradient(loss, weights).numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-6, atol=1e-6)


def test_a_training_step_uses_it_unless_it_is_compiled_by_xla(monkeypatch):
    from isra_keras.training.build import build_model
    from isra_keras.training.steps import backend_steps
    from tests.training.small_task import features_config, features_task

    used = []
    monkeypatch.setattr(weights_norm, "_in_few_passes", lambda features, weights, block, in_blocks: (
        used.append(block), (tf.matmul(features[None], weights), tf.zeros(())))[1])  # fmt: skip
    task = features_task()
    domain = {name: {"images": part.arrays[:8], "labels": part.labels[:8], "indices": np.arange(8, dtype="int32")}
              for name, part in (("source", task.source), ("target", task.target))}  # fmt: skip
    for jit in (False, True):
        model = build_model(features_config(jit_compile=jit, warmup=0.0), task)
        form = backend_steps().form_of(model, domain)
        backend_steps().compile_step(model, True, form).get_concrete_function(domain)  # traced: XLA need not compile it
        assert bool(used) == (not jit)
        used.clear()
