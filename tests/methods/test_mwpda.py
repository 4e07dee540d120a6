"""MWPDA: Otsu's split, weights, losses and gradients of the reconstruction, state of the shared classes."""

import numpy as np
import pytest
from keras import ops

from isra_keras.methods.mwpda import MWPDA, mean_prediction, otsu_threshold, shared_classes
from isra_keras.objective import Evaluation
from tests.methods.golden_arrays import assert_close, check_loss, golden_cases, value_and_gradients
from tests.methods.objective_test import evaluate, make_model, optimizer, run_objective_test
from tests.methods.replay import context, inputs_of, load_discriminator, views_of


@pytest.fixture
def case(golden):
    """(method with the file's weights and shared classes, {name: input or variable}, context after an evaluation)."""
    method = MWPDA(discriminator_width=golden["discriminator/dense1/kernel"].shape[1], dropout=0.0)
    method.build_parts(golden["source_features"].shape[1], golden["source_logits"].shape[1], 0, {})
    inputs = inputs_of(golden)
    for part in ("discriminator", "shared_classifier"):
        inputs |= load_discriminator(getattr(method, part), golden, part)
    evaluation = Evaluation(features=None, logits=np.log(golden["all_target_probabilities"]))
    method.on_evaluation(evaluation)
    return method, inputs, context(class_weights=method.class_weights(evaluation))


@golden_cases("mwpda_losses")
def test_weights(golden, case):
    method, _, now = case
    gamma = mean_prediction(Evaluation(features=None, logits=np.log(golden["all_target_probabilities"])))
    assert_close(gamma, golden["out/gamma"], 1e-6)
    assert_close(otsu_threshold(gamma), golden["out/otsu_threshold"], 1e-6)
    np.testing.assert_array_equal(method.shared_classes.numpy(), golden["out/shared_class"])
    assert_close(now.class_weights, golden["out/class_weight"], 1e-6)
    logits = method.shared_classifier(golden["source_features"])
    assert_close(ops.sigmoid(logits), golden["out/sample_weight"], 1e-5)
    assert_close(method.combined_weights(logits, golden["source_labels"], now), golden["out/combined_weight"], 1e-5)


@golden_cases("mwpda_losses")
@pytest.mark.parametrize("loss", ["classification", "adversarial", "target_entropy", "shared_sample"])
def test_losses(golden, case, loss):
    method, inputs, now = case

    def function(values):
        views = views_of(golden, values)
        if loss == "adversarial":
            logits = method.shared_classifier(views.source.features)
            weights = method.combined_weights(logits, golden["source_labels"], now)
            return method.adversarial_loss(views, weights, now, float(golden["grl_coefficient"]))
        terms = method.loss_terms(views, now)
        return {"classification": terms["classification"], "shared_sample": terms["shared"],
                "target_entropy": terms["target_entropy"] / method.entropy_weight}[loss]  # fmt: skip

    check_loss(golden, loss, function, inputs)


@golden_cases("mwpda_losses")
def test_gradients_stop_where_they_must(golden, case):
    """Features and logits get nothing from S's loss, S nothing from the losses that it weighs."""
    method, inputs, now = case
    shared = [name for name in inputs if name.startswith("shared_classifier")]
    silent = {"shared": list(inputs_of(golden)), "classification": shared, "adversarial": shared}
    for term, names in silent.items():
        _, found = value_and_gradients(lambda v: method.loss_terms(views_of(golden, v), now)[term], inputs)
        for name in names:
            assert not found[name].any(), (term, name)


def test_otsu_is_the_best_of_all_cuts():
    draw = np.random.default_rng(0)
    for count in (2, 3, 10, 65):
        values = draw.uniform(size=count) ** 3

        def between(threshold):
            low, high = values[values <= threshold], values[values > threshold]
            return len(low) * len(high) * (low.mean() - high.mean()) ** 2

        ordered = np.sort(values)
        middles = (ordered[1:] + ordered[:-1]) / 2
        assert otsu_threshold(values) == middles[np.argmax([between(m) for m in middles])]


