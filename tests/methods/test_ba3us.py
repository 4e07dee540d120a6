"""BA3US's losses, class weights and schedules against the numbers of the official code."""

import numpy as np
import pytest
import tensorflow as tf

from isra_keras.layers import dann_coefficient
from isra_keras.losses import complement_entropy, cross_entropy, mean_entropy, weighted_mean
from isra_keras.methods.ba3us import BA3US
from isra_keras.objective import Context, Evaluation, View, Views
from isra_keras.training.schedules import InverseDecay, shrinking_middle_size
from tests.golden_tools import golden_cases, load, relative_error, set_discriminator

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


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("path", golden_cases("ba3us_transfer"), ids=lambda p: p.stem)
def test_transfer_loss(path, weighted):
    golden = load(path)
    method = method_for(golden)
    context = Context(
        step=tf.constant(int(golden["iteration"])), max_iterations=int(golden["max_iterations"]),
        class_weights=tf.constant(golden["class_weight"]), has_class_weights=tf.constant(weighted),
    )  # fmt: skip
    # The file's two coefficients are given, not always those of its iteration.
    features, logits = tf.Variable(golden["features"]), tf.Variable(golden["logits"])
    with tf.GradientTape() as tape:
        views = split(golden, features + 0.0, logits + 0.0)
        loss = method.transfer_loss(
            views, context, float(golden["coeff_feature"]), float(golden["coeff_entropy"])
        )
    names = ["features", "logits"]
    sources = [features, logits]
    for dense in ("dense1", "dense2", "dense3"):
        for v in ("kernel", "bias"):
            names.append(f"discriminator/{dense}/{v}")
            sources.append(getattr(getattr(method.discriminator, dense), v).value)
    gradients = tape.gradient(loss, sources)
    assert relative_error(loss, golden["out/transfer_loss" if weighted else "out/transfer_loss_unweighted"]) < TOLERANCE
    if weighted:
        for name, gradient in zip(names, gradients):
            assert relative_error(gradient, golden[f"grad/transfer_loss/{name}"]) < TOLERANCE, name


@pytest.mark.parametrize("path", golden_cases("ba3us_classification"), ids=lambda p: p.stem)
def test_classification_losses(path):
    golden = load(path)
    labels, weights = golden["source_labels"], golden["class_weight"][golden["source_labels"]]
    ones = np.ones_like(weights)
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
    for name, loss in losses.items():
        source, target = tf.Variable(golden["source_logits"]), tf.Variable(golden["target_logits"])
        with tf.GradientTape() as tape:
            value = loss(source + 0.0, target + 0.0)
        gradients = tape.gradient(value, [source, target])
        assert relative_error(value, golden[f"out/{name}"]) < TOLERANCE, name
        for side, gradient in zip(("source_logits", "target_logits"), gradients):
            if f"grad/{name}/{side}" in golden:
                assert relative_error(gradient, golden[f"grad/{name}/{side}"]) < TOLERANCE, (name, side)
    weights = BA3US().class_weights(Evaluation(None, golden["target_logits"]))
    assert relative_error(weights, golden["out/class_weight_from_target"]) < TOLERANCE


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
    assert float(complement_entropy(tf.zeros((4, 2)), np.array([0, 1, 0, 1]))) == 0.0


def test_zero_class_weights_stay_finite():
    golden = load(golden_cases("ba3us_transfer")[0])
    context = Context(
        tf.constant(3), 10, tf.zeros(golden["logits"].shape[1]), tf.constant(True)
    )
    loss = method_for(golden).transfer_loss(
        split(golden, tf.constant(golden["features"]), tf.constant(golden["logits"])), context
    )
    assert np.isfinite(float(loss))
