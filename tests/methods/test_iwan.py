"""IWAN: both variants' losses with gradients, weights, ramps, TLLib's loop with BN, the fixed source network."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from isra_keras.losses import masked_entropy
from isra_keras.methods.iwan import IWAN
from isra_keras.objective import Stage
from isra_keras.training.schedules import InverseDecay
from tests.golden_tools import tensors
from tests.methods.golden_arrays import assert_close, check_loss, golden_cases
from tests.methods.objective_test import BATCH, evaluate, make_batch, make_model, optimizer, run_objective_test
from tests.methods.replay import context, hyper_of, inputs_of, load_discriminator, replay, trajectory_model, views_of

PARTS = ("discriminator_weight", "discriminator_adversarial")
TERMS = {
    "source_ce": "classification", "adversarial_weight_discriminator": "weight_discriminator",
    "adversarial": "adversarial", "target_entropy": "target_entropy", "total": None,
}  # fmt: skip


def build(golden, variant, **options):
    """(method with the file's weights, {name: input or variable})."""
    width = golden["discriminator_weight/dense1/kernel"].shape[1]
    method = IWAN(variant, ramp_iterations=10000, discriminator_width=width, dropout=0.0, **options)
    method.build_parts(golden["source_features"].shape[1], 0, 0, {})
    inputs = inputs_of(golden)
    for part in PARTS:
        inputs |= load_discriminator(getattr(method, part), golden, part)
    return method, inputs


def scales_of(hyper):
    """{loss of the file: its weight in TLLib's sum}."""
    a = float(hyper["trade_off"])
    return {"adversarial_weight_discriminator": 1.5 * a, "adversarial": a, "target_entropy": float(hyper["gamma"])}


@golden_cases("iwan_tllib")
@pytest.mark.parametrize("loss", TERMS)
def test_tllib_losses(golden, loss):
    method, inputs = build(
        golden, "tllib", adversarial_weight=float(golden["trade_off"]), entropy_weight=float(golden["gamma"])
    )
    now = context(int(golden["grl_iteration"]))
    assert_close(method.ramp(now), golden["grl_coeff"], 1e-6)
    weights = method.importance_weights(tensors(golden)["source_features"], now)
    assert_close(weights, golden["out/importance_weight"], 1e-5)

    def function(values):
        terms = method.loss_terms(views_of(golden, values), now)
        return sum(terms.values()) if loss == "total" else terms[TERMS[loss]] / scales_of(golden).get(loss, 1.0)

    check_loss(golden, loss, function, inputs)


@pytest.fixture
def paper_case(golden):
    """(method, {name: input or variable}, context of stage "adapt")."""
    method, inputs = build(golden, "paper", entropy_weight=float(golden["gamma"]))
    now = dataclasses.replace(context(int(golden["iteration"])), stage="adapt")
    return method, inputs, now


@golden_cases("iwan_paper")
@pytest.mark.parametrize("loss", ["adversarial", "adversarial_weight_discriminator"])
def test_paper_losses(golden, paper_case, loss):
    method, inputs, now = paper_case
    assert_close(method.ramp(now), golden["out/grl_coeff"], 1e-6)
    weights = method.importance_weights(tensors(golden)["source_features"], now)
    assert_close(weights, golden["out/importance_weight"], 1e-5)

    def function(values):
        views = views_of(golden, values)
        if loss == "adversarial":
            return method.adversarial_loss(views, weights, method.ramp(now), now)
        return method.weight_discriminator_loss(views, now)

    check_loss(golden, loss, function, inputs)


@golden_cases("iwan_paper")
def test_paper_entropy(golden, paper_case):
    """The term as `loss_terms` weighs it, through the fixed classifier."""
    method, inputs, now = paper_case
    method.semantic_views = lambda views, context: views  # the file gives the frozen copy's features themselves

    def function(values):
        fixed = tensors({name: golden[name] for name in ("classifier/kernel", "classifier/bias")})
        logits = ops.matmul(values["target_features"], fixed["classifier/kernel"]) + fixed["classifier/bias"]
        source_logits = ops.zeros((len(golden["source_features"]), logits.shape[1]))
        views = views_of(golden, values | {"target_logits": logits, "source_logits": source_logits})
        views.source.labels = np.zeros(len(golden["source_features"]), "int32")
        return method.loss_terms(views, now)["target_entropy"]

    logits = golden["target_features"] @ golden["classifier/kernel"] + golden["classifier/bias"]
    assert_close(ops.mean(masked_entropy(logits, 1e-3)), golden["out/target_entropy"], 1e-5)
    scaled = golden["gamma"] * golden["out/grl_coeff"] * golden["out/target_entropy"]
    check_loss(golden | {"out/scaled_target_entropy": scaled}, "scaled_target_entropy", function, inputs)


@golden_cases("iwan_schedules")
def test_schedules(golden):
    rate = float(golden["initial_lr"])
    for variant, recipe in (("tllib", IWAN.recipes["office31"]), ("paper", IWAN.recipes["paper"])):
        factor = recipe["multipliers"]["discriminator_weight"][0]
        # TLLib's lr0 is that of the heads, the Caffe code's that of the backbone.
        backbone = rate / factor if variant == "tllib" else rate
        schedule = InverseDecay(backbone, **recipe["schedule"])
        method = IWAN(**{"variant": variant} | recipe["options"])
        ramp = [method.ramp(context(k)) for k in golden["step"]]
        assert_close(ramp, golden[f"out/{variant}_grl_coeff"], 1e-6)
        assert_close([schedule(k) for k in golden["step"]], golden[f"out/{variant}_lr_backbone"], 1e-6)
        assert_close([factor * schedule(k) for k in golden["step"]], golden[f"out/{variant}_lr_new"], 1e-6)


# Four times: without the control dependencies of `train_step` about one compiled step in five goes wrong.
@pytest.mark.parametrize("repeat", range(4 if keras.backend.backend() == "tensorflow" else 1))
@golden_cases("iwan_trajectory")
def test_trajectory(golden, repeat):
    hyper = hyper_of(golden)
    width = golden["init/discriminator_weight/dense1/kernel"].shape[1]
    method = IWAN(
        adversarial_weight=hyper["trade_off"], entropy_weight=hyper["gamma"], ramp_iterations=10000,
        discriminator_width=width, dropout=0.0,
    )  # fmt: skip
    model = trajectory_model(golden, method, InverseDecay(hyper["lr"] / 10.0), weight_decay=1e-3)
    model.step.assign(int(hyper["grl_start"]))  # the rate starts at step 0, the reversal here
    scales = scales_of(hyper)

    def loss_of(name):
        return lambda logs: logs["loss"] if name == "total" else logs[TERMS[name]] / scales.get(name, 1.0)

    replay(golden, model, {name: loss_of(name) for name in TERMS}, rate_of_heads=True)


def two_stage_model():
    model = make_model(IWAN, variant="paper", discriminator_width=8, dropout=0.0)
    model.compile(optimizer())
    return model


def arrays(layer):
    return [v.numpy() for v in layer.weights]


def test_source_network_stays_fixed():
    model = two_stage_model()
    source, adapt = model.method.stages()
    model.begin_stage(source)
    logs = model.train_on(make_batch(model, 0))
    assert set(logs) == {"classification", "loss", "learning_rate"}
    model.begin_stage(adapt)
    start = arrays(model.network)
    for step in range(3):
        model.train_on(make_batch(model, step))
    for copied, value in zip(arrays(model.method.source_network), start):
        np.testing.assert_array_equal(copied, value)
    classifier, bottleneck = model.network.get_layer("classifier"), model.network.get_layer("bottleneck")
    copy = model.method.source_network
    for part in ("classifier", "bottleneck"):
        same = [np.array_equal(a, b) for a, b in zip(arrays(model.network.get_layer(part)), arrays(copy.get_layer(part)))]
        assert all(same) if part == "classifier" else not any(same)
    assert not classifier.trainable and bottleneck.trainable


def test_paper_source_rows_come_from_the_copy():
    model = two_stage_model()
    model.begin_stage(model.method.stages()[1])
    views = model.make_views(make_batch(model, 0))
    frozen = model.method.semantic_views(views, model.context())
    expected = model.method.source_network(views.source.images, training=False)["features"]
    np.testing.assert_array_equal(frozen.source.features, expected)
    assert frozen.target is views.target and frozen.source.labels is views.source.labels
    assert frozen.source.features.shape[0] == BATCH


@pytest.mark.parametrize("logit", [0.0, 40.0, 80.0])
def test_paper_weights_are_relative_however_sure_the_discriminator_is(logit):
    method = IWAN("paper", discriminator_width=4, dropout=0.0)
    method.build_parts(3, 2, 3, {})
    method.discriminator_weight = lambda features, training: features[:, 0]
    spread = np.array([-1.0, 0.0, 2.0], "float32")
    unlikely = 1.0 / (1.0 + np.exp((logit + spread).astype("float64")))
    weights = method.importance_weights(ops.convert_to_tensor((logit + spread)[:, None]), context())
    np.testing.assert_allclose(weights, unlikely / unlikely.mean(), rtol=1e-4)


def test_weight_dropout_can_be_switched_off():
    model = make_model(IWAN, discriminator_width=32)
    features = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
    now = context()
    noisy = [np.asarray(model.method.importance_weights(features, now)) for _ in range(2)]
    assert not np.array_equal(*noisy)
    model.method.weight_dropout = False
    steady = [np.asarray(model.method.importance_weights(features, now)) for _ in range(2)]
    np.testing.assert_array_equal(*steady)


@pytest.mark.parametrize("variant", ["tllib", "paper"])
def test_the_two_discriminators_start_apart(variant):
    method = make_model(IWAN, variant=variant, discriminator_width=8).method
    pairs = zip(method.discriminator_weight.get_weights(), method.discriminator_adversarial.get_weights())
    assert all(not np.array_equal(one, other) for one, other in pairs if np.any(one))


def test_the_adversary_can_be_switched_off():
    model = make_model(IWAN, adversarial_weight=0.0, discriminator_width=8)
    model.compile(optimizer())
    logs = model.train_on(make_batch(model, 0))
    assert float(logs["adversarial"]) == float(logs["weight_discriminator"]) == 0.0 < float(logs["classification"])


@pytest.mark.parametrize("variant", ["tllib", "paper"])
def test_objective(variant):
    run_objective_test(IWAN, variant=variant, discriminator_width=8)


def test_options():
    with pytest.raises(ValueError, match="tllib"):
        IWAN("caffe")
    assert IWAN().stages() == (Stage(),) and IWAN().joint_forward and not IWAN("paper").joint_forward
    assert sum(stage.share for stage in IWAN("paper", source_share=0.3).stages()) == pytest.approx(1.0)
    model = make_model(IWAN, discriminator_width=4)
    assert model.update(evaluate(model)) is None


def test_paper_losses_are_means_over_the_rows_of_both_domains():
    """Half the sum of two means is the same only where both have as many rows."""
    model = make_model(IWAN, variant="paper", discriminator_width=8, dropout=0.0)
    logits = ops.convert_to_tensor(np.array([0.5, -1.0, 2.0, 0.0, 1.0, -3.0], "float32"))
    losses = np.log1p(np.exp([-0.5, 1.0, 2.0, 0.0, 1.0, -3.0]))
    assert_close(model.method._domain_loss(logits, 2), losses.mean(), 1e-6)
    halves = 0.5 * (losses[:2].mean() + losses[2:].mean())
    assert_close(IWAN(discriminator_width=8)._domain_loss(logits, 2), halves, 1e-6)


def test_topics_are_learned_in_a_warm_up_where_features_are_the_network_s_own():
    for options, early in (({}, True), ({"variant": "paper"}, False)):
        assert IWAN(discriminator_width=8, **options).aligns_own_features() is early
