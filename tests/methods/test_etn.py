"""ETN: leaky softmax, weights, every loss with gradients, both ramps, the official loop."""

import dataclasses

import numpy as np
import pytest
from keras import ops

from isra_keras.layers import dann_coefficient
from isra_keras.methods.etn import ETN, auxiliary_class_loss, auxiliary_domain_logits, leaky_log_softmax
from isra_keras.training.schedules import InverseDecay
from tests.golden_tools import tensors
from tests.methods.golden_arrays import assert_close, check_loss, golden_cases, value_and_gradients
from tests.methods.objective_test import run_objective_test
from tests.methods.replay import context, hyper_of, inputs_of, load_discriminator, replay, trajectory_model, views_of

# Loss of the file: (term of the method, its weight in the file).
TERMS = {
    "source_ce_weighted": ("classification", None),
    "adversarial": ("adversarial", "adv_weight"),
    "target_entropy": ("target_entropy", "entropy_weight"),
    "auxiliary_ce": ("auxiliary_class", "aux_ce_weight"),
    "auxiliary_adversarial": ("auxiliary_domain", "aux_adv_weight"),
    "total": (None, None),
}


def method_for(width, values):
    return ETN(
        adversarial_weight=float(values["adv_weight"]), entropy_weight=float(values["entropy_weight"]),
        auxiliary_domain_weight=float(values["aux_adv_weight"]), auxiliary_class_weight=float(values["aux_ce_weight"]),
        ramp_iterations=10000, discriminator_width=width, dropout=0.0,
    )  # fmt: skip


@pytest.fixture
def case(golden):
    """(method with the file's weights, {name: input or variable}, context)."""
    method = method_for(golden["discriminator/dense1/kernel"].shape[1], golden)
    features, classes = golden["classifier/kernel"].shape
    method.build_parts(features, classes, features, {})
    inputs = inputs_of(golden) | {name: golden[name] for name in ("classifier/kernel", "classifier/bias")}
    for part in ("discriminator", "auxiliary"):
        inputs |= load_discriminator(getattr(method, part), golden, part)
    step = ops.convert_to_tensor(np.float32(golden["grl_step"] / 2))
    return method, inputs, dataclasses.replace(context(), step=step)


def terms_of(golden, method, values, now):
    values = dict(values)
    for domain in ("source", "target"):
        product = ops.matmul(values[f"{domain}_features"], values["classifier/kernel"])
        values[f"{domain}_logits"] = product + values["classifier/bias"]
    return method.loss_terms(views_of(golden, values), now)


@golden_cases("etn_losses")
@pytest.mark.parametrize("loss", TERMS)
def test_losses(golden, case, loss):
    method, inputs, now = case
    term, weight = TERMS[loss]

    def function(values):
        terms = terms_of(golden, method, values, now)
        return sum(terms.values()) if term is None else terms[term] / (float(golden[weight]) if weight else 1.0)

    check_loss(golden, loss, function, inputs)


@golden_cases("etn_losses")
def test_auxiliary_outputs(golden, case):
    method, _, now = case
    features = tensors({domain: golden[f"{domain}_features"] for domain in ("source", "target")})
    source, target = (method.auxiliary_logits(rows, now) for rows in features.values())
    assert_close(ops.exp(leaky_log_softmax(source)[0]), golden["out/auxiliary_source_probabilities"], 1e-5)
    assert_close(ops.sigmoid(auxiliary_domain_logits(source)), golden["out/auxiliary_source_domain"], 1e-5)
    assert_close(ops.sigmoid(auxiliary_domain_logits(target)), golden["out/auxiliary_target_domain"], 1e-5)
    assert_close(method.importance_weights(source), golden["out/importance_weight"], 1e-5)


@golden_cases("etn_schedules")
def test_schedules(golden):
    recipe = ETN.recipes["office_home"]
    factor = recipe["multipliers"]["discriminator"][0]
    length, steps = recipe["options"]["ramp_iterations"], golden["step"]
    assert recipe["learning_rate"] * factor == pytest.approx(1e-3)
    rate = InverseDecay(float(golden["initial_lr"]) / factor, **recipe["schedule"])
    assert_close([rate(k) for k in steps], golden["out/lr_backbone"], 1e-6)
    assert_close([factor * rate(k) for k in steps], golden["out/lr_new"], 1e-6)
    assert_close([dann_coefficient(2 * k, length) for k in steps], golden["out/grl_coeff_source"], 1e-6)
    assert_close([dann_coefficient(2 * k + 1, length) for k in steps], golden["out/grl_coeff_target"], 1e-6)


