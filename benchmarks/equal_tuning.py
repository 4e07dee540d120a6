"""The same trials for every method, chosen without labels.

    python benchmarks/equal_tuning.py benchmarks/results/pacs_tuning [--out benchmarks/results/pacs_tuning.md]

The lines come from a grid such as `benchmarks/grids/pacs_tuning.toml`. Every trial ships the checkpoint that `choose`
takes; on each task a method's trials are ranked by a label-free score of those checkpoints (collapsed trials last), and
the trial with the best mean rank is the method's setting; one that failed on any task, its own or another, is barred.
With `--together` ranks are averaged over methods too: one setting for all. Labels only say, afterwards, what that was
worth.
The score is information maximisation: in the runs before any tuning (seed 0, all methods) it followed accuracy best.
So the choice of the score, unlike the choice of a trial, was made with accuracies of seed 0 in sight; those runs are in
the repository's history only.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from isra_keras.benchmarking.evidence import candidates_of  # noqa: E402
from isra_keras.benchmarking.statistics import runs_of  # noqa: E402
from isra_keras.benchmarking.store import latest, read_lines  # noqa: E402
from isra_keras.benchmarking.tables import Table, method_name  # noqa: E402
from isra_keras.errors import UserError  # noqa: E402
from isra_keras.methods import METHODS  # noqa: E402
from isra_keras.selection.choose import ENSEMBLE, badness, choose  # noqa: E402
from isra_keras.selection.scores import SCORES  # noqa: E402
from isra_keras.training.recipes import DEFAULT_VARIANT  # noqa: E402

DEFAULT = "information_maximisation"


def main(argv=None):
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", nargs="+", metavar="JSONL", help="lines, or folders of them")
    parser.add_argument("--score", default=DEFAULT, choices=[*SCORES, ENSEMBLE])
    parser.add_argument("--together", action="store_true", help="one setting for all methods")
    parser.add_argument("--out", help="write the tables to this file as well")
    args = parser.parse_args(argv)
    trials = trials_of(args.lines)
    settings = choices(trials, args.score, args.together)
    tables = setting_table(trials, settings, args.score), score_table(trials, args.together)
    flags = " --together" * args.together + f" --score {args.score}" * (args.score != DEFAULT)
    text = "\n\n".join(table.markdown() for table in tables)
    text = f"Written by `python benchmarks/equal_tuning.py {' '.join(args.lines)}{flags}`.\n\n{text}\n"
    print(text)
    if args.out:
        Path(args.out).write_text(text, encoding="utf-8")


def trials_of(paths):
    """{method: {setting as JSON: {task: `Run`, or None where the trial failed}}}, in the order of the methods.

    Raises:
        UserError: two finished runs of one trial on one task, of two seeds or data sets.
    """
    found = defaultdict(lambda: defaultdict(dict))
    for line in latest(read_lines(paths)).values():
        cell = line["cell"]
        run = next(iter(runs_of([line])), None)
        setting = cell["given"] | ({"isra": cell["isra"]} if cell["isra"] != "off" else {})
        trial = found[cell["method"]][json.dumps(setting, sort_keys=True)]
        known = trial.get(cell["task"], run)
        if known and run and known is not run:
            of = ", ".join(f"{one.cell.dataset}, seed {one.cell.seed}" for one in (known, run))
            raise UserError(f"Expected one run of each trial on a task; received two of {cell['method']} {words(json.dumps(setting))} "
                            f"on {cell['task']} ({of}). Give the lines of one data set and one seed.")  # fmt: skip
        trial[cell["task"]] = run if known else None  # a failure, of whatever seed, bars the trial
    return {method: dict(found[method]) for method in METHODS if method in found}


def choices(trials, score, together=False):
    """{method: setting}."""
    if together:
        names = list(next(iter(trials.values())))
        ranks = np.mean([mean_ranks({name: found[name] for name in names}, score) for found in trials.values()], axis=0)
        return dict.fromkeys(trials, names[int(np.argmin(ranks))])
    return {method: chosen(found, score) for method, found in trials.items()}


def chosen(trials, score):
    """The setting with the best mean rank over tasks; the first one of equals."""
    return list(trials)[int(np.argmin(mean_ranks(trials, score)))]


def mean_ranks(trials, score):
    """(trials,) mean ranks over the tasks on which all of them ran; infinite for a trial that failed anywhere."""
    ranks = np.mean([ranks_on(trials, task, score) for task in tasks_of(trials)], axis=0)
    return np.where([any(run is None for run in one.values()) for one in trials.values()], np.inf, ranks)


def ranks_on(trials, task, score):
    """(trials,) ranks on a task, 1 the best; what failed or collapsed ranks last."""
    shipped = [one.get(task) and choose(candidates_of(one[task]), score) for one in trials.values()]
    sound = [one is not None and not _collapsed(one) for one in shipped]
    values = np.full(len(shipped), np.inf)
    if any(sound):
        values[sound] = badness([one.candidate for one, good in zip(shipped, sound) if good], score)
    return rankdata(values)


def _collapsed(shipped):
    return "looks collapsed" in shipped.reason


def tasks_of(trials):
    first, *others = trials.values()
    return [task for task in first if all(task in one for one in others)]


def accuracy(trial, score, tasks):
    """Mean accuracy over these tasks of the checkpoints that the score ships, in %; a failed task counts 0."""
    found = [choose(candidates_of(trial[task]), score).candidate.payload if trial[task] else 0.0 for task in tasks]
    return 100 * float(np.mean(found))


def setting_table(trials, settings, score):
    """Each method's setting, and what the labels say of it."""
    rows = []
    for method, found in trials.items():
        worth = {setting: accuracy(trial, score, tasks_of(found)) for setting, trial in found.items()}
        rows.append([method_name((method, "off")), len(found), words(settings[method]),
                     *(f"{value:.1f}" for value in (worth[settings[method]], worth[own(found)], max(worth.values())))])  # fmt: skip
    columns = ["Method", "trials", "setting, label-free", "accuracy", "before", "best trial BY labels"]
    tasks = tasks_of(next(iter(trials.values())))
    picked = ", which was itself picked with accuracies of seed 0 in sight" * (score == DEFAULT)
    note = (f"Mean over {', '.join(tasks)}, in %, one seed. Score: {score.replace('_', ' ')}{picked}. Before: the method's "
            "own values, with the data set's warm-up and smoothing. The last column is an upper bound.")  # fmt: skip
    return Table("Settings", columns, rows, note)


