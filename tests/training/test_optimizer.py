"""PartwiseSGD against a hand-written PyTorch-form Nesterov, saved and loaded, under mixed precision."""

import keras
import numpy as np
import pytest

from isra_keras.training.optimizer import PartwiseSGD
from isra_keras.training.schedules import InverseDecay

PARTS = {"backbone": (1.0, 2.0), "classifier": (10.0, 2.0), "receptors": (1.0, 10.0)}


def make_variables(dtype="float32"):
    rng = np.random.default_rng(0)
    variables = {}
    for part in (*PARTS, "other"):
        with keras.name_scope(part):
            variables[part] = keras.Variable(rng.normal(size=(3, 2)).astype(dtype), name="kernel", dtype=dtype)
    return variables


def gradients(step):
    rng = np.random.default_rng(100 + step)
    return [rng.normal(size=(3, 2)).astype("float32") for _ in range(4)]


def torch_form(values, steps, momentum=0.9, nesterov=True, decay=5e-4):
    """torch.optim.SGD with groups: g += wd w; b = m b + g, at first b = g; w -= lr (g + m b), or lr b."""
    buffers = [None] * len(values)
    factors = [*PARTS.values(), (1.0, 1.0)]
    for step in range(steps):
        rate = 0.01 * (1 + 0.001 * step) ** -0.75
        for i, (gradient, (a, c)) in enumerate(zip(gradients(step), factors)):
            gradient = gradient.astype("float64") + c * decay * values[i]
            buffers[i] = gradient if buffers[i] is None else momentum * buffers[i] + gradient
            values[i] = values[i] - a * rate * (gradient + momentum * buffers[i] if nesterov else buffers[i])
    return values


@pytest.mark.parametrize("nesterov", [True, False])
def test_follows_the_torch_form(nesterov):
    variables = make_variables()
    start = [v.numpy().astype("float64") for v in variables.values()]
    optimizer = PartwiseSGD(InverseDecay(0.01), nesterov=nesterov, multipliers=PARTS)
    for step in range(60):
        optimizer.apply(gradients(step), list(variables.values()))
    expected = torch_form([v.copy() for v in start], 60, nesterov=nesterov)
    for variable, value, first in zip(variables.values(), expected, start):
        assert np.abs(variable.numpy() - value).max() < 1e-5 * np.abs(value - first).max()


def test_parts_by_assignment_win_over_paths():
    variables = make_variables()
    optimizer = PartwiseSGD(0.1, momentum=0.0, weight_decay=0.0, multipliers=PARTS)
    optimizer.assign_parts({"classifier": [variables["other"]]})
    optimizer.build(list(variables.values()))
    assert optimizer.factors(variables["other"]) == (10.0, 2.0)
    assert optimizer.factors(variables["receptors"]) == (1.0, 10.0)
    before = variables["other"].numpy()
    optimizer.apply([np.ones((3, 2), "float32")] * 4, list(variables.values()))
    np.testing.assert_allclose(before - variables["other"].numpy(), 1.0, rtol=1e-5)


def test_config_round_trip():
    optimizer = PartwiseSGD(InverseDecay(0.02, clamp=5), 0.8, False, 1e-3, PARTS)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert copy.get_config() == optimizer.get_config()
    assert (copy.momentum, copy.nesterov, copy.coupled_decay, copy.multipliers) == (0.8, False, 1e-3, PARTS)
    assert isinstance(copy._learning_rate, InverseDecay) and copy._learning_rate.clamp == 5


def small_model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4, activation="relu", name="backbone"), keras.layers.Dense(2, name="classifier")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(PartwiseSGD(InverseDecay(0.05), multipliers=PARTS), loss="mse")
    return model


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_saves_loads_and_goes_on(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(16, 3)).astype("float32"), rng.normal(size=(16, 2)).astype("float32")
        model = small_model()
        model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        scaled = type(loaded.optimizer).__name__ == "LossScaleOptimizer"
        assert scaled == (policy == "mixed_float16")
        inner = getattr(loaded.optimizer, "inner_optimizer", loaded.optimizer)
        assert isinstance(inner, PartwiseSGD) and int(inner.iterations) == 4
        assert any(np.abs(m.numpy()).max() > 0 for m in inner.momentums)
        for each in (model, loaded):
            each.fit(x, y, epochs=1, batch_size=8, shuffle=False, verbose=0)
        for a, b in zip(model.weights, loaded.weights):
            assert a.dtype == "float32"
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-7)
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_step_that_overflows_changes_nothing():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small_model()
        optimizer = model.optimizer
        optimizer.build(model.trainable_variables)
        before, scale = [v.numpy() for v in model.weights], float(optimizer.dynamic_scale)
        optimizer.apply([np.full(v.shape, np.inf, "float32") for v in model.trainable_variables])
        assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, model.weights))
        assert float(optimizer.dynamic_scale) < scale
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_refuses_an_impossible_momentum(momentum):
    with pytest.raises(ValueError, match="momentum in"):
        PartwiseSGD(momentum=momentum)
