"""The same trials for every method, chosen without labels.

    python benchmarks/equal_tuning.py benchmarks/results/pacs_tuning [--out benchmarks/results/pacs_tuning.md]

The lines come from a grid such as `benchmarks/grids/pacs_tuning.toml`. Every trial ships the checkpoint that `choose`
takes; on each task a method's trials are ranked by a label-free score of those checkpoints (collapsed and failed trials
last), and the trial with the best mean rank is the method's setting. Labels only say, afterwards, what that was worth.
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
from isra_keras.methods import METHODS  # noqa: E402
from isra_keras.selection.choose import ENSEMBLE, badness, choose  # noqa: E402
from isra_keras.selection.scores import SCORES  # noqa: E402


def main(argv=None):
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", nargs="+", metavar="JSONL", help="lines, or folders of them")
    parser.add_argument("--score", default="information_maximisation", choices=[*SCORES, ENSEMBLE])
    parser.add_argument("--out", help="write the tables to this file as well")
    args = parser.parse_args(argv)
    trials = trials_of(args.lines)
    settings = {method: chosen(found, args.score) for method, found in trials.items()}
    text = "\n\n".join(table.markdown() for table in (setting_table(trials, settings, args.score), score_table(trials)))
    text = f"Written by `python benchmarks/equal_tuning.py {' '.join(args.lines)}`.\n\n{text}\n"
    print(text)
    if args.out:
        Path(args.out).write_text(text, encoding="utf-8")


def trials_of(paths):
    """{method: {setting as JSON: {task: `Run`, or None where the trial failed}}}, in the order of the methods."""
    found = defaultdict(lambda: defaultdict(dict))
    for line in latest(read_lines(paths)).values():
        cell = line["cell"]
        run = next(iter(runs_of([line])), None)
        found[cell["method"]][json.dumps(cell["given"], sort_keys=True)][cell["task"]] = run
    return {method: dict(found[method]) for method in METHODS if method in found}


def chosen(trials, score):
    """The setting with the best mean rank over tasks; the first one of equals."""
    ranks = [ranks_on(trials, task, score) for task in tasks_of(trials)]
    return list(trials)[int(np.argmin(np.mean(ranks, axis=0)))]


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
    return list(dict.fromkeys(task for one in trials.values() for task in one))


def accuracy(trial, score):
    """Mean accuracy over tasks of the checkpoints that the score ships, in %; a failed task counts 0."""
    found = [choose(candidates_of(run), score).candidate.payload if run else 0.0 for run in trial.values()]
    return 100 * float(np.mean(found))


def setting_table(trials, settings, score):
    """Each method's setting, and what the labels say of it."""
    rows = []
    for method, found in trials.items():
        worth = {setting: accuracy(trial, score) for setting, trial in found.items()}
        own = worth.get("{}", float("nan"))
        rows.append([method_name((method, "off")), len(found), words(settings[method]),
                     f"{worth[settings[method]]:.1f}", f"{own:.1f}", f"{max(worth.values()):.1f}"])  # fmt: skip
    columns = ["Method", "trials", "setting, label-free", "accuracy", "recipe's own", "best trial BY labels"]
    tasks = tasks_of(next(iter(trials.values())))
    note = (f"Mean over {', '.join(tasks)}, in %, one seed. Score: {score.replace('_', ' ')}. The last column is an upper "
            "bound.")  # fmt: skip
    return Table("Settings", columns, rows, note)


def score_table(trials):
    """What every score would have chosen."""
    rows = []
    names = [*SCORES, ENSEMBLE]
    for score in names:
        try:
            picked = [accuracy(found[chosen(found, score)], score) for found in trials.values()]
        except (KeyError, ValueError, TypeError):
            continue
        own = [accuracy(found["{}"], score) for found in trials.values() if "{}" in found]
        rows.append([score.replace("_", " "), f"{np.mean(picked):.1f}", f"{np.mean(own):.1f}"])
    return Table("Scores", ["score", "its settings", "recipes' own"], rows,
                 "Mean accuracy over methods and tasks, with the checkpoints that the score ships.")  # fmt: skip


def words(setting):
    """A setting in words."""
    given = json.loads(setting)
    parts = [f"{value} bottleneck" if name == "bottleneck" else f"{name} {value}"
             for name, value in {**given.pop("network_options", {}), **given}.items()]  # fmt: skip
    return ", ".join(part.replace("learning_rate", "learning rate") for part in parts) or "recipe's own"


if __name__ == "__main__":
    main()
