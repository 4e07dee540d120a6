"""The model to ship: best sound candidate, source only, or the earliest checkpoint."""

import numpy as np
import pytest

from isra_keras.selection.choose import ENSEMBLE, ENSEMBLE_SCORES, Candidate, badness, choose

SOUND, BROKEN = {"agreement": 0.9}, {"agreement": 0.1}


def candidate(step, entropy, signals=SOUND, name="ba3us", **more):
    return Candidate(name, step, {"mean_entropy": entropy}, signals, **more)


def test_collapsed_candidates_are_left_out():
    shipped = choose([candidate(1, 0.5), candidate(2, 0.1, BROKEN), candidate(3, 0.4)], "mean_entropy")
    assert shipped.candidate.step == 3 and list(shipped.rejected) == [1]
    assert choose([candidate(1, 0.5), candidate(2, 0.1, BROKEN)], "mean_entropy", guard=False).candidate.step == 2


def test_falls_back_to_source_only_then_to_the_earliest():
    plain = candidate(9, 0.9, BROKEN, "source_only", source_only=True)
    shipped = choose([candidate(2, 0.1, BROKEN), plain], "mean_entropy")
    assert shipped.candidate is plain and "source only" in shipped.reason
    shipped = choose([candidate(2, 0.1, BROKEN), candidate(1, 0.2, BROKEN)], "mean_entropy")
    assert shipped.candidate.step == 1 and "earliest" in shipped.reason


def test_source_only_competes_by_its_score():
    plain = candidate(9, 0.1, name="source_only", source_only=True)
    assert choose([candidate(2, 0.3), plain], "mean_entropy").candidate is plain


def test_missing_scores_come_last_and_directions_count():
    assert choose([candidate(1, None), candidate(2, 5.0)], "mean_entropy").candidate.step == 2
    pair = [Candidate("a", 1, {"snd": 1.0}), Candidate("a", 2, {"snd": 2.0})]
    assert choose(pair, "snd").candidate.step == 2
    assert choose(pair, ENSEMBLE).candidate.step == 2


def test_ensemble_is_the_mean_rank():
    better = {name: 0.0 for name in ENSEMBLE_SCORES}
    found = badness([Candidate("a", 1, better), Candidate("b", 2, better)], ENSEMBLE)
    assert np.array_equal(found, [1.5, 1.5])


def test_own_limits():
    limits = {"largest_share": ("max", 0.5, "{value:.0%} in one class")}
    rows = [candidate(1, 0.1, {"largest_share": 0.9}), candidate(2, 0.3, {"largest_share": 0.2})]
    shipped = choose(rows, "mean_entropy", limits)
    assert shipped.candidate.step == 2 and shipped.rejected == {0: ("90% in one class",)}


def test_refuses():
    with pytest.raises(ValueError, match="at least one candidate"):
        choose([])
    with pytest.raises(ValueError, match="score to be ensemble or one of"):
        choose([candidate(1, 0.1)], "luck")


def test_the_ensemble_holds_a_certain_model_to_what_source_labels_are_sure_of():
    """Both sound; a little less certain, but it kept the classes of the rows that are beyond doubt."""
    loyal = [Candidate("loyal", 1, {"mean_entropy": 0.3, "snd": 1.0}, {"confident_agreement": 0.95})]
    drifted = [Candidate("drifted", 1, {"mean_entropy": 0.2, "snd": 0.9}, {"confident_agreement": 0.75})]
    middle = [Candidate("middle", 1, {"mean_entropy": 0.4, "snd": 0.8}, {"confident_agreement": 0.85})]
    ranks = badness(loyal + drifted + middle, "ensemble")
    assert ranks.tolist() == pytest.approx([(2 + 1 + 1) / 3, (1 + 2 + 3) / 3, (3 + 3 + 2) / 3])
    assert choose(loyal + drifted + middle, "ensemble").candidate.name == "loyal"
    unknown = [Candidate("unknown", 1, {"mean_entropy": 0.2, "snd": 0.9}, {})]
    assert badness(loyal + unknown, "ensemble").tolist() == pytest.approx([(2 + 1 + 1.5) / 3, (1 + 2 + 1.5) / 3])
