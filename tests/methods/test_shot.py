"""SHOT: pseudo-labels, both stages' losses with gradients, the official adaptation loop, stored source features."""

import keras
import numpy as np
import pytest
from keras import ops

from isra_keras.backbones import build_network
from isra_keras.losses import prediction_diversity
from isra_keras.losses.entropy import entropy
from isra_keras.losses.pseudo_labels import centroid_labels
from isra_keras.methods.shot import SHOT
from isra_keras.model import AdaptationModel
from isra_keras.objective import Context, Evaluation, View, Views
from isra_keras.semantic import SemanticAlignment
from isra_keras.training.optimizer import PartwiseSGD
from isra_keras.training.schedules import InverseDecay
from tests.methods.golden_arrays import assert_change_close, assert_close, check_loss, golden_cases
from tests.methods.networks import dense_backbone_network
from tests.methods.objective_test import make_model, run_objective_test, run_stages

VARIABLES = ["bottleneck/kernel", "bottleneck/bias", "bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance",
             "classifier/direction", "classifier/gain", "classifier/bias"]  # fmt: skip


def losses_network(golden):
    """Network of a losses file, whose backbone is the identity."""
    width = golden["target_x"].shape[1]
    identity = {"backbone/kernel": np.eye(width, dtype="float32"), "backbone/bias": np.zeros(width, "float32")}
    return dense_backbone_network(golden | identity, VARIABLES, "", **SHOT.network_options)[0]


@golden_cases("shot_losses")
def test_network(golden):
    """Bottleneck with BN in both modes and the weight-normed classifier."""
    network = losses_network(golden)
    outputs = network(golden["target_x"], training=False)
    assert_close(outputs["features"], golden["target_features"], 1e-5)
    assert_close(outputs["logits"], golden["target_logits"], 1e-5)
    outputs = network(golden["target_x"][golden["batch_indices"]], training=True)
    assert_close(outputs["features"], golden["batch_features"], 1e-5)
    assert_close(outputs["logits"], golden["batch_logits"], 1e-5)


@golden_cases("shot_losses")
def test_pseudo_labels(golden):
    features, logits, threshold = golden["target_features"], golden["target_logits"], int(golden["threshold"])
    np.testing.assert_array_equal(centroid_labels(features, logits, threshold), golden["out/pseudo_labels"])
    np.testing.assert_array_equal(centroid_labels(features, logits, 0), golden["out/pseudo_labels_threshold0"])
    euclidean = centroid_labels(features, logits, threshold, distance="euclidean")
    np.testing.assert_array_equal(euclidean, golden["out/pseudo_labels_euclidean"])


@golden_cases("shot_losses")
@pytest.mark.parametrize("diversity", [False, True], ids=["pda", "uda"])
def test_target_loss(golden, diversity):
    method = SHOT(float(golden["cls_par"]), float(golden["ent_par"]), diversity=diversity)
    labels = golden["out/pseudo_labels"][golden["batch_indices"]]
    network = losses_network(golden)
    classifier = network.get_layer("classifier")

    def loss(values):
        fixed = ops.convert_to_tensor(golden["batch_logits"])
        logits = values["batch_logits"] + (classifier(values["batch_features"]) - fixed)
        return sum(method.adaptation_terms(logits, labels).values())

    name = "target_loss_uda" if diversity else "target_loss_pda"
    check_loss(golden, name, loss, {"batch_logits": golden["batch_logits"], "batch_features": golden["batch_features"]})


@golden_cases("shot_losses")
def test_entropies(golden):
    assert_close(entropy(golden["batch_logits"], 1e-5), golden["out/batch_entropy"], 1e-5)
    assert_close(prediction_diversity(golden["batch_logits"], 1e-5), golden["out/batch_diversity"], 1e-5)


@golden_cases("shot_losses")
def test_source_loss(golden):
    def loss(values):
        source = View(None, None, None, values["source_logits"], labels=golden["source_labels"])
        context = Context(0, 1, None, None, stage="source")
        return SHOT().loss_terms(Views(source, None), context)["classification"]

    check_loss(golden, "source_loss", loss, {"source_logits": golden["source_logits"]})


