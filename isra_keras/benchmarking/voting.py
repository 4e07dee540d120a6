"""The models of a target voting together: what the vote gets, beside its members and beside the choice of one model."""

from dataclasses import dataclass, field

import numpy as np

from isra_keras.benchmarking.evidence import candidates_of, labelled
from isra_keras.benchmarking.grid import FOLDERS
from isra_keras.benchmarking.shipping import HARM_COLUMNS, REFERENCES, complete, deliveries, gain, harms
from isra_keras.benchmarking.statistics import mean_std
from isra_keras.benchmarking.tables import Table, Value, method_name, rows_in_order, tasks_in_order
from isra_keras.benchmarking.votes import SOURCE_ONLY, beside_source_only, unpack
from isra_keras.selection.choose import badness
from isra_keras.selection.collapse import BESIDE_LIMITS, is_collapsed
from isra_keras.selection.committee import agreement, chosen, vote

NOTE = (
    "Every model may vote with the checkpoint that it would be shipped with: of its evaluations that do not look collapsed the "
    "best by the label-free score of the run, mean entropy if none was named. A model without such an evaluation may not, nor a "
    "network that started from nothing and does not look sound, at half of the limits, beside the finished source-only model. Of "
    "those that may, the half with the best mean ranks over the label-free scores votes (five at least), and source only always. "
    "The class with most votes wins; where none has more than a third of them, source only's stays; of equals the one with more "
    "votes over all rows, then that of the model with the best mean rank. No target label is used. `predict --with` counts the "
    "votes of the runs that are named so too, with those that they gave their own target and, at last, the mean probabilities. By lot: what is to be expected if "
    "ties were drawn instead. How many vote and what a winner needs was settled with the accuracies of isra_keras's own benchmarks "
    "(PACS, Office-Caltech10, glyphs) in sight, among the ways of its benchmarks/voting_rules.py; how ties end, with those of PACS. "
)


EVERY = "Vote of all that look sound, most votes alone"


@dataclass(frozen=True)
class Election:
    """A vote on one (task, seed).

    Attributes:
        place: (task, seed).
        members: list of `Run`, those of the sound ones that vote, the most trusted first.
        accuracy: of the vote, in [0, 1].
        drawn: the accuracy to be expected if lots were drawn among the classes with most votes.
        standing: (`Run`, accuracy) of the member that agrees most with the vote.
        source_only: {"last", "selected": accuracy} of the source-only run, None without such a run.
    """

    place: tuple
    members: list = field(hash=False)
    accuracy: float
    drawn: float
    standing: tuple = field(hash=False)
    source_only: dict | None = field(hash=False)


def elections(runs, members=lambda run: True, every=False):
    """One `Election` for each (task, seed) of labelled runs, in the order of the tasks.

    Lines from before there were votes are passed over: a (task, seed) without any vote has no election, and a row of the
    tables that lacks its vote where others know theirs has none anywhere.

    Args:
        runs: list of `Run` of one dataset and setting.
        members: function of a `Run`: whether it may vote.
        every: all that may vote do, and most votes win however few they are.
    """
    places, runs = {}, _of_voting_rows(labelled(runs))
    if not runs:
        return []
    for run in runs:
        places.setdefault(run.place, []).append(run)
    order = tasks_in_order(runs)
    found = []
    for place in sorted(places, key=lambda place: (order.index(place[0]), place[1])):
        group = places[place]
        voters = [run for run in group if run.line.get("vote") and members(run)
                  and not is_collapsed(beside_source_only(run, group), BESIDE_LIMITS)]  # fmt: skip
        if voters:
            found.append(_elect(place, by_trust(voters), group, every))
    return found


def _of_voting_rows(runs):
    """The runs on targets where votes are known, of the rows that know theirs on all of these.

    A user's own photos may have changed between two runs: these vote in `choosing.describe_runs`.
    """
    runs = [run for run in runs if run.cell.dataset != FOLDERS]
    places = {run.place for run in runs if "vote" in run.line}
    silent = {run.cell.row for run in runs if run.place in places and "vote" not in run.line}
    return [run for run in runs if run.place in places and run.cell.row not in silent]


def by_trust(voters):
    """Runs with a vote, the best mean rank over the label-free scores of the voting checkpoints first."""
    standing = [
        next(one for one in candidates_of(run) if one.step == run.line["vote"]["step"]) for run in voters
    ]  # fmt: skip
    return [voters[index] for index in np.argsort(badness(standing), kind="stable")]


def _elect(place, voters, group, every):
    members, steady = (voters, None) if every else chosen(voters, is_source_only)
    given, right = zip(*(unpack(run.line["vote"]) for run in members))
    given, right = np.stack(given), np.stack(right)
    winners, _ = vote(given, steady)
    # Who voted for the winner knows whether it is right.
    accuracy = float(np.any(right & (given == winners), axis=0).mean())
    drawn = float(_expected_by_lot(given, right, steady).mean())
    closest = int(np.argmax(agreement(given, steady)))
    plain = [run for run in group if is_source_only(run)]
    return Election(
        place,
        members,
        accuracy,
        drawn,
        (members[closest], float(right[closest].mean())),
        plain[0].accuracy if plain else None,
    )


def is_source_only(run):
    """Whether a `Run` is of the plain source-only model."""
    return run.cell.row == SOURCE_ONLY


