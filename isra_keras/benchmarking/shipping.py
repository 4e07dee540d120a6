"""What would be shipped for each target without its labels, and how far that is from the oracle."""

from dataclasses import dataclass, field

from isra_keras.benchmarking.evidence import candidates_of, labelled, score_names
from isra_keras.benchmarking.report_parts import note_of
from isra_keras.benchmarking.statistics import mean_std
from isra_keras.benchmarking.tables import Table, Value, method_name, rows_in_order, tasks_in_order
from isra_keras.selection.choose import DEFAULT_SCORE, choose

HARM = 2.0
"""A shipped model may be this many points below source only."""
REFERENCES = ("last", "selected")
"""The source-only models that a shipped one is held against: after all iterations, and the one picked without labels."""


@dataclass(frozen=True)
class Delivery:
    """What is shipped for one (task, seed).

    Attributes:
        place: (task, seed).
        shipped: `Shipped`; the candidate's payload is its accuracy.
        oracle: accuracy of the best checkpoint of all.
        source_only: {"last", "selected": accuracy} of the source-only run, None without such a run.
    """

    place: tuple
    shipped: object = field(hash=False)
    oracle: float
    source_only: dict | None = field(hash=False)

    @property
    def accuracy(self):
        return self.shipped.candidate.payload



def deliveries(runs, score=DEFAULT_SCORE, guard=True):
    """One `Delivery` for each (task, seed) of labelled runs, in the order of the tasks."""
    places = {}
    for run in labelled(runs):
        places.setdefault(run.place, []).append(run)
    order = tasks_in_order(runs)
    found = []
    for place in sorted(places, key=lambda place: (order.index(place[0]), place[1])):
        candidates = [one for run in places[place] for one in candidates_of(run)]
        plain = [run for run in places[place] if run.cell.row == ("source_only", "off")]
        found.append(Delivery(place, choose(candidates, score, guard=guard), max(one.payload for one in candidates),
                              plain[0].accuracy if plain else None))  # fmt: skip
    return found


def delivery_table(found, title):
    """`Table` of the task, what is shipped, its accuracy beside source only's and the oracle's."""
    rows = []
    for one in found:
        picked = one.shipped.candidate
        rows.append([
            f"{one.place[0]}, seed {one.place[1]}", f"{picked.name} at {picked.step}", Value(100 * one.accuracy),
            *(Value(gain(one.accuracy, one.source_only, which), signed=True) for which in REFERENCES),
            Value(100 * one.oracle), Value(100 * (one.oracle - one.accuracy)), str(len(one.shipped.rejected)),
        ])  # fmt: skip
    columns = ["Target", "shipped", "accuracy", *(f"against source only, {which}" for which in REFERENCES), "ORACLE",
               "below the oracle", "collapsed"]  # fmt: skip
    note = "Collapsed: evaluations that were left out, by label-free signals alone. " + note_of("delivery")
    return Table(title, columns, rows, note)


def summary_table(runs, title, score=DEFAULT_SCORE, failed=()):
    """`Table` of the means: shipped with and without the guard against collapse, and every single method.

    Args:
        runs: finished `Run`s of one dataset and setting.
        title: of the table.
        score: of the choice.
        failed: {(row, place)} of cells that failed: no reason to leave the pair out for all others.
    """
    rows, runs = [], complete(labelled(runs), failed)
    if not runs:
        return Table(title, ["Model"], [], "No target has all methods yet.")
    pairs = len({run.place for run in runs})
    for name, guard in ((f"Shipped ({score})", True), ("the same without the guard against collapse", False)):
        found = deliveries(runs, score, guard)
        rows.append([name, Value(100 * mean_std(one.accuracy for one in found)[0]), *_harms_of(found)])
    source = {run.place: run.accuracy for run in runs if run.cell.row == ("source_only", "off")}
    for row in rows_in_order(runs):
        own = [run for run in runs if run.cell.row == row]
        accuracies = [run.accuracy["selected"] for run in own]
        name = method_name(row) + (f" ({len(own)} of {pairs} pairs, the others failed)" if len(own) < pairs else "")
        beside = [source.get(run.place) for run in own]
        rows.append([name, Value(100 * mean_std(accuracies)[0]), *harms(accuracies, beside)])
    oracle = mean_std(one.oracle for one in deliveries(runs, score))[0]
    note = (
        f"Over the {pairs} pairs of task and seed that all rows have; single methods with their label-free checkpoint. "
        f"UPPER BOUND: the best of all methods and checkpoints BY target labels has {100 * oracle:.2f} on average."
    )
    return Table(title, ["Model", "mean accuracy", *HARM_COLUMNS], rows, note)


def rules_table(runs, title, failed=()):
    """`Table` of every score as the rule of choice over all methods and checkpoints, with and without the guard."""
    rows, runs = [], complete(labelled(runs), failed)
    for score in score_names(runs) if runs else ():
        for guard in (True, False):
            found = deliveries(runs, score, guard)
            rows.append([
                score.replace("_", " ") + (", guarded" if guard else ""),
                Value(100 * mean_std(one.accuracy for one in found)[0]),
                Value(100 * mean_std(one.oracle - one.accuracy for one in found)[0]),
                *_harms_of(found),
            ])  # fmt: skip
    return Table(title, ["Rule", "mean accuracy", "below the oracle", *HARM_COLUMNS], rows, note_of("rules"), best=(1,))


HARM_COLUMNS = [column for which in REFERENCES for column in
                (f"worst against source only, {which}", f"pairs more than {HARM:.0f} points below it")]  # fmt: skip


def gain(accuracy, source_only, which):
    """Points of accuracy above a source-only run's "last" or "selected" model, None without such a run."""
    return None if source_only is None else 100 * (accuracy - source_only[which])


def harms(accuracies, source_only):
    """The cells of `HARM_COLUMNS`, from accuracies and what the source-only runs of the same pairs have (or None)."""
    cells = []
    for which in REFERENCES:
        gains = [gain(*pair, which) for pair in zip(accuracies, source_only) if pair[1] is not None]
        cells += [Value(min(gains), signed=True), str(sum(one < -HARM for one in gains))] if gains else ["–", "–"]
    return cells


def _harms_of(found):
    return harms([one.accuracy for one in found], [one.source_only for one in found])


def complete(runs, failed=()):
    """The runs on those (task, seed) that every row has, so that means compare like with like.

    Args:
        runs: list of `Run`.
        failed: {(row, place)} that count as had.
    """
    rows = {run.cell.row for run in runs}
    found = {}
    for row, place in [*((run.cell.row, run.place) for run in runs), *failed]:
        found.setdefault(place, set()).add(row)
    return [run for run in runs if found[run.place] >= rows]