@golden_cases("shot_trajectory")
def test_trajectory(golden):
    """The official loop: frozen classifier, pseudo-labels renewed before each epoch, last batch smaller."""
    network, variables = dense_backbone_network(golden, VARIABLES, **SHOT.network_options)
    steps, target = int(golden["max_iterations"]), golden["target_x"]
    batches = -(-len(target) // int(golden["batch_size"]))
    method = SHOT(float(golden["cls_par"]), threshold=int(golden["threshold"]))
    model = AdaptationModel(network, method, max_iterations=steps, sizes={"target": len(target)})
    # The authors count steps from 1: 1 + 10 (i + 1) / T = (1 + 10 / T) (1 + 10 i / (T + 10)).
    rate = InverseDecay(float(golden["lr"]) * (1 + 10 / steps) ** -0.75, 10.0, 0.75, period=steps + 10)
    multipliers = {"backbone": (0.1, 1.0)}
    model.compile(PartwiseSGD(rate, weight_decay=SHOT.recipes["default"]["weight_decay"], multipliers=multipliers))
    model.begin_stage(method.stages()[1])
    for step in range(int(golden["num_steps"])):
        at = {k.removeprefix(f"step{step}/"): v for k, v in golden.items() if k.startswith(f"step{step}/")}
        if step % batches == 0:
            model.update(model.predict_domain([{"images": target}]))
        np.testing.assert_array_equal(method.pseudo_labels.numpy(), at["pseudo_labels"])
        indices = at["batch_indices"]
        logs = model.train_on({"target": {"images": target[indices], "indices": indices}})
        assert_close(logs["loss"], at["loss"], 1e-5)
        assert_close(logs["learning_rate"], at["lr"], 1e-6)
        for name, variable in variables.items():
            before_bn = name in ("bottleneck/bias", "backbone/bias")
            expected, first = at[f"after/{name}"], golden[f"init/{name}"]
            assert_change_close(variable.numpy(), expected, first, name=f"step {step} {name}", silent=before_bn)


def test_threshold_that_no_class_passes_counts_as_zero():
    rng = np.random.default_rng(0)
    features, logits = rng.normal(size=(30, 6)), rng.normal(size=(30, 4))
    np.testing.assert_array_equal(centroid_labels(features, logits, 1000), centroid_labels(features, logits, 0))


def test_classes_are_counted_anew_in_every_round():
    """The fix of June 2022: class 2 passes by argmax, is left with `threshold` rows by round one, and is dropped."""
    rng = np.random.default_rng(2)
    features, logits = rng.normal(size=(30, 4)), rng.normal(size=(30, 5))
    assert np.bincount(logits.argmax(1))[2] == 6
    assert np.bincount(centroid_labels(features, logits, 4, rounds=1))[2] == 4
    assert 2 not in centroid_labels(features, logits, 4)


def test_rare_classes_are_never_chosen():
    features = np.concatenate([np.tile([[1.0, 0.0]], (20, 1)), [[0.0, 1.0]]])
    logits = np.zeros((21, 3))
    logits[:20, 0] = logits[20, 2] = 5.0
    assert set(centroid_labels(features, logits, threshold=1)) == {0}
    assert centroid_labels(features, logits, threshold=0)[-1] == 2


def test_images_that_cannot_be_read_have_no_pseudo_label_and_move_no_centroid():
    rng = np.random.default_rng(4)
    features, logits = rng.normal(size=(30, 4)).astype("float32"), rng.normal(size=(30, 3)).astype("float32")
    readable = np.arange(30) < 20
    features[20:] += 50.0
    method = SHOT(threshold=0)
    method.build_parts(4, 3, 4, {"target": 30})
    method.on_evaluation(Evaluation(features, logits, readable=readable, context=Context(0, 10, None, None)))
    labels = method.pseudo_labels.numpy()
    np.testing.assert_array_equal(labels[:20], centroid_labels(features[:20], logits[:20], 0))
    assert (labels[20:] == -1).all()


def test_without_pseudo_labels_only_the_entropy_remains():
    logits = np.random.default_rng(1).normal(size=(4, 3)).astype("float32")
    terms = SHOT().adaptation_terms(logits, np.full(4, -1, "int32"))
    assert float(terms["pseudo"]) == 0.0 and float(terms["target_entropy"]) > 0.0


def test_semantic_plug_in_sees_stored_source_features():
    method = SHOT(stored_rows=5)
    network = build_network("features", 3, 4, image_shape=(6,), weights="none", **SHOT.network_options)
    AdaptationModel(network, method, sizes={"source": 9, "target": 7})
    assert method.aligned == "features"  # nothing below the bottleneck could follow
    method.aligned = "pooled"
    assert method.semantic_dim(4, 6) == 6 and method.needs_source_evaluation
    source = np.random.default_rng(2).normal(size=(9, 6)).astype("float32")
    target = np.random.default_rng(3).normal(size=(7, 6)).astype("float32")
    outputs = {k: np.asarray(v) for k, v in network(target, training=False).items()}

    def evaluate(stage, pooled):
        context = Context(0, 10, None, None, stage=stage)
        method.on_evaluation(Evaluation(**outputs, source=Evaluation(None, None, pooled), context=context))

    evaluate("source", source)
    evaluate("adapt", source + 100.0)  # the source is gone by then
    seen = set()
    for step in range(5):
        view = View(target, ops.convert_to_tensor(target), None, None)
        context = Context(ops.convert_to_tensor(step), 10, None, None)
        views = method.semantic_views(Views(None, replace_features(view)), context)
        assert views.source.features.shape == views.target.features.shape == (7, 6)
        seen |= {tuple(row) for row in np.asarray(views.source.features)}
    assert len(seen) == 5 and seen <= {tuple(row) for row in source}


def replace_features(view):
    view.features = ops.zeros((view.pooled.shape[0], 4))
    return view


@pytest.mark.parametrize("options", [{}, {"diversity": True, "source_share": 0.5}])
def test_objective(options):
    run_objective_test(SHOT, **options)


def test_objective_with_semantic_plug_in():
    model = make_model(SHOT, semantic=SemanticAlignment(num_topics=3, receptor_width=4))
    run_stages(model)
    assert np.any(model.method.source_rows.numpy() != 0.0)


def test_alignment_reaches_the_weights_of_every_backbone():
    for name, shape, output in (("features", (6,), "features"), ("small_cnn", (16, 16, 3), "pooled")):
        network = build_network(name, 3, 4, image_shape=shape, weights="none", **SHOT.network_options)
        method = SHOT()
        AdaptationModel(network, method, sizes={"source": 9, "target": 7})
        assert method.aligned == output
        assert keras.Model(network.inputs, network.output[output]).trainable_weights
