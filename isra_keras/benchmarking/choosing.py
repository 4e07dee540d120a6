"""The text of `--choose`: what to ship for each target of a benchmark, and which model to take for one's own photos."""

import shlex
from dataclasses import replace

import numpy as np

from isra_keras.benchmarking.evidence import candidate_of, candidates_of, labelled
from isra_keras.benchmarking.grid import FOLDERS
from isra_keras.benchmarking.own_data import comparable
from isra_keras.benchmarking.report_parts import failures_of, groups_of
from isra_keras.benchmarking.shipping import deliveries, delivery_table, summary_table
from isra_keras.benchmarking.statistics import runs_of
from isra_keras.benchmarking.tables import NONE, Table, Value, method_name
from isra_keras.benchmarking.votes import beside_source_only, unpack
from isra_keras.benchmarking.voting import elections, is_source_only, votes_by_target, voting_table
from isra_keras.errors import UserError
from isra_keras.selection.choose import ENSEMBLE, badness, choose
from isra_keras.selection.collapse import BESIDE_LIMITS
from isra_keras.selection.committee import FEWEST, agreement, chosen

SHOWN = ("mean_entropy", "information_maximisation", "snd", "dev")


def describe_runs(runs, newest=None):
    """Text: the models of a user's own folders, the best first, and which one to take.

    Each run stands with the one checkpoint that it kept. With three or more sound models the more trusted half and source
    only vote, and these are ordered by how often they agree with the outcome, else by the guarded choice by the ensemble
    of scores. No target label is used; an accuracy, where the folder has labels, stands beside it.

    Args:
        runs: list of `Run` of the dataset `FOLDERS`.
        newest: line of the newest of them, the last one if None; runs on other photos than its own are left out.
    """
    every, newest = runs, newest or runs[-1].line
    runs = [run for run in every if comparable(run.line, newest)]
    candidates = [kept_candidate(run, runs) for run in runs]
    shipped, ranks = choose(candidates, ENSEMBLE), badness(candidates, ENSEMBLE)
    best, reason = candidates.index(shipped.candidate), shipped.reason
    sound = [number for number in range(len(runs)) if number not in shipped.rejected]
    trust = badness([candidates[number] for number in sound], ENSEMBLE)  # beside each other alone, as in `voting.by_trust`
    agreed = agreements(runs, [sound[place] for place in np.argsort(trust, kind="stable")])
    if agreed:
        best = max(agreed, key=agreed.get)
        reason = f"of {len(agreed)} that vote it agrees most with their vote"
        equal = [model_name(runs[number]) for number in agreed if number != best and agreed[number] == agreed[best]]
        if equal:
            reason += f"; {' and '.join(equal)} {'agrees' if len(equal) == 1 else 'agree'} as much, with no better scores"
    order = sorted(range(len(runs)), key=lambda number: (number != best, number in shipped.rejected,
                                                         -agreed.get(number, 0.0), ranks[number]))  # fmt: skip
    rows = []
    for number in order:
        scores, accuracy = candidates[number].scores, runs[number].accuracy["selected"]
        rows.append([
            model_name(runs[number]), str(candidates[number].step),
            *(Value(scores.get(name), digits=3) for name in SHOWN), Value(ranks[number], digits=1),
            f"{agreed[number]:.0%}" if number in agreed else NONE,
            "; ".join(shipped.rejected.get(number, ())) or "sound", Value(None if accuracy is None else 100 * accuracy),
        ])  # fmt: skip
    columns = ["Model", "checkpoint", *(name.replace("_", " ") for name in SHOWN), "mean rank", "agrees with the vote",
               "looks", "accuracy"]  # fmt: skip
    hidden = [] if agreed else ["agrees with the vote"]
    hidden += ["accuracy"] if all(run.accuracy["selected"] is None for run in runs) else []
    kept = [index for index, name in enumerate(columns) if name not in hidden]
    note = "Ordered without target labels: by the " + (
        "agreement with the vote" if agreed else "mean rank over the label-free scores")  # fmt: skip
    note += ", collapsed models last."
    if agreed and len(agreed) < len(sound):
        steady = any(is_source_only(runs[number]) for number in agreed)
        note += (f" {len(agreed)} of {len(sound)} sound models vote, those that the scores trust more" + " and source only" * steady +
                 f'; the others have "{NONE}" there.')  # fmt: skip
    if "accuracy" not in hidden:
        note += " The accuracy is by the folder's own labels, which decide nothing here."
    if len(runs) < len(every):
        note += (f" Left out: {len(every) - len(runs)} of {len(every)} models, whose target had other photos than that of the "
                 "newest one (added, removed or renamed since), or whose classes were others; another --out trains all anew.")  # fmt: skip
    table = Table(runs[best].cell.task, [columns[index] for index in kept],
                  [[row[index] for index in kept] for row in rows], note).markdown()  # fmt: skip
    taken = f"Take {model_name(runs[best])}: {reason}."
    text = f"{table}\n\n{taken}\n  python -m isra_keras.predict {_folder(runs[best])} PHOTOS"
    if not agreed:
        return text
    first, *others = [_folder(runs[number]) for number in order if number in agreed]
    return f"{text}\n\nOr let these {len(agreed)} vote, which is steadier still:\n  python -m isra_keras.predict {first} " + (
        " ".join(f"--with {one}" for one in others) + " PHOTOS"
    )


