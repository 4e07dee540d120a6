"""DRCN: losses and gradients of the reconstruction, class weights, ramp, the network it leaves untouched."""

import keras
import numpy as np
import pytest
from keras import ops

from isra_keras.losses import mean_entropy
from isra_keras.methods.drcn import DRCN
from isra_keras.objective import Evaluation
from tests.golden_tools import tensors
from tests.methods.golden_arrays import assert_close, check_loss, golden_cases
from tests.methods.objective_test import run_objective_test

WEIGHTS = ("residual/dense1/kernel", "residual/dense1/bias", "residual/dense2/kernel", "residual/dense2/bias")


@pytest.fixture
def case(golden):
    """(method with the golden weights, {name: input or variable}) of a file."""
    width = golden["residual/dense1/kernel"].shape[1]
    features, classes = golden["classifier/kernel"].shape
    method = DRCN(residual_width=width)
    method.build_parts(features, classes, features, {})
    for name, variable in zip(WEIGHTS, method.residual.weights):
        variable.assign(golden[name])
    inputs = dict(zip(WEIGHTS, method.residual.weights))
    names = ("source_features", "target_features", "classifier/kernel", "classifier/bias")
    return method, inputs | {name: golden[name] for name in names}


def logits_of(features, values):
    return ops.matmul(features, values["classifier/kernel"]) + values["classifier/bias"]


@golden_cases("drcn_losses")
def test_forward(golden, case):
    method, values = case[0], tensors(case[1])
    assert_close(method.correct(values["source_features"]), golden["out/source_corrected"], 1e-6)
    probabilities = ops.softmax(logits_of(values["target_features"], values))
    assert_close(probabilities, golden["out/target_probabilities"], 1e-6)


@golden_cases("drcn_losses")
@pytest.mark.parametrize("weighted", [False, True])
def test_classification(golden, case, weighted):
    method, inputs = case
    method.weighted_classification = weighted

    def loss(values):
        logits = logits_of(method.correct(values["source_features"]), values)
        return method.classification(logits, golden["source_labels"], golden["class_weight"])

    check_loss(golden, "source_ce_weighted" if weighted else "source_ce", loss, inputs)


@golden_cases("drcn_losses")
@pytest.mark.parametrize("kernel", ["linear", "gaussian"])
def test_alignment(golden, case, kernel):
    method, inputs = case
    method.kernel = kernel

    def loss(values):
        probabilities = ops.softmax(logits_of(values["target_features"], values))
        corrected = method.correct(values["source_features"])
        return method.alignment(
            corrected, golden["source_labels"], values["target_features"], probabilities,
            ops.convert_to_tensor(golden["class_weight"]),
        )  # fmt: skip

    check_loss(golden, f"classwise_{kernel}", loss, inputs)


@golden_cases("drcn_losses")
def test_target_entropy(golden, case):
    _, inputs = case
    check_loss(golden, "target_entropy", lambda v: mean_entropy(logits_of(v["target_features"], v), 1e-7), inputs)


def test_block_starts_at_zero():
    method = DRCN()
    method.build_parts(8, 3, 8, {})
    features = np.random.default_rng(0).normal(size=(5, 8)).astype("float32")
    np.testing.assert_array_equal(method.correct(features), features)


def test_class_weights_have_maximum_one():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.5, 0.5, 1e-9]], "float32"))
    weights = DRCN().class_weights(Evaluation(features=None, logits=logits))
    np.testing.assert_allclose(weights, [1.0, 0.75, 0.25], rtol=1e-5)


def test_gaussian_alignment_is_zero_between_equal_domains():
    method = DRCN(kernel="gaussian")
    features = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")
    labels = np.array([0, 0, 1, 1, 1, 1], "int32")
    probabilities = np.eye(3, dtype="float32")[labels]
    value = method.alignment(
        ops.convert_to_tensor(features), labels, ops.convert_to_tensor(features), probabilities, np.ones(3, "float32")
    )
    assert abs(float(value)) < 1e-5


@golden_cases("drcn_losses")
def test_tiny_class_weights_keep_their_ratios(golden, case):
    method, labels = case[0], golden["source_labels"]
    method.weighted_classification = True
    logits = logits_of(method.correct(tensors(case[1])["source_features"]), tensors(case[1]))
    expected, found = (method.classification(logits, labels, scale * golden["class_weight"]) for scale in (1.0, np.float32(1e-25)))
    assert_close(*map(ops.convert_to_numpy, (found, expected)), 1e-5)


@pytest.mark.parametrize("kernel", ["linear", "gaussian"])
def test_a_class_that_no_target_row_holds_is_left_out(kernel):
    """Its weighted mean would be the origin."""
    draw, labels = np.random.default_rng(0), np.array([0, 1, 2, 2], "int32")
    source, target = (ops.convert_to_tensor(draw.normal(size=(rows, 3)).astype("float32")) for rows in (4, 5))
    logits = np.where(np.arange(3) == 2, -120.0, draw.normal(size=(5, 3))).astype("float32")
    found, expected = (float(DRCN(kernel=kernel).alignment(source, labels, target, ops.softmax(logits), ops.convert_to_tensor(gamma)))
                       for gamma in (np.ones(3, "float32"), np.array([1.0, 1.0, 0.0], "float32")))  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-6)


def test_unknown_kernel():
    with pytest.raises(ValueError, match="linear"):
        DRCN(kernel="cubic")
    assert (
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(DRCN(kernel="linear"))).kernel
        == "linear"
    )


@pytest.mark.parametrize("options", [{}, {"kernel": "linear", "weighted_classification": True}])
def test_objective(options):
    run_objective_test(DRCN, residual_width=4, **options)
