"""PartMomentumSGD: each part has its own momentum, the rest is PartwiseSGD."""

import keras
import numpy as np
import pytest

from isra_keras.training.optimizer import PartwiseSGD
from isra_keras.training.part_momentum import PartMomentumSGD


def make_variables():
    variables = []
    for part in ("backbone", "classifier"):
        with keras.name_scope(part):
            variables.append(keras.Variable(np.ones((2,), "float32"), name="kernel"))
    return variables


def run(optimizer, steps=5):
    variables = make_variables()
    for step in range(steps):
        optimizer.apply([np.full(2, 1.0 + step, "float32")] * 2, variables)
    return [v.numpy() for v in variables]


def test_each_part_as_if_it_had_an_optimiser_of_its_own():
    options = {"nesterov": False, "weight_decay": 1e-2}
    mixed = run(PartMomentumSGD(0.1, 0.9, part_momentum={"backbone": 0.0}, **options))
    plain, heavy = run(PartwiseSGD(0.1, 0.0, **options)), run(PartwiseSGD(0.1, 0.9, **options))
    np.testing.assert_allclose(mixed[0], plain[0], rtol=1e-6)
    np.testing.assert_allclose(mixed[1], heavy[1], rtol=1e-6)
    assert abs(plain[0] - heavy[0]).max() > 0.1


def test_momentum_is_put_back():
    optimizer = PartMomentumSGD(0.1, 0.9, part_momentum={"backbone": 0.0})
    run(optimizer, 1)
    assert optimizer.momentum == 0.9


def test_config_round_trip_and_errors():
    optimizer = PartMomentumSGD(0.1, 0.8, part_momentum={"backbone": 0.5}, multipliers={"classifier": (2, 3)})
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert copy.get_config() == optimizer.get_config() and copy.part_momentum == {"backbone": 0.5}
    with pytest.raises(ValueError, match="'backbone'"):
        PartMomentumSGD(part_momentum={"backbone": 1.0})
