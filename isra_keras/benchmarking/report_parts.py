"""Pieces that the report and `--choose` share: which runs belong into one table, and the notes under the tables."""

import json
import os

from isra_keras.benchmarking.grid import FOLDERS, Cell, as_given
from isra_keras.benchmarking.tables import rows_in_order

NOTES = {
    "last": "The last checkpoint of every run: no selection at all.",
    "oracle": "UPPER BOUND: the checkpoint was picked BY the target labels. Nobody without labels can have these numbers.",
    "within": "Mean over runs of Spearman's correlation between a score and the accuracy along the run's evaluations, and "
    "what a choice by the score alone would have got. Source scores are computed on training samples.",
    "between": "The same across the methods that ran on a target with one seed, each with the checkpoint that the score "
    "picks in it; the oracle is the best checkpoint of the best method.",
    "rules": "One model for each task and seed, picked by the score from all methods and checkpoints. Guarded: evaluations "
    "that look collapsed are left out (isra_keras.selection.collapse, no labels), source only stays. Over "
    "the pairs of task and seed that all rows have.",
    "delivery": "Source only: after all iterations, and the checkpoint picked without labels. UPPER BOUND, in the columns "
    "of the oracle: the best checkpoint of all runs BY target labels.",
}


def note_of(name):
    """The note under a table."""
    return NOTES[name]


def note_of_selection(runs):
    """The note under the accuracies of the selected checkpoints, as the runs' own settings have it."""
    selects = sorted({run.line["config"].get("select") or "mean_entropy" for run in runs})
    picked = "the lowest mean entropy of its predictions on the target" if selects == ["mean_entropy"] else " or ".join(selects)
    note = (f"The checkpoint of every run was picked by {picked}, without target labels. Mean ± std over seeds, in per cent. Δ, "
            "win/tie/loss and p compare ISRA with the same method without it, paired over task × seed.")  # fmt: skip
    if any(run.line["config"].get("guard") and not run.line["config"].get("reference_quirks") for run in runs):
        note += (" Under the guard against collapse: of the evaluations that do not look collapsed, or the model from before "
                 "adaptation.")  # fmt: skip
    if not any(run.line["config"].get("guard", False) for run in runs) and runs[0].cell.dataset != FOLDERS:
        note += " Runs of a benchmark train without the guard against collapse that `train` has: methods are seen as they are."
    return note


def note_of_changed_folders(runs):
    """A sentence where cells of a user's own folders were trained on different photos; "" for all others."""
    known = {}
    for run in runs:
        if "data" in run.line:
            known.setdefault(run.cell.task, set()).add(json.dumps(run.line["data"], sort_keys=True))
    changed = [task for task, found in known.items() if len(found) > 1]
    return (f" The folders of {', '.join(changed)} changed between its cells, whose accuracies are not comparable; --choose compares those "
            "of the newest photos alone.") if changed else ""  # fmt: skip


def failures_of(lines, runs):
    """{(row, (task, seed))} of the failed lines that belong to a group of runs."""
    kinds = {(run.cell.dataset, as_given(run.cell.overrides)) for run in runs}
    cells = [Cell.from_dict(line["cell"]) for line in lines if line["status"] != "done"]
    return {(cell.row, (cell.task, cell.seed)) for cell in cells if (cell.dataset, as_given(cell.overrides)) in kinds}


def groups_of(runs):
    """{title: runs} of one dataset and one setting, in order of appearance.

    Cells with other values than the recipe's (`--set`, `--iterations`) stand in tables of their own. In each group the
    runs stand in the order of the methods, whatever file they came from, so that a tie is always the same one's.
    """
    groups = {}
    for run in runs:
        groups.setdefault((run.cell.dataset, as_given(run.cell.overrides)), []).append(run)
    titles = {}
    for (dataset, given), found in groups.items():
        title = _title(dataset, given, short)
        title = title if title not in titles else _title(dataset, given, lambda name, value: value)
        order = rows_in_order(found)
        titles[title] = sorted(found, key=lambda run: (order.index(run.cell.row), run.place))
    return titles


def _title(dataset, given, shown):
    words = (f"{name} {shown(name, value)}" for name, value in given)
    return dataset + (f" ({', '.join(words)})" if given else "")


def short(name, value):
    """A value of a configuration, or of `Cell.given`, as a title has it: of a file of weights its name."""
    if name != "weights":
        return value
    return json.dumps(os.path.basename(json.loads(value))) if value.startswith('"') else os.path.basename(value)
