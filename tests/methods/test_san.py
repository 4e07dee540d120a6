"""SAN: class weights, stacked discriminators, every variant's losses with gradients, both official loops."""

import numpy as np
import pytest
from keras import ops

from isra_keras.layers import StackedDiscriminator, dann_coefficient
from isra_keras.losses import cross_entropy, masked_entropy
from isra_keras.methods.san import SAN
from isra_keras.objective import Evaluation
from isra_keras.training.schedules import InverseDecay
from tests.methods.golden_arrays import assert_close, check_loss, golden_cases, value_and_gradients
from tests.methods.objective_test import run_objective_test
from tests.methods.replay import context, hyper_of, inputs_of, replay, trajectory_model, views_of


def widths_of(golden, prefix):
    """Hidden widths of the file's discriminators."""
    numbers = range(1, 1 + sum(f"{prefix}/class0/dense{n}/kernel" in golden for n in (1, 2, 3)))
    return [golden[f"{prefix}/class0/dense{n}/kernel"].shape[1] for n in numbers][:-1]


def load_classes(layer, golden, prefix):
    """Stacks the file's discriminators into the layer; {name in the file up to the class: (variable, name after)}."""
    variables = {}
    for number in range(1, len(layer.kernels) + 1):
        for kind, variable in (("kernel", layer.kernels[number - 1]), ("bias", layer.biases[number - 1])):
            names = [f"{prefix}/class{c}/dense{number}/{kind}" for c in range(layer.classes)]
            variable.assign(np.stack([golden[name] for name in names]))
            variables[f"dense{number}/{kind}"] = variable
    return variables


def build(golden, prefix, variant="batch", **options):
    """(method with the file's weights, {name: input or stacked variable})."""
    method = SAN(variant, widths_of(golden, prefix), ramp_iterations=10000, dropout=0.0, **options)
    method.build_parts(golden["features"].shape[1], golden["logits"].shape[1], 0, {})
    return method, inputs_of(golden) | load_classes(method.discriminator, golden, prefix)


def check_adversarial(golden, loss, prefix, function, inputs):
    """`check_loss` for a file whose discriminators lie class by class."""
    value, found = value_and_gradients(function, inputs)
    assert_close(value, golden[f"out/{loss}"], 1e-5, loss)
    for name in ("features", "logits"):
        assert_close(found[name], golden[f"grad/{loss}/{name}"], 1e-5, name)
    for name in (n for n in inputs if n.startswith("dense")):
        for row, gradient in enumerate(found[name]):
            assert_close(gradient, golden[f"grad/{loss}/{prefix}/class{row}/{name}"], 1e-5, f"class{row}/{name}")


@golden_cases("san_transfer")
@pytest.mark.parametrize("size", ["large", "small", "little"])
def test_adversarial_loss(golden, size):
    prefix = f"discriminator_{size}"
    method, inputs = build(golden, prefix)
    now = context(int(golden["iteration"]))
    loss = lambda v: method.adversarial_loss(views_of(golden, v), now)  # noqa: E731
    check_adversarial(golden, f"adversarial_{size}", prefix, loss, inputs)


@golden_cases("san_transfer")
def test_target_variant_scales_the_reversal_alone(golden):
    """Weights from the target set give the value and the reversal that the same weights from the batch give."""
    method, inputs = build(golden, "discriminator_small", "target")
    now = context(int(golden["iteration"]), class_weights=golden["out/class_weight_batch"])
    loss = lambda v: method.adversarial_loss(views_of(golden, v), now)  # noqa: E731
    check_adversarial(golden, "adversarial_small", "discriminator_small", loss, inputs)
    before = context(0, classes=golden["logits"].shape[1])
    np.testing.assert_array_equal(method.selection(views_of(golden, inputs_of(golden)), before), 1.0)


@golden_cases("san_transfer")
def test_other_terms(golden):
    method, inputs = build(golden, "discriminator_large", entropy_weight=float(golden["entropy_trade_off"]))
    views = views_of(golden, inputs_of(golden))
    now = context(int(golden["iteration"]))
    rows, classes = len(golden["source_labels"]), golden["logits"].shape[1]
    batch_weights = method.selection(views, now)
    assert_close(batch_weights, golden["out/class_weight_batch"], 1e-5)
    coefficient = dann_coefficient(int(golden["iteration"]) + 1, 10000)
    assert_close(coefficient * batch_weights, golden["out/grl_coeff"], 1e-5)
    crops = Evaluation(features=None, logits=golden["target_crop_logits"].reshape(-1, classes))
    assert_close(SAN().class_weights(crops), golden["out/class_weight_target"], 1e-5)
    assert SAN("batch").class_weights(crops) is None
    check_loss(golden, "entropy", lambda v: ops.mean(masked_entropy(v["logits"], 1e-6)), inputs)
    labels = golden["source_labels"]
    check_loss(golden, "source_ce", lambda v: ops.mean(cross_entropy(v["logits"][:rows], labels)), inputs)
    assert_close(sum(method.loss_terms(views, now).values()), golden["out/total_large"], 1e-5)