@golden_cases("etn_trajectory")
def test_trajectory(golden):
    hyper = hyper_of(golden)
    method = method_for(golden["init/discriminator/dense1/kernel"].shape[1], hyper)
    rate = InverseDecay(hyper["lr"] / 10.0, **ETN.recipes["office_home"]["schedule"])
    model = trajectory_model(golden, method, rate, weight_decay=5e-4)
    model.step.assign(int(hyper["start_step"]))
    model.optimizer.iterations.assign(int(hyper["start_step"]))

    def check_weights(step):
        assert_close(10.0 * model.optimizer.learning_rate, golden[f"step{step}/lr"], 1e-6)
        features = model.network(golden[f"step{step}/source_x"])["features"]
        weights = method.importance_weights(method.auxiliary_logits(features, model.context()))
        assert_close(weights, golden[f"step{step}/importance_weight"], 1e-5)

    def loss_of(term, weight):
        return lambda logs: logs["loss"] if term is None else logs[term] / (hyper[weight] if weight else 1.0)

    replay(golden, model, {loss: loss_of(*TERMS[loss]) for loss in TERMS}, check_weights, rate_of_heads=True)


def test_leaky_softmax_keeps_its_digits():
    """Against float64 where 1 - q in float32 would be 0, with finite gradients."""
    logits = np.array([[60.0, 0.0, -50.0], [30.0, 29.0, 0.0], [-90.0, -80.0, -70.0]], "float32")
    exact = logits.astype("float64")
    total = 3.0 + np.exp(exact).sum(-1, keepdims=True)
    rest = np.stack([3.0 + np.exp(np.delete(exact, c, axis=1)).sum(-1) for c in range(3)], axis=1)
    log_q, log_rest = leaky_log_softmax(ops.convert_to_tensor(logits))
    np.testing.assert_allclose(log_q, exact - np.log(total), rtol=1e-5)
    np.testing.assert_allclose(log_rest, np.log(rest / total), rtol=1e-5, atol=1e-6)
    labels = np.array([1, 0, 2], "int32")
    _, gradients = value_and_gradients(lambda v: auxiliary_class_loss(v["a"], labels), {"a": logits})
    assert np.all(np.isfinite(gradients["a"])) and np.abs(gradients["a"]).max() > 0.1


def test_confident_auxiliary_still_weighs_rows():
    """1 - G as a difference is 0 for every row here, and so would be all weights."""
    logits = ops.convert_to_tensor(np.array([[40.0, 0.0], [42.0, 0.0]], "float32"))
    weights = ETN().importance_weights(logits)
    assert np.all(np.asarray(weights) > 0)
    confident = ops.convert_to_tensor(np.array([[12.0, 0.0], [14.0, 0.0]], "float32"))
    assert_close(ops.mean(ETN().importance_weights(confident)), 1.0, 1e-4)


def test_one_class():
    """Leaky softmax of a single class: q = sigmoid(a), row by row, also where the batches differ in size."""
    method = ETN(discriminator_width=4, dropout=0.0)
    method.build_parts(3, 1, 3, {})
    draw = np.random.default_rng(0)
    values = {f"{d}_features": draw.normal(size=(rows, 3)).astype("float32") for d, rows in (("source", 4), ("target", 6))}
    values |= {f"{d}_logits": np.zeros((rows, 1), "float32") for d, rows in (("source", 4), ("target", 6))}
    views = views_of(values, tensors(values))
    views.source.labels = np.zeros(4, "int32")
    logits = [np.asarray(method.auxiliary_logits(v.features, context())) for v in (views.source, views.target)]
    assert [a.shape for a in logits] == [(4, 1), (6, 1)]
    source, target = (1.0 / (1.0 + np.exp(-a[:, 0].astype("float64"))) for a in logits)
    assert_close(method.importance_weights(logits[0]), (1.0 - source) / (1.0 - source).mean(), 1e-5)
    terms = method.loss_terms(views, context())
    assert_close(terms["auxiliary_class"], -np.log(source).mean(), 1e-5)
    assert_close(terms["auxiliary_domain"], 10.0 * -(np.log(source).mean() + np.log(1.0 - target).mean()), 1e-5)


def test_objective():
    run_objective_test(ETN, discriminator_width=8)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_a_tie_shares_its_gradient(classes):
    """At zero logits log-sum-exp is log C exactly: G = 1/2, q = 1 / (2 C)."""
    labels, q = np.array([0, classes - 1], "int32"), np.full((2, classes), 0.5 / classes)
    own = np.eye(classes)[labels]
    # d/da_k of -sum_c [y log q + (1 - y) log(1 - q)]: with s_c = y_c - (1 - y_c) q_c / (1 - q_c), -s_k + q_k sum_c s_c
    signs = own - (1 - own) * q / (1 - q)
    exact = (-signs + q * signs.sum(axis=1, keepdims=True)) / 2
    inputs = {"a": np.zeros((2, classes), "float32")}
    _, gradients = value_and_gradients(lambda v: auxiliary_class_loss(v["a"], labels), inputs)
    np.testing.assert_allclose(gradients["a"], exact, rtol=1e-6)
