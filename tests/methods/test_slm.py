"""SLM: every loss and the gradients of the sum as the official code has them, the sane forms, draws, the selector."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from isra_keras.layers import dann_coefficient
from isra_keras.layers.mixing import MixingDraws, beta22, far_from_half
from isra_keras.layers.source_selector import hard_selection
from isra_keras.losses.hausdorff import first_minimum, hausdorff_triplet
from isra_keras.losses.soft_labels import smoothed_cross_entropy, soft_cross_entropy
from isra_keras.methods.slm import SLM
from isra_keras.objective import Context, View, Views
from tests.golden_tools import set_discriminator, tensors
from tests.methods.golden_arrays import assert_close, golden_cases, value_and_gradients
from tests.methods.objective_test import make_batch, make_model, optimizer, run_objective_test

INPUTS = ("bottleneck/kernel", "bottleneck/bias", "classifier/kernel", "classifier/bias", "domain_gain")


class TwoGains(SLM):
    """SLM over the file's linear network, whose gain by domain stands for BN by domain."""

    values = None

    def pass_through(self, images, domain, context):
        hidden = ops.matmul(images, self.values["bottleneck/kernel"]) + self.values["bottleneck/bias"]
        features = hidden * self.values["domain_gain"][domain]
        return features, ops.matmul(features, self.values["classifier/kernel"]) + self.values["classifier/bias"]

    def forward_both(self, images, context):
        return self.pass_through(images, 0, context), self.pass_through(images, 1, context)


@pytest.fixture
def case(golden):
    """(method, {name: array or variable}) of a file."""
    selector = keras.layers.Dense(2)
    selector.build((None, golden["source_x"].shape[1]))
    width = golden["discriminator/dense1/kernel"].shape[1]
    method = TwoGains(selector, pseudo_threshold=float(golden["pseudo_threshold"]), reference_quirks=True,
                      discriminator_width=width, dropout=0.0)  # fmt: skip
    features, classes = golden["classifier/kernel"].shape
    method.build_parts(features, classes, features, {})
    set_discriminator(method.discriminator, golden, "discriminator")
    selector.set_weights([golden["selector/kernel"], golden["selector/bias"]])
    inputs = {name: golden[name] for name in INPUTS}
    inputs |= {"selector/kernel": selector.kernel, "selector/bias": selector.bias}
    for dense in ("dense1", "dense2", "dense3"):
        layer = getattr(method.discriminator, dense)
        inputs |= {f"discriminator/{dense}/kernel": layer.kernel, f"discriminator/{dense}/bias": layer.bias}
    return method, inputs


def terms_of(golden, method, values):
    method.values = values
    context = Context(float(golden["progress"]), 1, None, None)
    views = [View(x, x, *method.pass_through(x, k, context))
             for k, x in enumerate((golden["source_x"], golden["target_x"]))]  # fmt: skip
    views[0].labels = golden["source_labels"]
    draws = MixingDraws(*(ops.convert_to_tensor(golden[name]) for name in (
        "mix_ratio", "gumbel_noise", "intra_source_lambda", "intra_target_lambda", "intra_source_index",
        "intra_target_index")))  # fmt: skip
    return method.loss_terms(Views(*views), context, draws)


@golden_cases("slm_losses")
def test_selection_and_pseudo_labels(golden, case):
    method, _ = case
    assert int(golden["label_smoothing_classes"]) == 31  # what reference_quirks has
    lam = dann_coefficient(float(golden["progress"]), 1)
    assert_close(lam, golden["lambda"], 1e-6)
    scores = method.selector(golden["source_x"], None)
    kept = hard_selection(scores, ops.convert_to_tensor(golden["gumbel_noise"]), float(golden["gumbel_temperature"]))
    assert_close(kept, golden["out/activation_rates"], 0.0)
    method.values = tensors({name: golden[name] for name in INPUTS})
    _, logits = method.pass_through(golden["target_x"], 1, None)
    mask, soft = method.pseudo_labels(logits, lam)
    np.testing.assert_array_equal(mask, golden["out/pseudo_mask"])
    assert_close(soft, golden["out/soft_pseudo_labels"], 1e-5)


GROUPS = {"adversarial": "adv_", "mixup": ("intra_", "mix_cls_"), "total": ""}


