"""Means, spreads and paired tests over the runs of a table; reading of a line's evaluations."""

from dataclasses import dataclass, field

import numpy as np

from isra_keras.benchmarking.grid import Cell
from isra_keras.training.recipes import is_fresh

TIE = 5e-5
"""Accuracies that differ by less are a tie: half of the last digit of a table in per cent with two decimals."""


@dataclass(frozen=True)
class Run:
    """A finished cell, as the tables read it.

    Attributes:
        cell: `Cell`.
        accuracy: {"selected", "last", "oracle": float in [0, 1] or None}.
        evaluations: of the final stage, list of {"step", "oracle_accuracy", "scores", "signals"}.
        line: the whole line.
    """

    cell: Cell
    accuracy: dict
    evaluations: list = field(hash=False)
    line: dict = field(hash=False)

    @property
    def place(self):
        """(task, seed), what is paired."""
        return self.cell.task, self.cell.seed

    @property
    def can_collapse(self):
        """Whether its signals can be held to `LIMITS`: not where the backbone started from nothing, see `collapse.FRESH_LIMITS`."""
        backbone, weights = (self.line["config"].get(name) for name in ("backbone", "weights"))
        return backbone == "features" or not is_fresh(backbone, weights)


def runs_of(lines):
    """`Run`s of the finished lines."""
    runs = []
    for line in lines:
        if line["status"] == "done":
            accuracy = {name: (line.get(name) or {}).get("accuracy") for name in ("selected", "last", "oracle")}
            runs.append(Run(Cell.from_dict(line["cell"]), accuracy, final_evaluations(line["evaluations"]), line))
    return runs


def final_evaluations(columns):
    """Evaluations of the last stage, from the columns of a line, one dict each."""
    final = columns["stage"][-1]
    picked = [index for index, stage in enumerate(columns["stage"]) if stage == final]

    def part(group, index):
        return {name: values[index] for name, values in columns.get(group, {}).items()}

    return [
        {
            "step": columns["step"][index],
            "oracle_accuracy": columns["oracle_accuracy"][index],
            "scores": part("scores", index),
            "signals": part("signals", index),
        }
        for index in picked
    ]


def mean_std(values):
    """(mean, sample standard deviation or None for a single value) of floats.

    Raises:
        ValueError: without values.
    """
    values = [float(value) for value in values]
    if not values:
        raise ValueError("Expected at least one value; received none.")
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True)
class Paired:
    """Outcome of `paired`.

    Attributes:
        count: pairs.
        difference: mean of first minus second.
        wins, ties, losses: of the first.
        p_t, p_wilcoxon: two-sided, None where the test is undefined (a single pair, no difference anywhere; the t-test
            where all differ alike).
    """

    count: int
    difference: float
    wins: int
    ties: int
    losses: int
    p_t: float | None
    p_wilcoxon: float | None


def paired(first, second):
    """Compares pairs of accuracies by Student's paired t-test and Wilcoxon's signed-rank test.

    Pairs are taken as independent; seeds of one task are so only in part, so that p is a lower bound.

    Args:
        first, second: sequences of floats in [0, 1], equally long.

    Returns:
        `Paired`.

    Raises:
        ValueError: without pairs, or with unequal lengths.

    Example:
        >>> paired([0.6, 0.7, 0.9], [0.5, 0.5, 0.9]).wins
        2
    """
    from scipy.stats import ttest_rel, wilcoxon

    first, second = np.asarray(first, "float64"), np.asarray(second, "float64")
    if first.shape != second.shape or first.size == 0:
        raise ValueError(f"Expected two equally long, not empty sequences; received {first.shape}, {second.shape}.")
    difference = first - second
    decided = np.abs(difference) >= TIE
    p_t = p_wilcoxon = None
    if decided.any() and first.size > 1:
        p_wilcoxon = float(wilcoxon(np.where(decided, difference, 0.0), zero_method="wilcox").pvalue)
        # Equal gains leave a spread of rounding alone, which would make any of them certain.
        p_t = float(ttest_rel(first, second).pvalue) if np.ptp(difference) >= TIE / 10 else None
    wins, losses = int((decided & (difference > 0)).sum()), int((decided & (difference < 0)).sum())
    return Paired(len(first), float(difference.mean()), wins, len(first) - wins - losses, losses, p_t, p_wilcoxon)


def pairs_of(runs, first, second, choice="selected"):
    """Accuracies of two rows on the (task, seed) that both have.

    Args:
        runs: list of `Run`, of one dataset and one setting.
        first, second: (method, isra).
        choice: "selected", "last" or "oracle".

    Returns:
        Two lists of float.
    """
    found = {row: {run.place: run.accuracy[choice] for run in runs if run.cell.row == row} for row in (first, second)}
    places = [
        place for place, value in found[first].items() if value is not None and found[second].get(place) is not None
    ]
    return [found[first][place] for place in places], [found[second][place] for place in places]


def spearman(first, second):
    """Rank correlation in [-1, 1], ties by mean ranks; None where one of the sides does not vary."""
    from scipy.stats import rankdata

    first, second = rankdata(first), rankdata(second)
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])
