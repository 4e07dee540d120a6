"""Means, paired tests against known answers, the reading of a line."""

import pytest

from isra_keras.benchmarking.statistics import final_evaluations, mean_std, paired, pairs_of, runs_of, spearman
from tests.benchmarking.lines import failed, line


def test_mean_std():
    assert mean_std([1.0]) == (1.0, None)
    assert mean_std([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    with pytest.raises(ValueError, match="at least one"):
        mean_std([])


def test_paired_known_answer():
    found = paired([0.51, 0.52, 0.53, 0.50], [0.50, 0.50, 0.50, 0.50])
    assert (found.wins, found.ties, found.losses) == (3, 1, 0) and found.difference == pytest.approx(0.015)
    # differences 1, 2, 3, 0: mean 1.5, std 1.29099, t = 1.5 / (1.29099 / 2) = 2.3238 with 3 degrees of freedom
    assert found.p_t == pytest.approx(0.10274, abs=1e-4)
    assert found.p_wilcoxon == pytest.approx(0.25)  # 3 signed ranks, all positive: 2 / 2^3


def test_paired_is_antisymmetric_and_handles_ties():
    one, other = paired([0.2, 0.9], [0.3, 0.5]), paired([0.3, 0.5], [0.2, 0.9])
    assert (one.wins, one.losses) == (other.losses, other.wins) and one.p_t == pytest.approx(other.p_t)
    same = paired([0.5, 0.5], [0.5, 0.50001])
    assert (same.wins, same.ties, same.losses, same.p_t, same.p_wilcoxon) == (0, 2, 0, None, None)
    assert paired([0.6], [0.5]).p_t is None
    with pytest.raises(ValueError, match="equally long"):
        paired([0.1], [])


def test_gains_that_are_all_equal_have_no_t_test():
    """Rounding alone was their spread, and made p < 0.001."""
    for first, second in (([0.30, 0.52, 0.91], [0.20, 0.42, 0.81]), ([0.61, 0.72, 0.93], [0.60, 0.71, 0.92])):
        found = paired(first, second)
        assert found.p_t is None and found.p_wilcoxon == pytest.approx(0.25)


def test_spearman():
    assert spearman([1, 2, 3], [10, 20, 25]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)
    assert spearman([1, 1, 1], [1, 2, 3]) is None and spearman([1, 2], [1, 2]) is None


def test_only_the_final_stage_counts():
    found = final_evaluations(line(stages=["source", "adapt"])["evaluations"])
    assert [entry["step"] for entry in found] == [20]
    assert found[0]["scores"] == {"mean_entropy": 0.4, "snd": 2.0} and found[0]["signals"] == {"agreement": 0.9}


def test_pairs_meet_on_task_and_seed():
    lines = [
        line(),
        line(seed=1, accuracies=(0.1, 0.2)),
        line(isra="paper", seed=1),
        line(isra="paper", task="A-P"),
        failed(),
    ]
    assert pairs_of(runs_of(lines), ("ba3us", "paper"), ("ba3us", "off")) == ([0.6], [0.2])