@golden_cases("slm_losses")
def test_losses(golden, case):
    method, inputs = case
    terms = {name: float(value) for name, value in terms_of(golden, method, tensors(inputs)).items()}
    names = {key.removeprefix("out/") for key in golden if key.startswith("out/") and golden[key].ndim == 0}
    assert names == set(terms) | set(GROUPS)
    for name, value in terms.items():
        assert_close(value, golden[f"out/{name}"], 1e-5, name)
    for name, start in GROUPS.items():
        assert_close(sum(v for n, v in terms.items() if n.startswith(start)), golden[f"out/{name}"], 1e-5, name)


@golden_cases("slm_losses")
def test_gradients(golden, case):
    """Of the total, with respect to every weight, all reversals included."""
    method, inputs = case
    _, gradients = value_and_gradients(lambda v: sum(terms_of(golden, method, v).values()), inputs)
    expected = {k.removeprefix("grad/total/"): v for k, v in golden.items() if k.startswith("grad/total/")}
    assert set(expected) == set(inputs)
    for name, value in expected.items():
        # The selector's bias gets two entries that nearly cancel: rounding is that of its kernel's gradient.
        if name == "selector/bias":
            error = np.abs(gradients[name] - value).max()
            assert error <= 1e-5 * max(np.abs(value).max(), np.abs(expected["selector/kernel"]).max())
        else:
            assert_close(gradients[name], value, 1e-5, name)


def test_the_warm_start_has_plain_cross_entropy():
    model = make_model(SLM, reference_quirks=True, discriminator_width=4)
    logits = ops.convert_to_tensor([[2.0, 0.0, 0.0]])
    features = ops.zeros((1, 8))
    views = Views(View(None, None, features, logits, ops.convert_to_tensor([0])), View(None, None, features, logits))
    terms = model.method.loss_terms(views, Context(0, 10, None, None, stage="warm_start"))
    assert float(terms["classification"]) == pytest.approx(np.log(np.exp(2.0) + 2.0) - 2.0, rel=1e-6)


@pytest.mark.parametrize("given, axis", [({}, "paper"), ({"reference_quirks": True}, "reference"),
                                         ({"reference_quirks": True, "hausdorff_axis": "paper"}, "paper")])  # fmt: skip
def test_hausdorff_axis(given, axis):
    method = SLM(**given)
    assert method.hausdorff_axis == axis == SLM.from_config(method.get_config()).hausdorff_axis
    with pytest.raises(ValueError, match="'rows'"):
        SLM(hausdorff_axis="rows")


def test_stages():
    assert [stage.name for stage in SLM().stages()] == ["warm_start", "adapt"]
    assert sum(stage.share for stage in SLM(warm_share=0.2).stages()) == pytest.approx(1.0)


def test_ratio_keeps_away_from_half():
    ratios = [0.123, 0.4, 0.404, 0.41, 0.49, 0.5, 0.59, 0.604, 0.61, 0.9]
    expected = [0.12, 0.4, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.61, 0.9]
    np.testing.assert_allclose([float(far_from_half(ops.convert_to_tensor(r))) for r in ratios], expected, rtol=1e-6)


def test_beta_two_two():
    generator = keras.random.SeedGenerator(0)
    values = np.array([float(beta22(generator)) for _ in range(2000)])
    assert values.mean() == pytest.approx(0.5, abs=0.02) and values.var() == pytest.approx(0.05, abs=0.005)


def test_draws_are_a_function_of_seed_and_step():
    """A model that resumes at a step draws what the uninterrupted one did; other steps and seeds draw others."""

    def loss(seed, before):
        model = make_model(SLM, discriminator_width=4, warm_share=0.0)
        model.seed = seed
        model.compile(optimizer())
        model.stage = SLM().stages()[1]
        weights = model.get_weights()
        for step in range(before):
            model.train_on(make_batch(model, step))
        model.set_weights(weights)
        model.step.assign(3)
        return float(model.train_on(make_batch(model, 3))["loss"])

    assert loss(0, 0) == loss(0, 2) != loss(1, 0)


def test_mixtures_within_a_domain_count_fully_by_default(monkeypatch):
    model = make_model(SLM, discriminator_width=4, dropout=0.0)
    sane, quirks = model.method, SLM(discriminator_width=4, dropout=0.0, reference_quirks=True)
    quirks.build_parts(8, 5, 12, {})
    quirks.discriminator.set_weights(sane.discriminator.get_weights())
    monkeypatch.setattr(SLM, "domain_loss", lambda self, features, domain, lam: ops.ones(features.shape[0]))
    x = ops.convert_to_tensor(make_batch(model, 0)["source"]["images"])
    rows = len(x)
    draws = MixingDraws(0.25, None, 0.5, 0.5, np.arange(rows), np.arange(rows))
    ones, soft = ops.ones(rows), ops.ones((rows, 5)) / 5
    for method, expected in ((sane, 1.0), (quirks, 0.25)):
        terms = method.within_terms(x, x, np.zeros(rows, "int32"), ones, ones, soft, 0.5, draws, model.context())
        assert float(terms["intra_adv_source"]) == pytest.approx(expected)