def model_name(run):
    """ "BA3US, seed 0"."""
    return f"{method_name(run.cell.row)}, seed {run.cell.seed}"


def agreements(runs, sound):
    """{position of a run: part of the photos on which it says what the vote says}.

    Args:
        runs: list of `Run`, all on the same photos.
        sound: positions of those that may vote, the most trusted first.

    Returns:
        dict of those that vote, see `selection.committee.chosen`; empty with fewer than `FEWEST` that may, or where their lines
        are from before there were votes.
    """
    voters = [number for number in sound if runs[number].line.get("vote")]
    if len(voters) < FEWEST:
        return {}
    members, steady = chosen(voters, lambda number: is_source_only(runs[number]))
    found = agreement(np.stack([unpack(runs[number].line["vote"])[0] for number in members]), steady)
    return dict(zip(members, found.tolist()))


def _folder(run):
    return shlex.quote(run.line.get("run", "RUN"))


def kept_candidate(run, runs=()):
    """The checkpoint that a run kept, of whatever stage, as a `Candidate`; `runs` are all on the same photos."""
    columns = run.line["evaluations"]
    index = columns["step"].index(run.line["selected"]["step"])
    scores, signals = (
        {name: values[index] for name, values in columns[group].items()} for group in ("scores", "signals")
    )
    one = candidate_of(run, columns["step"][index], scores, signals, columns["oracle_accuracy"][index])
    return one if run.can_collapse else replace(one, signals=beside_source_only(run, runs), limits=BESIDE_LIMITS)


def describe_choices(lines):
    """Text of `--choose`: Markdown tables for each dataset and setting, and for each pair of a user's own folders, of which those
    that show the same photos to the same classes stand together.

    Args:
        lines: finished and failed lines, the newest one last.

    Raises:
        UserError: if nothing is finished.
    """
    finished = runs_of(lines)
    groups = groups_of(finished)
    if not groups:
        raise UserError("Expected finished cells to choose from; there are none.")
    parts = []
    own = [run for runs in groups.values() for run in runs if run.cell.dataset == FOLDERS]
    for newest in [run.line for run in finished if run.cell.dataset == FOLDERS][::-1]:
        if any(run.line is newest for run in own):
            here = [comparable(run.line, newest) or run.line.get("folders") == newest.get("folders") for run in own]
            parts.append(describe_runs([run for run, stays in zip(own, here) if stays], newest))
            own = [run for run, stays in zip(own, here) if not stays]
    for title, runs in groups.items():
        if runs[0].cell.dataset == FOLDERS:
            continue
        known = labelled(runs)
        if known:
            parts += [delivery_table(deliveries(known), f"{title}: what would be shipped").markdown()]
            gone = failures_of(lines, known)
            parts += [summary_table(known, f"{title}: means", failed=gone).markdown()]
            together = voting_table(known, f"{title}: voting together", gone)
            if together.rows:
                parts += [votes_by_target(elections(known), f"{title}: votes").markdown(), together.markdown()]
        for place in dict.fromkeys(run.place for run in runs if run not in known):
            shipped = choose([one for run in runs if run.place == place for one in candidates_of(run)])
            parts.append(f"{title}, {place[0]}, seed {place[1]}: {shipped.candidate.name} at step "
                         f"{shipped.candidate.step} ({shipped.reason})")  # fmt: skip
    return "\n\n".join(parts)
