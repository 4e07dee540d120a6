"""A2KT: prototypes, selection, losses and gradients of the reconstruction, averaged prediction, its state."""

import keras
import numpy as np
import pytest
from keras import ops

from isra_keras.layers.prototype_head import PrototypeHead, class_means, one_hot_selected, prototype_logits
from isra_keras.losses.pseudo_labels import agreeing_labels
from isra_keras.methods.a2kt import A2KT
from isra_keras.objective import Context, Evaluation, View, Views
from tests.golden_tools import tensors
from tests.methods.golden_arrays import assert_close, check_loss, golden_cases
from tests.methods.objective_test import evaluate, make_batch, make_model, optimizer, run_objective_test

INPUTS = ("source_features", "target_features", "classifier/kernel", "classifier/bias")


def logits_of(features, values):
    return ops.matmul(features, values["classifier/kernel"]) + values["classifier/bias"]


def method_for(golden, **options):
    """Method with the file's selection in its state; indices of the target rows are 0..nt-1."""
    method = A2KT(1.0, 1.0, float(golden["margin"]), float(golden["temperature"]), **options)
    features, classes = golden["classifier/kernel"].shape
    method.build_parts(features, classes, features, {"target": len(golden["target_features"])})
    return method


def target_probabilities(golden):
    """(MLP's, prototypes') probabilities of the target, from the library's functions."""
    values = tensors({name: golden[name] for name in INPUTS})
    classes = golden["classifier/kernel"].shape[1]
    centers = class_means(values["source_features"], one_hot_selected(golden["source_labels"], classes))
    prototypes = prototype_logits(values["target_features"], centers, np.ones(classes), float(golden["temperature"]))
    return ops.softmax(logits_of(values["target_features"], values)), ops.softmax(prototypes), centers


@golden_cases("a2kt_losses")
def test_classifiers_and_selection(golden):
    mlp, prototypes, centers = (np.asarray(a) for a in target_probabilities(golden))
    assert_close(centers, golden["out/prototypes"], 1e-5)
    assert_close(mlp, golden["out/mlp_probabilities"], 1e-5)
    assert_close(prototypes, golden["out/prototype_probabilities"], 1e-5)
    np.testing.assert_array_equal((mlp + prototypes).argmax(axis=1), golden["out/pseudo_labels"])
    labels = agreeing_labels(mlp, prototypes, float(golden["confidence_threshold"]))
    np.testing.assert_array_equal(labels >= 0, golden["out/selected"] > 0)
    kept = labels[labels >= 0]
    np.testing.assert_array_equal(kept, golden["out/pseudo_labels"][labels >= 0])
    active = np.bincount(kept, minlength=mlp.shape[1]) > 0
    np.testing.assert_array_equal(active, golden["out/active_classes"] > 0)


@golden_cases("a2kt_losses")
def test_evaluation_selects(golden):
    """From what an evaluation hands over: features and the averaged prediction."""
    threshold = float(golden["confidence_threshold"])
    method = method_for(golden, first_threshold=0.99, last_threshold=threshold)
    method.head.centers.assign(golden["out/prototypes"])
    method.head.known.assign(np.ones(len(golden["out/prototypes"])))
    values = tensors({name: golden[name] for name in INPUTS})
    logits = logits_of(values["target_features"], values)
    averaged = method.target_logits({"features": values["target_features"], "logits": logits})
    expected = (golden["out/mlp_probabilities"] + golden["out/prototype_probabilities"]) / 2
    assert_close(ops.exp(averaged), expected, 1e-5)
    context = Context(10, 10, None, None)
    method.on_evaluation(Evaluation(golden["target_features"], np.asarray(averaged), context=context))
    labels = method.selected_labels.numpy()
    np.testing.assert_array_equal(labels >= 0, golden["out/selected"] > 0)
    np.testing.assert_array_equal(method.active.numpy(), golden["out/active_classes"])
    # Rows that stand in for images that can't be read are neither selected nor counted.
    readable = labels != labels.max()
    method.on_evaluation(Evaluation(golden["target_features"], np.asarray(averaged), context=context, readable=readable))
    np.testing.assert_array_equal(method.selected_labels.numpy(), np.where(readable, labels, -1))
    assert method.active.numpy()[labels.max()] == 0


