"""How far each label-free score can be trusted, over a benchmark's own runs: within a run and between methods.

Target labels are used here, and only here, to judge the scores; nothing of it flows back into a run.
"""

import numpy as np

from isra_keras.benchmarking.grid import FOLDERS
from isra_keras.benchmarking.statistics import mean_std, spearman
from isra_keras.benchmarking.tables import NONE, Table, Value
from isra_keras.selection.choose import ANCHOR, ENSEMBLE, Candidate, badness, rank
from isra_keras.selection.scores import SCORES

LAST = "last evaluation"


def candidates_of(run):
    """Every evaluation of a run as a `Candidate`; the payload is its accuracy in [0, 1]."""
    return [
        candidate_of(run, entry["step"], entry["scores"], entry["signals"], entry["oracle_accuracy"])
        for entry in run.evaluations
    ]


def candidate_of(run, step, scores, signals, accuracy):
    """An evaluation of a run as a `Candidate`.

    Source only has no `ANCHOR` where its reference was its own first evaluation, as that of images is, and of a user's own
    folders: it would be held to what it had not learned yet.
    """
    name = run.cell.method if run.cell.isra == "off" else f"{run.cell.method} + ISRA ({run.cell.isra})"
    source_only = run.cell.row == ("source_only", "off")
    signals = dict(signals) if run.can_collapse else {}
    config = run.line["config"]
    probed = config.get("backbone") == "features" or config.get("freeze_backbone") and run.cell.dataset != FOLDERS
    if source_only and not probed:
        signals.pop(ANCHOR, None)
    return Candidate(name, step, scores, signals, source_only, accuracy)


def score_names(runs):
    """Scores that every run has, then the ensemble."""
    present = set.intersection(*({name for entry in run.evaluations for name in entry["scores"]} for run in runs))
    return [name for name in SCORES if name in present] + [ENSEMBLE]


def within_runs(runs):
    """For each score: its rank correlation with accuracy along a run, and the checkpoint that it picks.

    Args:
        runs: list of `Run` with target labels.

    Returns:
        {score: {"correlation": mean or None, "correlated": runs it could be computed in, "accuracy": mean of the
        picked checkpoints, "gap": mean distance to the best checkpoint}}; "last evaluation" too, without correlation.
    """
    table = {name: {"correlation": [], "accuracy": [], "gap": []} for name in [*score_names(runs), LAST]}
    for run in runs:
        candidates = candidates_of(run)
        accuracies = [one.payload for one in candidates]
        for name, entry in table.items():
            if name == LAST:
                picked = accuracies[-1]
            else:
                correlation = spearman(-badness(candidates, name), accuracies)
                entry["correlation"] += [] if correlation is None else [correlation]
                picked = accuracies[rank(candidates, name)]
            entry["accuracy"].append(picked)
            entry["gap"].append(max(accuracies) - picked)
    return {name: _means(entry) for name, entry in table.items()}


def between_methods(runs):
    """For each score: how it orders the methods on a target, and the method and checkpoint that it picks.

    On each (task, seed) every run stands with the checkpoint that the score picks in it.

    Returns:
        As `within_runs`; the gap is to the best checkpoint of the best method.
    """
    places = {}
    for run in runs:
        places.setdefault(run.place, []).append(run)
    places = {place: group for place, group in places.items() if len(group) > 1}
    if not places:
        return {}
    table = {name: {"correlation": [], "accuracy": [], "gap": []} for name in score_names(runs)}
    for group in places.values():
        pools = [candidates_of(run) for run in group]
        best = max(one.payload for pool in pools for one in pool)
        for name, entry in table.items():
            chosen = [pool[rank(pool, name)] for pool in pools]
            correlation = spearman(-badness(chosen, name), [one.payload for one in chosen])
            entry["correlation"] += [] if correlation is None else [correlation]
            picked = chosen[rank(chosen, name)].payload
            entry["accuracy"].append(picked)
            entry["gap"].append(best - picked)
    return {name: _means(entry) for name, entry in table.items()}


def evidence_table(found, title, note):
    """`Table` of `within_runs` or `between_methods`."""
    rows = []
    for name, entry in found.items():
        correlation = Value(entry["correlation"], digits=2, signed=True) if entry["correlation"] is not None else NONE
        rows.append([
            name.replace("_", " "), correlation, str(entry["correlated"]), Value(100 * entry["accuracy"]),
            Value(100 * entry["gap"]),
        ])  # fmt: skip
    columns = ["Score", "rank correlation", "over", "accuracy of its choice", "below the oracle"]
    return Table(title, columns, rows, note, best=(3,))


def labelled(runs):
    """The runs whose evaluations all have an accuracy."""
    return [run for run in runs if all(entry["oracle_accuracy"] is not None for entry in run.evaluations)]


def _means(entry):
    return {
        "correlation": float(np.mean(entry["correlation"])) if entry["correlation"] else None,
        "correlated": len(entry["correlation"]),
        "accuracy": mean_std(entry["accuracy"])[0],
        "gap": mean_std(entry["gap"])[0],
    }