@golden_cases("san_paper")
def test_paper_variant(golden):
    method, inputs = build(golden, "discriminator", "paper", entropy_weight=1.0)
    now, coefficient = context(0), float(golden["grl_coeff"])
    views = views_of(golden, inputs_of(golden))
    assert_close(method.selection(views, now), golden["out/class_weight"], 1e-5)
    loss = lambda v: method.adversarial_loss(views_of(golden, v), now, coefficient)  # noqa: E731
    check_adversarial(golden, "adversarial", "discriminator", loss, inputs)
    check_loss(golden, "target_entropy", lambda v: method.loss_terms(views_of(golden, v), now)["entropy"], inputs)


@golden_cases("san_schedules")
def test_schedules(golden):
    recipe = SAN.recipes["office31"]
    rate = InverseDecay(float(golden["initial_lr"]), **recipe["schedule"])
    factor, decay = recipe["multipliers"]["discriminator"]
    length = recipe["options"]["ramp_iterations"]
    ramp = [float(golden["high"]) * dann_coefficient(k + 1, length) for k in golden["step"]]
    assert_close(ramp, golden["out/grl_coeff"], 1e-6)
    assert_close([rate(k) for k in golden["step"]], golden["out/lr_backbone"], 1e-6)
    assert_close([factor * rate(k) for k in golden["step"]], golden["out/lr_new"], 1e-6)
    assert decay == 1.0 and SAN.joint_forward


def check_trajectory(golden, variant):
    hyper = hyper_of(golden)
    widths = widths_of({k.removeprefix("init/"): v for k, v in golden.items()}, "discriminator")
    method = SAN(
        variant, widths, entropy_weight=hyper["entropy_trade_off"], ramp_iterations=hyper["max_iterations"], dropout=0.0
    )
    model = trajectory_model(golden, method, InverseDecay(hyper["initial_lr"]), weight_decay=5e-4)
    crops = golden["data/target_crops"]

    def renew_class_weights(step):
        interval = int(hyper["update_interval"])
        if variant == "target":
            if step % interval == interval - 1:
                model.update(model.predict_domain([{"images": crops.reshape(-1, crops.shape[-1])}]))
            assert_close(model.class_weights, golden[f"step{step}/class_weight"], 1e-5)
        else:
            inputs = np.concatenate([golden[f"step{step}/{domain}_x"] for domain in ("source", "target")])
            mean = ops.mean(ops.softmax(model.network(inputs)["logits"]), axis=0)
            assert_close(mean / ops.max(mean), golden[f"step{step}/class_weight"], 1e-5)

    losses = {"source_ce": lambda logs: logs["classification"], "total": lambda logs: logs["loss"]}
    replay(golden, model, losses, renew_class_weights)


@golden_cases("san_trajectory")
def test_trajectory(golden):
    check_trajectory(golden, "target")


@golden_cases("san_batch_trajectory")
def test_batch_trajectory(golden):
    check_trajectory(golden, "batch")


def test_stack_is_a_loop_over_classes():
    layer = StackedDiscriminator(3, (4, 5), deviations=(1.0, 1.0, 1.0))
    layer.build((3, None, 6))
    inputs = np.random.default_rng(0).normal(size=(3, 7, 6)).astype("float32")
    for row, (each, logits) in enumerate(zip(inputs, np.asarray(layer(inputs)))):
        for number in range(3):
            each = each @ layer.kernels[number].numpy()[row] + layer.biases[number].numpy()[row]
            each = np.maximum(each, 0.0) if number < 2 else each[:, 0]
        assert_close(logits, each, 1e-5)
    shared = np.asarray(layer(inputs[0]))
    assert_close(shared[0], np.asarray(layer(inputs))[0], 1e-5)
    with pytest.raises(ValueError, match="deviations"):
        StackedDiscriminator(3, (4,), deviations=(0.1,))


@pytest.mark.parametrize("variant", ["target", "batch", "paper"])
def test_objective(variant):
    run_objective_test(SAN, variant=variant, discriminator=[6] if variant == "target" else "little")


def test_options():
    with pytest.raises(ValueError, match="batch"):
        SAN("official")
    with pytest.raises(ValueError, match="little"):
        SAN(discriminator="huge")
    method = SAN(discriminator="large")
    method.build_parts(3, 2, 3, {})
    assert [kernel.shape for kernel in method.discriminator.kernels] == [(2, 3, 1024), (2, 1024, 1024), (2, 1024, 1)]