TERMS = {"classification_all": "classification", "classification_active": "classification",
         "target_pseudo": "target_pseudo", "center": "center", "sample": "sample"}  # fmt: skip


@golden_cases("a2kt_losses")
@pytest.mark.parametrize("loss", TERMS)
def test_losses(golden, loss):
    method = method_for(golden)
    if loss != "classification_all":
        method.selected_labels.assign(np.where(golden["out/selected"] > 0, golden["out/pseudo_labels"], -1))
        method.active.assign(golden["out/active_classes"])

    def function(values):
        source, target = values["source_features"], values["target_features"]
        views = Views(
            View(None, None, source, logits_of(source, values), labels=golden["source_labels"]),
            View(None, None, target, logits_of(target, values), indices=np.arange(len(golden["target_features"]))),
        )
        return method.loss_terms(views, Context(0, 10, None, None))[TERMS[loss]]

    check_loss(golden, loss, function, {name: golden[name] for name in INPUTS})


@golden_cases("a2kt_losses")
def test_nothing_selected_leaves_the_source_alone(golden):
    method = method_for(golden)
    features = ops.convert_to_tensor(golden["target_features"])
    empty = one_hot_selected(np.full(len(golden["target_features"]), -1), golden["classifier/kernel"].shape[1])
    members = one_hot_selected(golden["source_labels"], golden["classifier/kernel"].shape[1])
    for loss in (method.center_loss, method.sample_loss):
        assert float(loss(ops.convert_to_tensor(golden["source_features"]), members, features, empty)) == 0.0
    assert float(method.two_classifiers(empty, empty, empty)) == 0.0


def test_selection_keeps_the_most_confident_share_of_a_class():
    confidence = np.array([0.6, 0.9, 0.7, 0.8, 0.95])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    probabilities[4] = probabilities[4, ::-1]
    np.testing.assert_array_equal(agreeing_labels(probabilities, probabilities, 0.5, 0.5), [-1, 0, -1, 0, 1])
    np.testing.assert_array_equal(agreeing_labels(probabilities, probabilities, 0.65), [-1, 0, 0, 0, 1])
    np.testing.assert_array_equal(agreeing_labels(probabilities, probabilities[:, ::-1], 0.0), [-1] * 5)


def test_running_centres():
    head = PrototypeHead(3, momentum=0.75)
    head.build((None, 2))
    features = ops.convert_to_tensor(np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]], "float32"))
    logits = ops.zeros((3, 3))
    np.testing.assert_allclose(head(features, logits), np.log(np.full((3, 3), 1 / 3)), rtol=1e-5)
    head.centers_for(features, one_hot_selected(np.array([0, 0, 2]), 3))
    np.testing.assert_allclose(head.centers.numpy(), [[2, 0], [0, 0], [0, 2]])
    centers, known = head.centers_for(features * 2.0, one_hot_selected(np.array([0, 0, 0]), 3))
    np.testing.assert_allclose(centers, [[8 / 3, 4 / 3], [0, 0], [0, 2]], rtol=1e-6)
    np.testing.assert_allclose(head.centers.numpy()[0], 0.75 * np.array([2, 0]) + 0.25 * np.array([8 / 3, 4 / 3]))
    np.testing.assert_array_equal(known, [1, 0, 1])
    assert np.all(np.asarray(head.probabilities(features))[:, 1] == 0.0)
    before = head.centers.numpy()
    head.centers_for(features, one_hot_selected(np.array([0, 0, 2]), 3), training=False)
    np.testing.assert_array_equal(head.centers.numpy(), before)