def _expected_by_lot(given, right, steady=None):
    """(N,) probability in [0, 1] that a vote is right whose ties are drawn: given, right (M, N), steady as in `vote`."""
    alike = (given[:, None, :] == given[None, :, :]).sum(axis=0)  # votes that each member's class has
    leads = alike == alike.max(axis=0)
    classes = (leads / alike).sum(axis=0)  # each class with most votes once
    drawn = np.any(leads & right, axis=0) / classes
    return drawn if steady is None else np.where(3 * alike.max(axis=0) > len(given), drawn, right[steady])


def voting_table(runs, title, failed=()):
    """`Table` of the means: the vote, of all that may, of those without ISRA, its closest member, the choice of one model.

    Args:
        runs: finished `Run`s of one dataset and setting.
        title: of the table.
        failed: of `failures_of`.

    Returns:
        A table without rows where no target has all votes.
    """
    runs, found = _electorate(runs, failed)
    if not found:
        return Table(title, ["Model", "mean accuracy", *HARM_COLUMNS], [])
    plain = elections(runs, lambda run: run.cell.isra == "off")  # where such a model has a vote
    source = [one.source_only for one in found]
    rows = [_row("Vote", [one.accuracy for one in found], source),
            _row("Vote, ties by lot", [one.drawn for one in found], source),
            _row(EVERY, [one.accuracy for one in elections(runs, every=True)], source)]  # fmt: skip
    if plain and any(run.cell.isra != "off" for run in runs):
        name = "Vote of those without ISRA" + f", {len(plain)} of {len(found)} pairs" * (len(plain) < len(found))
        rows.append(_row(name, [one.accuracy for one in plain], [one.source_only for one in plain]))
    rows.append(_row("The one that agrees most with the vote", [one.standing[1] for one in found], source))
    rows.append(_row("Shipped (ensemble)", [one.accuracy for one in deliveries(runs)], source))
    singles = {row: [run.accuracy["selected"] for run in runs if run.cell.row == row] for row in rows_in_order(runs)}
    whole = {row: mean_std(accuracies)[0] for row, accuracies in singles.items() if len(accuracies) == len(found)}
    members = [len(one.members) for one in found]
    note = NOTE + (
        f"Over {len(found)} pairs of task and seed, of {len(singles)} models {min(members)} to {max(members)} vote."
    )
    if whole:
        best = max(whole, key=whole.get)
        note += (f" The best single one in hindsight, which nobody knows without labels, is {method_name(best)} with "
                 f"{100 * whole[best]:.2f}.")  # fmt: skip
    return Table(title, ["Model", "mean accuracy", *HARM_COLUMNS], rows, note, best=(1,))


def overall_table(groups, title):
    """`Table` of the means over the targets of all data sets: the vote, and every method that ran on all of them.

    Args:
        groups: list of (runs, failed) of one data set each, as `voting_table` takes them.
        title: of the table.

    Returns:
        A table without rows where fewer than two data sets have votes.
    """
    voted = [(runs, found) for runs, found in (_electorate(*group) for group in groups) if found]
    table = Table(title, ["Model", "mean accuracy", *HARM_COLUMNS], [], best=(1,))
    if len(voted) < 2:
        return table
    found = [one for _, elected in voted for one in elected]
    source = [one.source_only for one in found]
    every = [one.accuracy for runs, _ in voted for one in elections(runs, every=True)]
    table.rows = [_row("Vote", [one.accuracy for one in found], source), _row(EVERY, every, source),
                  _row("The one that agrees most with the vote", [one.standing[1] for one in found], source)]  # fmt: skip
    for row in rows_in_order(voted[0][0]):
        own = [{run.place: run.accuracy["selected"] for run in runs if run.cell.row == row} for runs, _ in voted]
        if all(one.place in known for known, (_, elected) in zip(own, voted) for one in elected):
            accuracies = [known[one.place] for known, (_, elected) in zip(own, voted) for one in elected]
            table.rows.append(_row(method_name(row), accuracies, source))
    table.note = f"Over the {len(found)} pairs of task and seed of all data sets on which models voted; single methods with " + (
        "their label-free checkpoint."
    )
    return table


def _electorate(runs, failed=()):
    """(runs that voted, `elections` of them) on those (task, seed) that all voting rows have; of three rows at least."""
    runs = _of_voting_rows(labelled(runs))
    rows = {run.cell.row for run in runs}
    runs = complete(runs, [(row, place) for row, place in failed if row in rows])
    found = elections(runs) if len({run.cell.row for run in runs}) > 2 else []
    voted = {one.place for one in found}
    return [run for run in runs if run.place in voted], found


def _row(name, accuracies, source):
    return [name, Value(100 * mean_std(accuracies)[0]), *harms(accuracies, source)]


def votes_by_target(found, title):
    """`Table` of the `elections` one by one."""
    rows = []
    for one in found:
        rows.append([
            f"{one.place[0]}, seed {one.place[1]}", str(len(one.members)), Value(100 * one.accuracy),
            *(Value(gain(one.accuracy, one.source_only, which), signed=True) for which in REFERENCES),
            f"{method_name(one.standing[0].cell.row)}", Value(100 * one.standing[1]),
        ])  # fmt: skip
    columns = ["Target", "voters", "vote", *(f"against source only, {which}" for which in REFERENCES), "agrees most",
               "its accuracy"]  # fmt: skip
    return Table(title, columns, rows, NOTE)
