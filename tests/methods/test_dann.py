"""DANN: the adversarial loss with gradients after reversal, its ramp, the common test of methods."""

import numpy as np

from isra_keras.layers import dann_coefficient
from isra_keras.methods.dann import DANN
from tests.methods.golden_arrays import assert_close, check_loss, golden_cases, value_and_gradients
from tests.methods.objective_test import run_objective_test
from tests.methods.replay import context, inputs_of, load_discriminator, views_of


@golden_cases("cdan_transfer")
def test_adversarial_loss(golden):
    width = golden["discriminator_dann/dense1/kernel"].shape[1]
    method = DANN(ramp_iterations=int(golden["max_iterations"]), discriminator_width=width, dropout=0.0)
    method.build_parts(golden["features"].shape[1], golden["logits"].shape[1], 0, {})
    inputs = inputs_of(golden) | load_discriminator(method.discriminator, golden, "discriminator_dann")
    now = context(int(golden["iteration"]))
    check_loss(golden, "dann", lambda v: method.adversarial_loss(views_of(golden, v), now), inputs)


@golden_cases("cdan_transfer")
def test_ramp_is_the_run_unless_told(golden):
    """The reversed gradient is the ramp's value times the plain one, wherever the ramp's length comes from."""
    gradients = {}
    for name, options, length in (("run", {}, 50), ("fixed", {"ramp_iterations": 50}, 9999)):
        method = DANN(discriminator_width=6, dropout=0.0, **options)
        method.build_parts(golden["features"].shape[1], golden["logits"].shape[1], 0, {})
        for variable in method.weights:
            variable.assign(np.full(variable.shape, 0.1, "float32"))
        for step in (4, 49):
            now = context(step, length)
            loss = lambda v: method.adversarial_loss(views_of(golden, v), now)  # noqa: E731
            gradients[name, step] = value_and_gradients(loss, inputs_of(golden))[1]["features"]
    assert_close(gradients["run", 4], gradients["fixed", 4], 1e-6)
    ratio = float(dann_coefficient(50, 50) / dann_coefficient(5, 50))
    assert_close(gradients["run", 49], gradients["run", 4] * ratio, 1e-5)


def test_objective():
    run_objective_test(DANN, discriminator_width=8)
