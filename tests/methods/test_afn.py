"""AFN: SAFN, HAFN and entropy losses with gradients, rows of zeros, stages, the official loop."""

import keras
import numpy as np
import pytest
from keras import ops

from isra_keras.methods.afn import AFN, feature_norms
from isra_keras.model import AdaptationModel
from isra_keras.objective import Context, View, Views
from isra_keras.training.part_momentum import PartMomentumSGD
from tests.methods.golden_arrays import assert_change_close, assert_close, check_loss, golden_cases, value_and_gradients
from tests.methods.networks import dense_backbone_network
from tests.methods.objective_test import run_objective_test

PARAMETERS = ("bottleneck/dense/kernel", "bottleneck/dense/bias", "bottleneck/bn/gamma", "bottleneck/bn/beta",
              "classifier/kernel", "classifier/bias")  # fmt: skip


@golden_cases("afn_norm")
def test_norm_losses(golden):
    method = AFN(delta=float(golden["delta"]), radius=float(golden["radius"]))
    inputs = {"features": golden["features"]}
    assert_close(feature_norms(golden["features"]), golden["out/feature_norm"], 1e-6)
    check_loss(golden, "safn", lambda v: method.stepwise_norm_loss(v["features"]), inputs)
    check_loss(golden, "hafn", lambda v: method.hard_norm_loss(v["features"]), inputs)


def head(golden, values, domain):
    """Features and logits of the training mode, the dropout mask given: Dense, BN, ReLU, scaled mask, Dense."""
    hidden = ops.matmul(values[f"{domain}_inputs"], values["bottleneck/dense/kernel"]) + values["bottleneck/dense/bias"]
    mean, variance = ops.moments(hidden, axes=0)
    hidden = values["bottleneck/bn/gamma"] * (hidden - mean) / ops.sqrt(variance + 1e-5) + values["bottleneck/bn/beta"]
    keep = 1.0 - float(golden["dropout_rate"])
    features = ops.relu(hidden) * ops.convert_to_tensor(golden[f"{domain}_dropout_mask"]) / float(np.sqrt(keep))
    return features, ops.matmul(features, values["classifier/kernel"]) + values["classifier/bias"]


def method_for(golden, **options):
    return AFN(norm_weight=float(golden["norm_weight"]), delta=float(golden["delta"]), radius=float(golden["radius"]),
               **options)  # fmt: skip


def context(stage="adapt"):
    return Context(0, 10, class_weights=None, has_class_weights=False, stage=stage)


def terms_of(golden, method, values, stage="adapt"):
    source = View(None, None, *head(golden, values, "source"), labels=golden["source_labels"])
    target = View(None, None, *head(golden, values, "target"))
    return method.loss_terms(Views(source, target), context(stage))


TERMS = {
    "source_ce": ({}, "classification"),
    "safn_source": ({}, "norm_source"),
    "safn_target": ({}, "norm_target"),
    "hafn_source": ({"variant": "hafn"}, "norm_source"),
    "hafn_target": ({"variant": "hafn"}, "norm_target"),
    "scaled_target_entropy": ({"entropy_weight": 0.1}, "target_entropy"),
    "total_safn": ({}, None),
    "total_safn_entropy": ({"entropy_weight": 0.1}, None),
    "total_hafn": ({"variant": "hafn"}, None),
}


@golden_cases("afn_losses")
@pytest.mark.parametrize("loss", TERMS)
def test_losses(golden, loss):
    options, term = TERMS[loss]
    if "entropy_weight" in options:
        options = {"entropy_weight": float(golden["entropy_weight"])}
    method = method_for(golden, **options)
    inputs = {name: golden[name] for name in ("source_inputs", "target_inputs", *PARAMETERS)}

    def function(values):
        terms = terms_of(golden, method, values)
        return sum(terms.values()) if term is None else terms[term]

    # The bias in front of BN has no gradient: what is there is rounding, in the file as here.
    silent = f"grad/{loss}/bottleneck/dense/bias"
    _, found = value_and_gradients(function, inputs)
    scale = np.abs(golden[f"grad/{loss}/bottleneck/dense/kernel"]).max()
    assert np.abs(found["bottleneck/dense/bias"] - golden[silent]).max() <= 1e-5 * max(scale, 1e-3)
    check_loss({k: v for k, v in golden.items() if k != silent}, loss, function, inputs)


@golden_cases("afn_losses")
def test_stepwise_value_is_delta_squared(golden):
    values = {name: ops.convert_to_tensor(golden[name]) for name in ("source_inputs", "target_inputs", *PARAMETERS)}
    terms = terms_of(golden, AFN(delta=0.3, norm_weight=1.0), values)
    assert float(terms["norm_source"]) == pytest.approx(0.09, rel=1e-5)