def test_otsu_takes_the_first_of_equal_cuts():
    """Cuts that are equal on paper differ in the last bit in float64."""
    assert otsu_threshold(np.array([3, 4, 5]) / 7) == pytest.approx(3.5 / 7)
    assert otsu_threshold(np.array([0, 0, 0, 2, 2, 2, 2, 2, 5]) / 7) == pytest.approx(1 / 7)


def test_otsu_guards():
    assert otsu_threshold(np.full(4, 0.25)) is None
    np.testing.assert_array_equal(shared_classes(np.full(4, 0.25)), 1.0)
    close = np.array([0.3, 0.3, 0.2, 0.2])  # a third apart: closed set
    np.testing.assert_array_equal(shared_classes(close), 1.0)
    np.testing.assert_array_equal(shared_classes(close, separation=0.0), [1, 1, 0, 0])
    np.testing.assert_array_equal(shared_classes(np.array([0.5, 0.3, 0.1, 0.1])), [1, 1, 0, 0])
    np.testing.assert_array_equal(shared_classes(np.array([0.5, 0.5, 0.0, 0.0])), [1, 1, 0, 0])


def test_a_warm_up_gives_both_the_weights_and_the_classes_to_tell_apart():
    model = make_model(MWPDA, discriminator_width=4, dropout=0.0)
    model.warmup = 0.5
    model.compile(optimizer())
    model.begin_stage(model.stages()[0])
    evaluation = evaluate(model)
    evaluation.logits = np.tile(np.array([4.0, 4.0, 0.0, 0.0, 0.0], "float32"), (16, 1))
    model.update(evaluation)
    np.testing.assert_array_equal(model.method.shared_classes.numpy(), [1, 1, 0, 0, 0])
    assert model.class_weights.numpy()[0] > 1.0 > model.class_weights.numpy()[4]


def test_first_steps_weigh_all_classes_alike():
    model = make_model(MWPDA, discriminator_width=4, dropout=0.0)
    method = model.method
    logits, labels = ops.zeros((3,)), np.array([0, 1, 4], "int32")
    np.testing.assert_array_equal(method.combined_weights(logits, labels, context(classes=5)), 1.0)
    np.testing.assert_array_equal(method.shared_classes.numpy(), 1.0)
    evaluation = evaluate(model)
    evaluation.logits = np.tile(np.array([4.0, 4.0, 0.0, 0.0, 0.0], "float32"), (16, 1))
    model.update(evaluation)
    np.testing.assert_array_equal(method.shared_classes.numpy(), [1, 1, 0, 0, 0])
    assert float(method.diagnostics(None, None)["shared_classes"]) == 2.0
    assert model.class_weights.numpy()[0] > 1.0 > model.class_weights.numpy()[4]


def test_tiny_weights_keep_their_ratios():
    method, labels = MWPDA(), np.arange(4, dtype="int32")
    weights = np.array([0.1, 0.4, 0.2, 0.3], "float32")
    found = [method.combined_weights(ops.zeros(4), labels, context(class_weights=w)) for w in (weights, weights * 1e-25)]
    assert_close(found[0], 4.0 * weights, 1e-6)
    assert_close(found[1], found[0], 1e-5)


def test_objective():
    run_objective_test(MWPDA, discriminator_width=8)


def test_images_that_cannot_be_read_count_in_neither_weight():
    logits = np.array([[9.0, 0, 0]] * 4 + [[0, 9.0, 0]] * 4, "float32")
    method = MWPDA(separation=0.0)
    method.build_parts(4, 3, 0, {})
    evaluation = Evaluation(None, logits, readable=np.arange(8) < 4)
    method.on_evaluation(evaluation)
    assert method.shared_classes.numpy().tolist() == [1, 0, 0]
    np.testing.assert_array_equal(method.class_weights(evaluation.seen()) > 1, method.shared_classes.numpy() > 0)
