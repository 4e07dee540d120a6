"""What the guard of `train` would have kept of a benchmark's runs, which train without it: does it do good, does it do harm.

Only for runs on images that `train` would have guarded and that were not, whose signals were taken against their own model from
before adaptation, as `train` takes them.
"""

from isra_keras.benchmarking.grid import FOLDERS
from isra_keras.benchmarking.statistics import mean_std
from isra_keras.benchmarking.tables import Table, Value, method_name, rows_in_order
from isra_keras.benchmarking.votes import SOURCE_ONLY
from isra_keras.methods import get_method
from isra_keras.model import WARMUP
from isra_keras.selection.collapse import FRESH_LIMITS, LIMITS, collapse_reasons
from isra_keras.training.guarded import KNOWS_SOURCE
from isra_keras.training.results import is_better

NOTE = (
    "Each run's checkpoint as it was picked, without a guard, and the one that the guard of `train` keeps: the best sound "
    "evaluation, or the model from before adaptation where none is sound. Collapsed: runs without a sound one. Gains and losses "
    "are the largest of a single run, in points. No target label decides."
)


def guarded_pick(run):
    """(accuracy in [0, 1] of the checkpoint that the guard keeps, whether no evaluation of the adaptation is sound).

    None for a run that has no model from before adaptation to go back to, or none that is worth it, as `train` judges it.
    """
    entries, final = _entries(run)
    names = {WARMUP} | {stage.name for stage in _method_of(run).stages() if stage.source_only}
    before = [entry for entry in entries if entry["stage"] in names - {final}]
    if not before:
        return None
    if not run.can_collapse and (before[-1]["scores"].get("source_accuracy") or 0.0) < KNOWS_SOURCE:
        return None
    limits, best = LIMITS if run.can_collapse else FRESH_LIMITS, before[-1]
    adapted = [entry for entry in entries if entry["stage"] == final]
    for entry in adapted:
        entry["collapsed"] = bool(collapse_reasons(entry["signals"], limits))
        if is_better(entry, best, run.line["config"].get("select", "mean_entropy"), final):
            best = entry
    return best["accuracy"], all(entry["collapsed"] for entry in adapted)


def guard_table(runs, title):
    """`Table` of `guarded_pick` beside what was picked, a row for each method; without rows where no run has such a pick."""
    rows, every = [], []
    for row in rows_in_order(runs):
        own = [run for run in runs if run.cell.row == row and _is_for_the_guard(run)]
        found = [(run.accuracy["selected"], *pick) for run in own if (pick := guarded_pick(run)) is not None]
        if found:
            rows.append(_row(method_name(row), found))
            every += found
    rows += [_row("all", every)] if len(rows) > 1 else []
    columns = ["Method", "runs", "collapsed", "as picked", "with the guard", "largest gain", "largest loss"]
    return Table(title, columns, rows, NOTE)


def _is_for_the_guard(run):
    """Whether a run trained without a guard where `train` has one, and its signals are those that `train` takes."""
    config = run.line["config"]
    probed = config.get("backbone") == "features" or config.get("freeze_backbone") and run.cell.dataset != FOLDERS
    return not (probed or config.get("guard") or config.get("reference_quirks") or run.cell.row == SOURCE_ONLY)


def _row(name, found):
    plain, kept = ([100 * one[index] for one in found] for index in (0, 1))
    gains = [with_guard - without for with_guard, without in zip(kept, plain)]
    return [name, str(len(found)), str(sum(one[2] for one in found)), Value(mean_std(plain)[0]), Value(mean_std(kept)[0]),
            Value(max(gains), signed=True), Value(min(gains), signed=True)]  # fmt: skip


def _entries(run):
    """(every evaluation of the run as a dict, name of the final stage)."""
    columns = run.line["evaluations"]
    entries = [
        {"step": step, "stage": stage, "accuracy": accuracy,
         **{group: {name: values[index] for name, values in columns[group].items()} for group in ("scores", "signals")}}
        for index, (step, stage, accuracy) in enumerate(zip(columns["step"], columns["stage"], columns["oracle_accuracy"]))
    ]  # fmt: skip
    return entries, columns["stage"][-1]


def _method_of(run):
    return get_method(run.cell.method)(**run.line["config"].get("method_options", {}))