@pytest.mark.parametrize("name", ["stepwise_norm_loss", "hard_norm_loss"])
def test_row_of_zeros_has_no_gradient(name):
    features = np.array([[0.0, 0.0], [3.0, 4.0]], "float32")
    _, gradients = value_and_gradients(lambda v: getattr(AFN(), name)(v["features"]), {"features": features})
    assert np.all(np.isfinite(gradients["features"]))
    np.testing.assert_array_equal(gradients["features"][0], 0.0)
    assert np.all(gradients["features"][1] != 0.0)


def test_hafn_trains_on_the_source_first():
    stages = AFN(variant="hafn").stages()
    assert [s.name for s in stages] == ["source", "adapt"]
    assert sum(s.share for s in stages) == pytest.approx(1.0)
    view = View(None, None, ops.ones((2, 3)), ops.zeros((2, 4)), labels=np.array([0, 1], "int32"))
    assert set(AFN(variant="hafn").loss_terms(Views(view, view), context("source"))) == {
        "classification",
        "norm_source",
    }
    assert len(AFN().stages()) == 1


def test_config_and_variant():
    method = AFN(variant="hafn", radius=9.0, source_share=0.5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(method))
    assert (copy.variant, copy.radius, copy.source_share) == ("hafn", 9.0, 0.5)
    with pytest.raises(ValueError, match="safn"):
        AFN(variant="iafn")


BOTTLENECK = [f"bottleneck/{name}" for name in ("dense/kernel", "dense/bias", "bn/gamma", "bn/beta", "bn/moving_mean",
                                                "bn/moving_variance")]  # fmt: skip
CLASSIFIER = ["classifier/kernel", "classifier/bias"]


@golden_cases("afn_losses")
def test_bottleneck(golden):
    """The library's bottleneck "afn": evaluation mode, and PyTorch's running statistics after two passes."""
    width = golden["source_inputs"].shape[1]
    identity = {"backbone/kernel": np.eye(width, dtype="float32"), "backbone/bias": np.zeros(width, "float32")}
    network, variables = dense_backbone_network(
        golden | identity, BOTTLENECK + CLASSIFIER, prefix="", bottleneck="afn", classifier="dense"
    )
    outputs = network(golden["source_inputs"], training=False)
    assert_close(outputs["features"], golden["out/eval_source_features"], 1e-5)
    assert_close(outputs["logits"], golden["out/eval_source_logits"], 1e-5)
    for domain in ("source", "target"):
        network(golden[f"{domain}_inputs"], training=True)
    for name in ("mean", "variance"):
        expected = golden[f"out/bn_moving_{name}_after_source_and_target"]
        assert_close(variables[f"bottleneck/bn/moving_{name}"], expected, 1e-5, name)


@golden_cases("afn_trajectory")
def test_trajectory(golden):
    """The official SAFN loop: SGD without momentum for the backbone, with plain momentum 0.9 for the head."""
    network, variables = dense_backbone_network(
        golden, BOTTLENECK + CLASSIFIER, bottleneck="afn", classifier="dense", dropout=0.0
    )
    method = AFN(norm_weight=float(golden["hyper/norm_weight"]), delta=float(golden["hyper/delta"]))
    model = AdaptationModel(network, method)
    recipe = AFN.recipes["default"]
    options = {name: recipe[name] for name in ("momentum", "nesterov", "weight_decay", "part_momentum")}
    model.compile(PartMomentumSGD(float(golden["hyper/lr"]), **options))
    steps = [key for key in golden if key.endswith("/source_x")]
    for step in range(len(steps)):
        at = {k.removeprefix(f"step{step}/"): v for k, v in golden.items() if k.startswith(f"step{step}/")}
        source = {"images": at["source_x"], "labels": at["source_labels"]}
        logs = model.train_on({"source": source, "target": {"images": at["target_x"]}})
        names = {"source_ce": "classification", "norm_source": "norm_source", "norm_target": "norm_target", "total": "loss"}
        for name, term in names.items():
            assert_close(logs[term], at[f"loss/{name}"], 1e-5, name)
        for name, variable in variables.items():
            before_bn = name in ("backbone/bias", "bottleneck/dense/bias")
            expected, first = at[f"after/{name}"], golden[f"init/{name}"]
            assert_change_close(variable.numpy(), expected, first, name=f"step {step} {name}", silent=before_bn)


@pytest.mark.parametrize("options", [{}, {"variant": "hafn"}, {"entropy_weight": 0.1}])
def test_objective(options):
    run_objective_test(AFN, **options)


def test_large_norms_keep_the_step():
    """A difference of a norm of 3,000 and itself plus 0.1 has two digits left."""
    features = np.full((2, 9), 1000.0, "float32")
    value, gradients = value_and_gradients(lambda v: AFN(delta=0.1).stepwise_norm_loss(v["f"]), {"f": features})
    np.testing.assert_allclose(value, 0.01, rtol=1e-6)
    np.testing.assert_allclose(gradients["f"], -2 * 0.1 / 2 / 3, rtol=1e-5)
