"""CDAN: joint maps, conditioned losses with gradients after both reversals, ramps, the official loop."""

import pytest
from keras import ops

from isra_keras.layers import dann_coefficient
from isra_keras.losses import cross_entropy, entropy
from isra_keras.methods.cdan import CDAN
from isra_keras.training.schedules import InverseDecay
from tests.methods.golden_arrays import assert_close, check_loss, golden_cases
from tests.methods.objective_test import make_model, run_objective_test
from tests.methods.replay import context, hyper_of, inputs_of, load_discriminator, replay, trajectory_model, views_of


def build(golden, prefix, **options):
    """(method with the file's weights, {name: input or variable})."""
    width = golden[f"{prefix}/dense1/kernel"].shape[1]
    method = CDAN(ramp_iterations=int(golden["max_iterations"]), discriminator_width=width, dropout=0.0, **options)
    method.build_parts(golden["features"].shape[1], golden["logits"].shape[1], 0, {})
    return method, inputs_of(golden) | load_discriminator(method.discriminator, golden, prefix)


def build_random(golden):
    width = golden["random/feature_matrix"].shape[1]
    method, inputs = build(golden, "discriminator_random", full_map_limit=0, random_dim=width)
    method.feature_matrix.assign(golden["random/feature_matrix"])
    method.class_matrix.assign(golden["random/class_matrix"])
    return method, inputs


@golden_cases("cdan_transfer")
@pytest.mark.parametrize("loss", ["cdan_e", "cdan", "cdan_e_random"])
def test_adversarial_loss(golden, loss):
    if loss == "cdan_e_random":
        method, inputs = build_random(golden)
    else:
        method, inputs = build(golden, "discriminator", entropy_conditioning=loss == "cdan_e")
    now = context(int(golden["iteration"]))
    check_loss(golden, loss, lambda v: method.adversarial_loss(views_of(golden, v), now), inputs)


@golden_cases("cdan_transfer")
def test_parts_of_the_loss(golden):
    method, inputs = build(golden, "discriminator")
    features, logits = golden["features"], golden["logits"]
    views = views_of(golden, {"features": features, "logits": logits})
    joint = method.joint_map(features, logits)
    assert_close(entropy(logits, 1e-5), golden["out/entropy"], 1e-5)
    assert_close(joint, golden["out/discriminator_input"], 1e-6)
    assert_close(ops.sigmoid(method.discriminator(joint)), golden["out/domain_probability"], 1e-6)
    assert_close(method.sample_weights(views, context(0)), golden["out/sample_weight"], 1e-5)
    assert_close(build_random(golden)[0].joint_map(features, logits), golden["out/random_map"], 1e-5)
    rows = len(golden["source_labels"])
    check_loss(
        golden, "source_ce", lambda v: ops.mean(cross_entropy(v["logits"][:rows], golden["source_labels"])), inputs
    )


@golden_cases("cdan_schedules")
def test_schedules(golden):
    ramp = CDAN.recipes["office31"]["options"]["ramp_iterations"]
    recipe = CDAN.recipes["office31"]
    rate = InverseDecay(float(golden["initial_lr"]), **recipe["schedule"])
    factor, decay = recipe["multipliers"]["discriminator"]
    assert_close([dann_coefficient(k, ramp) for k in golden["step"]], golden["out/grl_coeff_entropy"], 1e-6)
    assert_close([dann_coefficient(k + 1, ramp) for k in golden["step"]], golden["out/grl_coeff_feature"], 1e-6)
    assert_close([rate(k) for k in golden["step"]], golden["out/lr_backbone"], 1e-6)
    assert_close([factor * rate(k) for k in golden["step"]], golden["out/lr_new"], 1e-6)
    assert_close([decay * recipe["weight_decay"]] * len(golden["step"]), golden["out/weight_decay"], 1e-6)


@golden_cases("cdan_trajectory")
def test_trajectory(golden):
    hyper = hyper_of(golden)
    width = golden["init/discriminator/dense1/kernel"].shape[1]
    method = CDAN(ramp_iterations=hyper["max_iterations"], discriminator_width=width, dropout=0.0)
    model = trajectory_model(golden, method, InverseDecay(hyper["initial_lr"]), weight_decay=1e-3)
    losses = {
        "source_ce": lambda logs: logs["classification"],
        "transfer": lambda logs: logs["adversarial"],
        "total": lambda logs: logs["loss"],
    }
    replay(golden, model, losses)


def test_map_is_randomised_above_the_limit():
    for limit, expected in ((40, None), (39, (8, 16))):  # the features are 8-d and there are 5 classes
        method = make_model(CDAN, full_map_limit=limit, random_dim=16, discriminator_width=6).method
        assert getattr(method.feature_matrix, "shape", None) == expected
        assert method.discriminator.dense1.kernel.shape[0] == (40 if expected is None else 16)
        assert len(method.trainable_variables) == 6


@pytest.mark.parametrize("limit", [20000, 0], ids=["full", "random"])
def test_objective(limit):
    run_objective_test(CDAN, discriminator_width=8, full_map_limit=limit, random_dim=16)
