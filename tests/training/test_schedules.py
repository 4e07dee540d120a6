"""InverseDecay and the middle batch of BA3US against closed forms and the specification's numbers."""

import keras
import numpy as np
import pytest

from isra_keras.training.schedules import InverseDecay, shrinking_middle_size


@pytest.mark.parametrize("step", [0, 1, 500, 8000, 40000])
def test_inverse_decay(step):
    assert float(InverseDecay(1e-3)(step)) == pytest.approx(1e-3 * (1 + 0.001 * step) ** -0.75, rel=1e-6)


def test_period_and_clamp():
    """ETN: gamma 10 over 10,000 steps, constant after them."""
    schedule = InverseDecay(1.0, gamma=10.0, power=0.75, period=10000.0, clamp=10000)
    assert float(schedule(5000)) == pytest.approx(6**-0.75, rel=1e-6)
    assert float(schedule(10000)) == float(schedule(90000)) == pytest.approx(11**-0.75, rel=1e-6)


def test_config_round_trip():
    schedule = InverseDecay(0.1, 2.0, 0.5, 7.0, 3)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert copy.get_config() == schedule.get_config() and np.allclose(float(copy(9)), float(schedule(9)))


def test_middle_batch_of_office_home():
    """Batch 36, mu 4, 5000 iterations, interval 500: 9, 8, 7, ... and 0 at the end."""
    sizes = [shrinking_middle_size(step, 36, 4, 5000, 500) for step in range(0, 5001, 500)]
    assert sizes == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
    assert shrinking_middle_size(499, 36, 4, 5000, 500) == 9


def test_middle_batch_off_constant_and_short_runs():
    assert shrinking_middle_size(0, 36, 0, 100, 10) == 0
    assert [shrinking_middle_size(step, 36, -4, 100, 10) for step in (0, 99)] == [9, 9]
    assert shrinking_middle_size(5, 36, 4, 3, 10) == 9 and shrinking_middle_size(99, 36, 4, 3, 10) == 0
