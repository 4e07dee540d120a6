"""Label-free scores: known answers, ranges, directions, speed."""

import time

import numpy as np
import pytest

from isra_keras.selection import NEEDS_SOURCE, SCORES, score_all
from isra_keras.selection.scores import softmax

ONE_HOT = np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]] * 1000.0
UNIFORM = np.zeros((8, 4))
FEATURES = np.zeros((8, 2))


def score(name, logits, features=None, **source):
    features = np.zeros((len(logits), 2)) if features is None else features
    return SCORES[name][0](features, logits, **source)


def test_mean_entropy_known_answers():
    assert score("mean_entropy", UNIFORM) == pytest.approx(np.log(4), abs=1e-5)
    assert score("mean_entropy", ONE_HOT) == pytest.approx(0, abs=1e-6)
    two = np.log([[0.5, 0.5], [0.9, 0.1]])
    expected = (np.log(2) - 0.9 * np.log(0.9) - 0.1 * np.log(0.1)) / 2
    assert score("mean_entropy", two) == pytest.approx(expected, abs=1e-5)


def test_information_maximisation_known_answers():
    assert score("information_maximisation", ONE_HOT) == pytest.approx(np.log(4), abs=1e-5)
    assert score("information_maximisation", UNIFORM) == pytest.approx(0, abs=1e-9)
    collapsed = np.tile([1000.0, 0, 0, 0], (8, 1))
    assert score("information_maximisation", collapsed) == pytest.approx(0, abs=1e-6)


def test_snd_known_answers():
    # All alike: every one of the 7 others is as near, so the entropy is log 7.
    assert score("snd", UNIFORM) == pytest.approx(np.log(7), abs=1e-5)
    # Four pairs of orthogonal rows: one neighbour takes all the mass but 6 exp(-20).
    mass = 1 + 6 * np.exp(-20)
    expected = np.log(mass) + 6 * 20 * np.exp(-20) / mass
    assert score("snd", ONE_HOT) == pytest.approx(expected, abs=1e-5)
    assert score("snd", UNIFORM[:1]) == 0.0


def test_snd_equals_the_direct_formula():
    logits = np.random.default_rng(0).normal(size=(611, 5)) * 3
    unit = softmax(logits)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similar = unit @ unit.T / 0.05
    np.fill_diagonal(similar, -np.inf)
    p = softmax(similar)
    expected = -np.mean(np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1))
    assert score("snd", logits) == pytest.approx(expected, rel=1e-4)


def test_bnm_known_answers():
    assert score("bnm", ONE_HOT) == pytest.approx(1.0)
    assert score("bnm", UNIFORM) == pytest.approx(0.25)  # one singular value sqrt(8) / 2 over sqrt(8 * 4)
    logits = np.random.default_rng(1).normal(size=(50, 6))
    direct = np.linalg.svd(softmax(logits), compute_uv=False).sum() / np.sqrt(50 * 6)
    assert score("bnm", logits) == pytest.approx(direct, rel=1e-6)


def test_source_scores_known_answers():
    logits = np.log([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
    source = {"source_features": np.zeros((3, 1)), "source_logits": logits, "source_labels": np.array([0, 1, 1])}
    assert score("source_accuracy", UNIFORM, **source) == pytest.approx(2 / 3)
    assert score("source_risk", UNIFORM, **source) == pytest.approx(-np.log([0.7, 0.8, 0.4]).mean())


def domains(rows=3000):
    """Two classes on the line; the source is shifted towards the class that the classifier gets wrong."""
    rng = np.random.default_rng(2)
    source, target = rng.normal(0, 1, (rows, 1)), rng.normal(1, 1, (rows, 1))
    return source, target


def test_dev_estimates_the_target_error():
    source, target = domains()

    # The truth is "positive"; the model's border is at 0.5, so it errs where 0 < f < 0.5.
    def logits(f):
        return np.concatenate([np.zeros_like(f), f - 0.5], axis=1)

    arrays = {"source_features": source, "source_logits": logits(source), "source_labels": (source[:, 0] > 0) * 1}
    estimate = score("dev", logits(target), target, **arrays)
    truth = np.mean((target > 0) & (target < 0.5))
    plain = 1 - score("source_accuracy", logits(target), target, **arrays)
    assert abs(estimate - truth) < 0.02 < abs(plain - truth)
    assert estimate == score("dev", logits(target), target, **arrays)


def test_dev_without_shift_is_the_source_error():
    source = domains()[0]
    logits = np.concatenate([np.zeros_like(source), source - 0.5], axis=1)
    labels = (source[:, 0] > 0) * 1
    error = np.mean(np.argmax(logits, 1) != labels)
    arrays = {"source_features": source, "source_logits": logits, "source_labels": labels}
    assert score("dev", logits, source, **arrays) == pytest.approx(error, abs=1e-6)


def test_score_all_leaves_out_what_needs_source():
    assert set(score_all(FEATURES, UNIFORM)) == set(SCORES) - NEEDS_SOURCE
    full = score_all(FEATURES, UNIFORM, FEATURES, UNIFORM, np.zeros(8, int))
    assert set(full) == set(SCORES) and all(np.isfinite(list(full.values())))
    with pytest.raises(ValueError, match="as many features as logits"):
        score_all(FEATURES[:3], UNIFORM)
    with pytest.raises(ValueError, match="source features"):
        score("dev", UNIFORM)


def test_scores_prefer_the_better_classifier():
    """Confident and right against blurred: every label-free score on the target points the right way."""
    rng = np.random.default_rng(3)
    centres = np.eye(5) * 6
    features = centres[rng.integers(0, 5, 400)] + rng.normal(size=(400, 5))
    good, bad = score_all(features, 3 * features), score_all(features, 0.1 * features + rng.normal(size=(400, 5)))
    for name in ("mean_entropy", "information_maximisation", "bnm"):
        sign = 1 if SCORES[name][1] == "max" else -1
        assert sign * (good[name] - bad[name]) > 0, name


@pytest.mark.parametrize("name", list(SCORES))
def test_speed_and_determinism(name):
    rng = np.random.default_rng(4)
    features, logits = rng.normal(size=(4000, 256)).astype("float32"), rng.normal(size=(4000, 65)).astype("float32")
    source = (features + 0.2, logits, rng.integers(0, 65, 4000))
    start = time.process_time()
    first = SCORES[name][0](features, logits, *source)
    assert (
        time.process_time() - start < 4.0
    )  # 0.1 to 0.8 s; CPU seconds, as a loaded machine stretches the wall clock's
    assert first == SCORES[name][0](features, logits, *source)


PINNED = {
    "mean_entropy": 0.3781737426355606,
    "information_maximisation": 1.363143618180637,
    "snd": 3.521628511555,
    "bnm": 0.8729873212284064,
    "dev": 0.1101329712811736,
    "source_accuracy": 0.86,
    "source_risk": 0.37823610995895296,
}
"""Of commit 3dba5a9, before evaluations were made cheaper."""


def test_cheaper_scores_keep_their_values():
    rng = np.random.default_rng(5)
    source = rng.normal(size=(300, 20)).astype("float32")
    target = (rng.normal(size=(257, 20)) * 1.2 + 0.2).astype("float32")
    kernel = rng.normal(size=(20, 6)).astype("float32")
    labels = np.argmax(source @ kernel + rng.normal(size=(300, 6)), 1)
    found = score_all(target, target @ kernel, source, source @ kernel, labels)
    assert found == pytest.approx(PINNED, abs=1e-6)
