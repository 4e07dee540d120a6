"""PADA: class weights, both variants' losses with gradients, schedules, the official loop with its updates."""

import keras
import numpy as np
import pytest
from keras import ops

from isra_keras.layers import dann_coefficient
from isra_keras.methods.pada import PADA
from isra_keras.objective import Evaluation
from isra_keras.training.schedules import InverseDecay
from tests.methods.golden_arrays import assert_close, check_loss, golden_cases
from tests.methods.objective_test import run_objective_test
from tests.methods.replay import context, hyper_of, inputs_of, load_discriminator, replay, trajectory_model, views_of


@golden_cases("pada_class_weight")
def test_class_weights(golden):
    crops = golden["target_crop_logits"]
    every_crop = Evaluation(features=None, logits=crops.reshape(-1, crops.shape[-1]))
    official = PADA(temperature=1.0 / float(golden["softmax_param"]))
    assert_close(official.class_weights(every_crop), golden["out/class_weight"], 1e-5)
    tllib = PADA("tllib", temperature=float(golden["temperature"]))
    weights = tllib.class_weights(Evaluation(features=None, logits=crops[9]))
    assert_close(weights, golden["out/class_weight_max_single_crop"], 1e-5)


def build(golden, variant):
    """(method with the file's weights, {name: input or variable}, context)."""
    official = variant == "official"
    width = golden["discriminator/dense1/kernel"].shape[1]
    high = float(golden["high"]) if official else 1.0
    method = PADA(variant, high=high, ramp_iterations=10000, discriminator_width=width, dropout=0.0)
    if not official:  # the file's discriminator is the plain one
        method.discriminator = PADA(discriminator_width=width, dropout=0.0).discriminator
    method.build_parts(golden["features"].shape[1], golden["logits"].shape[1], 0, {})
    inputs = inputs_of(golden) | load_discriminator(method.discriminator, golden, "discriminator")
    step = int(golden["iteration" if official else "grl_iteration"])
    return method, inputs, context(step, class_weights=golden["class_weight"])


@golden_cases("pada_transfer")
def test_official_losses(golden):
    method, inputs, now = build(golden, "official")
    labels = golden["source_labels"]
    before = context(int(golden["iteration"]), classes=golden["logits"].shape[1])
    weights, target_weight = method.row_weights(labels, now)
    weights = np.concatenate([weights, np.full(len(golden["features"]) - len(labels), target_weight)])
    assert_close(weights, golden["out/sample_weight"], 1e-6)
    domain_logits = method.discriminator(golden["features"])
    assert_close(ops.sigmoid(domain_logits), golden["out/domain_probability"], 1e-6)
    check_loss(golden, "adversarial", lambda v: method.adversarial_loss(views_of(golden, v), now), inputs)
    for loss, when in (("source_ce_weighted", now), ("source_ce", before)):
        check_loss(golden, loss, lambda v: method.loss_terms(views_of(golden, v), when)["classification"], inputs)
    total = sum(method.loss_terms(views_of(golden, inputs_of(golden)), now).values())
    assert_close(total, golden["out/total"], 1e-5)


@golden_cases("pada_tllib")
def test_tllib_losses(golden):
    method, inputs, now = build(golden, "tllib")
    weights, target_weight = method.row_weights(golden["source_labels"], now)
    assert_close(weights, golden["out/source_weight"], 1e-6)
    assert_close(np.full(golden["out/target_weight"].shape, target_weight), golden["out/target_weight"], 1e-6)
    check_loss(golden, "adversarial", lambda v: method.adversarial_loss(views_of(golden, v), now), inputs)
    check_loss(
        golden, "source_ce_weighted", lambda v: method.loss_terms(views_of(golden, v), now)["classification"], inputs
    )


@golden_cases("pada_schedules")
def test_schedules(golden):
    recipe = PADA.recipes["office31"]
    rate = InverseDecay(float(golden["initial_lr"]), **recipe["schedule"])
    factor, decay = recipe["multipliers"]["discriminator"]
    length, high = recipe["options"]["ramp_iterations"], float(golden["high"])
    ramp = [dann_coefficient(k + 1, length, high) for k in golden["step"]]
    assert_close(ramp, golden["out/grl_coeff"], 1e-6)
    assert_close([rate(k) for k in golden["step"]], golden["out/lr_backbone"], 1e-6)
    assert_close([factor * rate(k) for k in golden["step"]], golden["out/lr_new"], 1e-6)
    assert decay == 1.0
    renewed = golden["step"][golden["out/update_class_weight"] == 1] + 1  # before the step; ours one step later
    assert len(renewed) and not np.any(renewed % recipe["eval_interval"]), "evaluations come at multiples of it"


@golden_cases("pada_trajectory")
def test_trajectory(golden):
    hyper = hyper_of(golden)
    width = golden["init/discriminator/dense1/kernel"].shape[1]
    method = PADA(
        high=hyper["high"], temperature=1.0 / hyper["softmax_param"], ramp_iterations=hyper["max_iterations"],
        discriminator_width=width, dropout=0.0,
    )  # fmt: skip
    model = trajectory_model(golden, method, InverseDecay(hyper["initial_lr"]), weight_decay=5e-4)
    crops = golden["data/target_crops"]

    def renew_class_weights(step):
        interval = int(hyper["update_interval"])
        if step % interval == interval - 1:
            model.update(model.predict_domain([{"images": crops.reshape(-1, crops.shape[-1])}]))
        assert_close(model.class_weights, golden[f"step{step}/class_weight"], 1e-5)

    losses = {
        "source_ce": lambda logs: logs["classification"],
        "transfer": lambda logs: logs["adversarial"],
        "total": lambda logs: logs["loss"],
    }
    replay(golden, model, losses, renew_class_weights)


@golden_cases("pada_transfer")
def test_zero_weights_stay_finite(golden):
    method, inputs, _ = build(golden, "official")
    now = context(3, class_weights=np.zeros_like(golden["class_weight"]))
    terms = method.loss_terms(views_of(golden, inputs_of(golden)), now)
    assert float(terms["classification"]) == 0.0 and np.isfinite(float(terms["adversarial"]))


@golden_cases("pada_transfer")
def test_tiny_weights_keep_their_ratios(golden):
    """A batch of outlier classes alone is scaled to a largest weight of one, however small they are."""
    method, inputs, now = build(golden, "official")
    views, tiny = views_of(golden, inputs_of(golden)), context(int(golden["iteration"]), class_weights=1e-25 * golden["class_weight"])
    expected, found = method.loss_terms(views, now), method.loss_terms(views, tiny)
    for name, value in expected.items():
        assert_close(found[name], value, 1e-5, name)


@pytest.mark.parametrize("variant", ["official", "tllib"])
def test_objective(variant):
    run_objective_test(PADA, variant=variant, discriminator_width=8)


def test_variant():
    with pytest.raises(ValueError, match="tllib"):
        PADA("paper")
    assert PADA.joint_forward
    method = PADA("tllib", temperature=0.1)
    assert method.network_options["bottleneck"] == "bn_relu" and PADA().network_options["bottleneck"] == "linear"
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(method))
    assert copy.network_options["bottleneck"] == "bn_relu"