def test_soft_labels():
    logits = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    labels = np.array([0, 1, 2, 5], "int32")
    hot = np.eye(6, dtype="float32")[labels]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(soft_cross_entropy(logits, hot), -(hot * log_p).sum(-1), rtol=1e-5)
    smooth = -((0.8 * hot + 0.2 / 6) * log_p).sum(-1)
    np.testing.assert_allclose(smoothed_cross_entropy(logits, labels, 0.2), smooth, rtol=1e-5)
    again = np.exp(log_p)
    again = again - np.log(np.exp(again).sum(-1, keepdims=True))
    np.testing.assert_allclose(soft_cross_entropy(logits, hot, twice=True), -(hot * again).sum(-1), rtol=1e-5)


def test_hausdorff_by_rows():
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(5, 3)).astype("float32"), rng.normal(size=(4, 3)).astype("float32")
    kept = np.array([1, 0, 1, 1, 0], "float32")
    distances = np.linalg.norm(source[:, None] - target[None], axis=-1)

    def distance(values):
        weighted = distances * values[:, None]
        return weighted.min(1).mean() + weighted.min(0).mean()

    expected = max(distance(kept) - distance(1 - kept) + 2.0, 0.0)
    assert float(hausdorff_triplet(source, target, ops.convert_to_tensor(kept), 2.0)) == pytest.approx(expected, 1e-5)


def test_ties_give_the_gradient_to_the_first():
    x = np.array([[0.0, 2.0, 0.0], [3.0, 1.0, 1.0]], "float32")
    value, gradients = value_and_gradients(lambda v: ops.sum(first_minimum(v["x"], axis=1)), {"x": x})
    assert value == 1.0
    np.testing.assert_array_equal(gradients["x"], [[1, 0, 0], [0, 1, 0]])


def test_selection_is_hard_with_a_soft_gradient():
    scores = np.array([[0.0, 1.0], [1.0, 0.0]], "float32")

    def kept(values):
        return ops.sum(
            hard_selection(values["scores"], np.zeros((2, 2), "float32"), 0.5) * np.array([1.0, 2.0], "float32")
        )

    value, gradients = value_and_gradients(kept, {"scores": scores})
    assert value == 1.0 and np.all(gradients["scores"] != 0.0)
    # Near the end of the ramp the temperature is 1e-5: still finite.
    sharp = value_and_gradients(
        lambda v: ops.sum(hard_selection(v["scores"], np.zeros((2, 2)), 1e-5)), {"scores": scores}
    )
    assert np.all(np.isfinite(sharp[1]["scores"]))


def test_selector_on_images_has_to_be_built():
    with pytest.raises(ValueError, match="built"):
        SLM(selector=keras.layers.Dense(2))


def test_objective():
    run_objective_test(SLM, discriminator_width=6)


def test_objective_with_quirks_and_a_selector_on_images():
    selector = keras.Sequential([keras.Input((12,)), keras.layers.Dense(2)])
    run_objective_test(SLM, (), discriminator_width=6, selector=selector, reference_quirks=True)


def test_temperatures_keep_their_digits_to_the_end(monkeypatch):
    """1 - lam of float32 has none left where lam is nearly 1."""
    seen = []
    def watched(scores, noise, tau):
        seen.append(float(tau))
        return hard_selection(scores, noise, tau)

    monkeypatch.setattr("isra_keras.methods.slm.hard_selection", watched)
    model = make_model(SLM, discriminator_width=4, warm_share=0.0)
    model.stage = SLM().stages()[1]
    views = model.make_views(make_batch(model, 0))
    for step in (6500, 9999):
        model.method.loss_terms(views, dataclasses.replace(model.context(), step=step, max_iterations=10000))
    exact = [1.0 - np.tanh(5.0 * step / 10000) + 1e-5 for step in (6500, 9999)]
    np.testing.assert_allclose(seen, exact, rtol=1e-6)
