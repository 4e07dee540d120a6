"""BA3US's losses, class weights and schedules against the numbers of the official code."""

import numpy as np
import pytest
from keras import ops

from isra_keras.layers import dann_coefficient
from isra_keras.losses import complement_entropy, cross_entropy, mean_entropy, weighted_mean
from isra_keras.methods.ba3us import BA3US
from isra_keras.objective import Context, Evaluation, View, Views
from isra_keras.training.schedules import InverseDecay, shrinking_middle_size
from tests.golden_tools import golden_cases, load, relative_error, set_discriminator
from tests.gradients import values_and_gradients

TOLERANCE = 1e-5


def method_for(golden):
    method = BA3US(discriminator_width=golden["discriminator/dense1/kernel"].shape[1], dropout=0.0)
    method.build_parts(golden["features"].shape[1], golden["logits"].shape[1], 0, {})
    set_discriminator(method.discriminator, golden, "discriminator")
    return method


def split(golden, features, logits):
    bounds = np.cumsum([0, int(golden["batch_size"]), len(features) - int(golden["batch_size"]) - int(golden["len_share"])])
    bounds = [*bounds, len(features)]
    labels = [golden["source_labels"], None, golden["middle_labels"]]
    views = [
        View(None, None, features[a:b], logits[a:b], y) if b > a else None
        for a, b, y in zip(bounds, bounds[1:], labels)
    ]
    return Views(*views)


@pytest.mark.golden
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("path", golden_cases("ba3us_transfer"), ids=lambda p: p.stem)
def test_transfer_loss(path, weighted):
    golden = load(path)
    method = method_for(golden)
    context = Context(
        step=ops.convert_to_tensor(int(golden["iteration"])), max_iterations=int(golden["max_iterations"]),
        class_weights=ops.convert_to_tensor(golden["class_weight"]), has_class_weights=ops.convert_to_tensor(weighted),
    )  # fmt: skip
    # The file's two coefficients are given, not always those of its iteration.
    coefficients = float(golden["coeff_feature"]), float(golden["coeff_entropy"])
    inputs = {name: golden[name] for name in ("features", "logits")}
    for name in (f"{dense}/{kind}" for dense in ("dense1", "dense2", "dense3") for kind in ("kernel", "bias")):
        dense, kind = name.split("/")
        inputs[f"discriminator/{name}"] = getattr(getattr(method.discriminator, dense), kind)

    def loss(values):
        return {"": method.transfer_loss(split(golden, values["features"], values["logits"]), context, *coefficients)}

    value, gradients = values_and_gradients(loss, inputs)
    expected = golden["out/transfer_loss" if weighted else "out/transfer_loss_unweighted"]
    assert relative_error(value[""], expected) < TOLERANCE
    if weighted:
        for name, gradient in gradients[""].items():
            assert relative_error(gradient, golden[f"grad/transfer_loss/{name}"]) < TOLERANCE, name


@pytest.mark.golden
@pytest.mark.parametrize("path", golden_cases("ba3us_classification"), ids=lambda p: p.stem)
def test_classification_losses(path):
    golden = load(path)
    labels, weights = golden["source_labels"], golden["class_weight"][golden["source_labels"]]
    weights = ops.convert_to_tensor(weights)
    ones = ops.ones_like(weights)
    losses = {
        "source_ce": lambda s, t: weighted_mean(cross_entropy(s, labels), ones),
        "source_ce_weighted": lambda s, t: weighted_mean(cross_entropy(s, labels), weights),
        "target_entropy": lambda s, t: mean_entropy(t),
    }
    for alpha in (1, 2):
        losses[f"complement_entropy_alpha{alpha}"] = lambda s, t, a=alpha: complement_entropy(s, labels, None, a)
        losses[f"complement_entropy_weighted_alpha{alpha}"] = lambda s, t, a=alpha: complement_entropy(
            s, labels, weights, a
        )
    inputs = {side: golden[side] for side in ("source_logits", "target_logits")}
    values, gradients = values_and_gradients(
        lambda logits: {name: loss(logits["source_logits"], logits["target_logits"]) for name, loss in losses.items()},
        inputs,
    )
    for name, value in values.items():
        assert relative_error(value, golden[f"out/{name}"]) < TOLERANCE, name
        for side, gradient in gradients[name].items():
            if f"grad/{name}/{side}" in golden:
                assert relative_error(gradient, golden[f"grad/{name}/{side}"]) < TOLERANCE, (name, side)
    weights = BA3US().class_weights(Evaluation(None, golden["target_logits"]))
    assert relative_error(weights, golden["out/class_weight_from_target"]) < TOLERANCE


@pytest.mark.golden
@pytest.mark.parametrize("path", golden_cases("ba3us_schedules"), ids=lambda p: p.stem)
def test_schedules(path):
    golden = load(path)
    iterations, maximum = golden["iterations"], int(golden["max_iterations"])
    rates = [InverseDecay(float(golden["lr0"]))(i) for i in iterations]
    assert relative_error(rates, golden["out/lr"]) < 1e-6
    coefficients = [dann_coefficient(i, maximum) for i in iterations]
    assert relative_error(coefficients, golden["out/coefficient"]) < 1e-6
    sizes = [
        shrinking_middle_size(int(i), int(golden["batch_size"]), int(golden["mu"]), maximum, int(golden["test_interval"]))
        for i in iterations
    ]
    assert np.array_equal(sizes, golden["out/middle_size"])


def test_two_classes_have_no_complement():
    assert float(complement_entropy(ops.zeros((4, 2)), np.array([0, 1, 0, 1]))) == 0.0


def test_zero_class_weights_stay_finite():
    golden = load(golden_cases("ba3us_transfer")[0])
    context = Context(
        ops.convert_to_tensor(3), 10, ops.zeros(golden["logits"].shape[1]), ops.convert_to_tensor(True)
    )
    loss = method_for(golden).transfer_loss(
        split(golden, ops.convert_to_tensor(golden["features"]), ops.convert_to_tensor(golden["logits"])), context
    )
    assert np.isfinite(float(loss))


def test_tiny_class_weights_keep_their_ratios():
    """The transfer loss and the complement entropy normalise them, however small they are."""
    golden = load(golden_cases("ba3us_transfer")[0])
    method, labels = method_for(golden), golden["source_labels"]
    views = split(golden, ops.convert_to_tensor(golden["features"]), ops.convert_to_tensor(golden["logits"]))
    found = []
    for scale in (1.0, 1e-25):
        weights = ops.convert_to_tensor((scale * golden["class_weight"]).astype("float32"))
        now = Context(ops.convert_to_tensor(3), 10, weights, ops.convert_to_tensor(True))
        rows = now.sample_weights(labels)
        found.append([method.transfer_loss(views, now), complement_entropy(views.source.logits, labels, rows)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


@pytest.mark.parametrize("margin", [8.0, 14.0, 20.0])
def test_complement_entropy_of_rows_that_are_sure(margin):
    """1 - p_y has no digits left there, the sum of the others has."""
    logits = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    labels = (np.arange(8) % 5).astype("int32")
    logits[np.arange(8), labels] += np.float32(margin)
    exact = logits.astype("float64")
    p = np.exp(exact - exact.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rest = 1.0 - np.eye(5)[labels]
    wrong = (rest * p).sum(axis=1) + 1e-7
    share = p / wrong[:, None]
    rows = (rest * share * np.log(share + 1e-10)).sum(axis=1) / np.log(4)
    np.testing.assert_allclose(float(complement_entropy(logits, labels)), (wrong * rows).sum() / wrong.sum(), rtol=2e-6)
