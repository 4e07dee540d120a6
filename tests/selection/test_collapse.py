"""Collapse without labels: known answers, limits, the watch of a run."""

import numpy as np
import pytest

from isra_keras.selection.collapse import (
    FRESH_LIMITS,
    LIMITS,
    CollapseWatch,
    class_signals,
    collapse_reasons,
    collapse_signals,
    is_collapsed,
)


def logits_of(predictions, classes=4, strength=8.0):
    return strength * np.eye(classes, dtype="float32")[np.asarray(predictions)]


def probabilities_of(predictions, classes=4, sure=0.97):
    rest = (1 - sure) / (classes - 1)
    return np.where(np.eye(classes)[np.asarray(predictions)] > 0, sure, rest)


EVEN = np.repeat(np.arange(4), 25)


def test_predicted_classes_alone_tell_three_signals():
    found = class_signals([0, 0, 1, 1], [0, 1, 2, 3])
    assert found == {"classes_ratio": pytest.approx(0.5), "agreement": 0.25, "marginal_drift": 0.5}
    assert class_signals([], []) == {} and not is_collapsed(class_signals([0, 1], [0, 1]))


def test_identical_predictions_are_sound():
    signals = collapse_signals(logits_of(EVEN), probabilities_of(EVEN), np.full(4, 0.25))
    assert signals["predicted_classes"] == pytest.approx(4.0) and signals["largest_share"] == 0.25
    assert signals["classes_ratio"] == pytest.approx(1.0) and signals["agreement"] == 1.0
    assert signals["confident_agreement"] == 1.0 and signals["marginal_drift"] == pytest.approx(0.0, abs=1e-6)
    assert signals["weight_entropy"] == pytest.approx(1.0) and signals["weight_drift"] == pytest.approx(0.0, abs=1e-6)
    assert collapse_reasons(signals) == ()


def test_everything_in_one_class_trips_every_limit():
    signals = collapse_signals(logits_of(np.zeros(100, int)), probabilities_of(EVEN), np.array([1.0, 0, 0, 0]))
    assert signals["predicted_classes"] == 1.0 and signals["agreement"] == 0.25
    assert signals["weight_entropy"] == 0.0 and signals["weight_drift"] == pytest.approx(0.75)
    assert len(collapse_reasons(signals)) == len(LIMITS) and is_collapsed(signals)


def test_weights_that_ran_away_are_seen_before_the_predictions_follow():
    signals = collapse_signals(logits_of(EVEN), probabilities_of(EVEN), np.array([0.0, 0.0, 0.0, 2.0]))
    assert collapse_reasons(signals) == ("75% of the class weights moved to other classes",)


def test_few_confident_rows_are_not_judged():
    reference = probabilities_of(EVEN, sure=0.5)
    assert "confident_agreement" not in collapse_signals(logits_of(EVEN), reference)


def test_known_total_variation_and_agreement():
    moved = EVEN.copy()
    moved[:10] = 3
    signals = collapse_signals(logits_of(moved, strength=50), np.eye(4)[EVEN])
    assert signals["agreement"] == 0.9 and signals["confident_agreement"] == 0.9
    assert signals["marginal_drift"] == pytest.approx(0.1)


def test_without_a_reference_only_diversity():
    assert set(collapse_signals(logits_of(EVEN))) == {"predicted_classes", "largest_share"}
    assert collapse_reasons({"agreement": None}) == ()


def test_zero_weights_count_as_even():
    assert collapse_signals(logits_of(EVEN), None, np.zeros(4))["weight_entropy"] == pytest.approx(1.0)


def test_refuses():
    with pytest.raises(ValueError, match="reference of shape"):
        collapse_signals(logits_of(EVEN), np.ones((3, 4)))
    with pytest.raises(ValueError, match="4 class weights"):
        collapse_signals(logits_of(EVEN), None, np.ones(3))
    with pytest.raises(ValueError, match="at least one row"):
        collapse_signals(np.zeros((0, 4)))


def test_watch_warns_once_when_a_run_turns_bad_and_again_after_recovery():
    said = []
    watch = CollapseWatch(warn=said.append)
    for step, predictions in enumerate([EVEN, EVEN, EVEN * 0, EVEN * 0, EVEN, EVEN * 0]):
        watch.check(step, logits_of(predictions))
    assert len(said) == 2 and said[0].startswith("step 2: the adaptation may have collapsed: ")
    assert watch.reasons and watch.signals["agreement"] == 0.25


@pytest.mark.parametrize("shown, seen", [(7, False), (11, True)])
def test_what_the_wide_limits_of_a_network_from_nothing_do_not_see(shown, seen):
    """All rows in one class: README and `FRESH_LIMITS` say from how many classes on that is noticed."""
    labels = np.arange(40 * shown) % shown
    one_class = np.zeros((len(labels), 20))
    one_class[:, 0] = 20.0
    signals = collapse_signals(one_class, np.eye(20)[labels])
    assert bool(collapse_reasons(signals, FRESH_LIMITS)) == seen and collapse_reasons(signals)