def own(trials):
    """The setting as before: nothing given, of the default variant where there are both; else the grid's first one."""
    plain = [setting for setting in trials if not set(json.loads(setting)) - {"isra"}] or list(trials)[:1]
    return next((setting for setting in plain if DEFAULT_VARIANT in setting), plain[0])


def score_table(trials, together=False):
    """What every score would have chosen."""
    rows = []
    names = [*SCORES, ENSEMBLE]
    for score in names:
        try:
            picked = choices(trials, score, together)
            means = [np.mean([accuracy(found[setting[method]], score, tasks_of(found)) for method, found in trials.items()])
                     for setting in (picked, {method: own(found) for method, found in trials.items()})]  # fmt: skip
        except (KeyError, ValueError, TypeError):
            continue
        rows.append([score.replace("_", " "), *(f"{mean:.1f}" for mean in means)])
    return Table("Scores", ["score", "its settings", "before"], rows,
                 "Mean accuracy over methods and tasks, with the checkpoints that the score ships.")  # fmt: skip


def words(setting):
    """A setting in words."""
    given = json.loads(setting)
    isra = given.pop("isra", None)
    parts = [f"{value} bottleneck" if name == "bottleneck" else f"{name} {value}"
             for name, value in {**given.pop("network_options", {}), **given}.items()]  # fmt: skip
    text = ", ".join(part.replace("_", " ") for part in parts) or "as before"
    return f"ISRA ({isra}), {text}" if isra else text


if __name__ == "__main__":
    main()