def test_prediction_as_one_network(tmp_path):
    """The averaged prediction can be wired into a plain network that loads without the method."""
    model = make_model(A2KT)
    model.compile(optimizer())
    model.train_on(make_batch(model, 0))
    outputs = dict(model.network.output)
    network = keras.Model(model.network.input, outputs | {"logits": model.method.target_logits(outputs)})
    network.save(tmp_path / "network.keras")
    images = make_batch(model, 1)["target"]["images"]
    loaded = keras.models.load_model(tmp_path / "network.keras")(images, training=False)["logits"]
    expected = model.predict_domain([{"images": images}]).logits
    np.testing.assert_allclose(loaded, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(expected, ops.log_softmax(model.network(images, training=False)["logits"]))


def test_training_selects_target_rows():
    model = make_model(A2KT, first_threshold=0.0, last_threshold=0.0)
    model.compile(keras.optimizers.Adam(1e-3))
    for step in range(model.max_iterations):
        model.train_on(make_batch(model, step))
    model.update(evaluate(model))
    rows = np.flatnonzero(model.method.selected_labels.numpy() >= 0)
    assert len(rows)
    batch = make_batch(model, 20)
    batch["target"]["indices"] = np.resize(rows, len(batch["target"]["indices"])).astype("int32")
    assert float(model.train_on(batch)["target_pseudo"]) > 0.0


def test_objective():
    run_objective_test(A2KT)


def test_a_selected_class_without_a_prototype_costs_nothing():
    """Its logit is -1e4: the cross-entropy of one such row was ten thousand."""
    method = A2KT()
    method.build_parts(4, 3, 4, {"target": 3})
    method.selected_labels.assign([0, 2, 2])
    features = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(4, 4)).astype("float32"))
    source = View(None, None, features, ops.zeros((4, 3)), labels=np.array([0, 0, 1, 1]))
    target = View(None, None, features[:3], ops.zeros((3, 3)), indices=np.arange(3))
    terms = method.loss_terms(Views(source, target), Context(0, 10, None, None))
    assert 0 < float(terms["target_pseudo"]) < 50


def test_centres_far_from_the_origin_keep_their_digits():
    """Most classes are in neither batch: their means are zeros, far from the data."""
    draw, method = np.random.default_rng(1), A2KT()
    source, target = (30.0 + 0.3 * draw.normal(size=(12, 8)) for _ in range(2))
    labels = np.arange(12) % 6
    members = np.eye(65, dtype="float32")[labels]
    means = [np.stack([rows[labels == c].mean(axis=0) for c in range(6)]) for rows in (source, target)]
    distances = ((means[0][:, None] - means[1][None]) ** 2).sum(-1)
    apart = ~np.eye(6, dtype=bool)
    exact = np.diag(distances).mean() + np.maximum(method.margin - distances, 0)[apart].mean()
    found = method.center_loss(*map(ops.convert_to_tensor, (source.astype("float32"), members, target.astype("float32"), members)))
    np.testing.assert_allclose(float(found), exact, rtol=2e-6)


def test_without_the_number_of_target_samples():
    method = A2KT()
    method.build_parts(4, 3, 4, {})
    with pytest.raises(ValueError, match="keeps a label for each; received 5 labels and no number.*sizes="):
        method.keep_labels(method.selected_labels, np.zeros(5, "int32"))


def test_without_indices():
    method = A2KT()
    method.build_parts(4, 3, 4, {"target": 9})
    views = [View(None, None, np.zeros((5, 4), "float32"), np.zeros((5, 3), "float32"), labels) for labels in (np.zeros(5, "int32"), None)]
    with pytest.raises(ValueError, match='batches with the target\'s "indices".*received none'):
        method.loss_terms(Views(*views), Context(0, 10, ops.ones(3), ops.convert_to_tensor(False)))
