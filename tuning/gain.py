"""`python -m tuning.gain`: what a search without labels gains over the recipe, and what it leaves on the table.

    python -m tuning.gain --data pacs_features --task A-C      searches, trains what was chosen, then the table
    python -m tuning.gain --report                             only the table, from tuning/results/gain.jsonl
    python -m tuning.gain --recipe-only --data ... --task ...  the recipe again, after it has changed: no search

One search of `--trials` trials; its first trial is the recipe. Three settings are taken from it: the recipe, the best by
the label-free objective and, as an upper bound, the best by target labels. Each is trained anew with `--seeds`
seeds that the search did not use; a line is one of these runs. What is there is passed over; of lines of the same data
and setting with other values, those with the values of the last one count.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from isra_keras.benchmarking import store
from isra_keras.cli import run as run_cli
from isra_keras.errors import NotFinite, UserError
from isra_keras.training.interrupt import Interrupted
from tuning.sweep import RESULTS, append, is_finding, read

SETTINGS = ("recipe", "label-free", "ORACLE of the trials")
TUNERS = ("random", "bayesian", "grid")
PLACE = ("dataset", "task", "method", "trials", "iterations", "objective", "tuner")
"""What a row of the table is of; a line without a tuner is of random trials."""
IDENTITY = (*PLACE, "setting", "seed", "values")
BY_LABELS = ("What target labels would have taken of the same trials. One trial is one seed: with the new seeds it can be worse than "
             "what was taken without labels, and then the trials differ by the seed more than by the setting.", "")  # fmt: skip
SHOWN = ("class2vec_weight", "alignment_weight", "num_topics")


def build_parser():
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="python -m tuning.gain", description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="NAME", default="glyphs")
    parser.add_argument("--task", metavar="S-T", nargs="+", help="tasks of the data set")
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument("--method", metavar="NAME", default="ba3us")
    parser.add_argument("--iterations", type=int, metavar="N")
    parser.add_argument("--trials", type=int, default=30, metavar="N")
    parser.add_argument("--tuner", choices=TUNERS, default="random", help="how trials are drawn; Hyperband's first one "
                        "is not the recipe")  # fmt: skip
    parser.add_argument("--objective", metavar="NAME", default="sel:mean_entropy")
    parser.add_argument("--seeds", type=int, default=3, metavar="K")
    parser.add_argument("--searches", metavar="DIR", default="runs/gain", help="of the search folders")
    parser.add_argument("--results", metavar="FILE", default=str(RESULTS / "gain.jsonl"))
    parser.add_argument("--out", metavar="FILE", default=str(RESULTS / "gain.md"))
    parser.add_argument("--recipe-only", action="store_true", help="no search, no chosen settings")
    parser.add_argument("--report", action="store_true", help="only the table")
    return parser


def main(argv=None):
    """Runs the command.

    Raises:
        UserError: impossible values, nothing to report, or what ended a training but for a loss that is not finite.
        KeyboardInterrupt: after Ctrl-C or SIGTERM.
    """
    args = build_parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if args.seeds < 1 or args.trials < 2:
        raise UserError("Expected --seeds of at least 1 and --trials of at least 2.")
    if not args.report:
        if not args.task:
            raise UserError("Expected --task, one or several; received none.")
        args.objective = label_free(args.objective)
        for task in args.task:
            measure(args, task)
    rows = findings(args.results)
    if not rows:
        raise UserError(f"Expected results in '{args.results}'; there are none. Run it without --report.")
    from isra_keras.training.checkpoint import write_text

    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    write_text(Path(args.out), markdown(rows))
    print(args.out)
    return 0


def label_free(name):
    """Whole name of an objective that needs no labels: "sel:snd" of "snd".

    Raises:
        UserError: unknown name, or one that looks at target labels: the table has what those would take in a part of its own.
    """
    from tuning.objectives import parse_objective

    objective = parse_objective(name)
    if objective.is_oracle:
        raise UserError("Expected a label-free --objective, as sel:mean_entropy; received oracle. What target labels would have "
                        "taken of the same trials is in the table anyway, as an upper bound.")  # fmt: skip
    return objective.name


def measure(args, task_name):
    """One search, and the runs of the settings that it found."""
    from isra_keras.data.tasks import resolve_task_name

    source, target = resolve_task_name(args.data, task_name)
    folder = search_folder(args, source, target)
    words = search_words(args, folder, source, target)
    if args.recipe_only:
        config, settings = recipe_of(words)
    else:
        config, settings = searched(folder, words, args.trials)
    known = {"dataset": config.dataset, "task": config.task_name, "method": config.method, "trials": args.trials,
             "iterations": config.iterations, "objective": args.objective}  # fmt: skip
    if args.tuner != "random":
        known["tuner"] = args.tuner
    done = {key(row) for row in findings(args.results)}
    todo = [known | {"setting": setting, "seed": config.seed + seed} | {"trial": row.trial_id, "values": row.values}
            for seed in range(1, args.seeds + 1) for setting, row in settings]  # fmt: skip
    todo = [row for row in todo if key(row) not in done]
    if todo:
        train(config, todo, args.results)


def search_folder(args, source, target):
    """One for each search: what is not as usual is part of its name. More or fewer trials are the same search."""
    parts = [args.data, source, target, args.method]
    usual = build_parser().parse_args([])
    parts += [str(getattr(args, name)).removeprefix("sel:") for name in ("iterations", "objective", "tuner")
              if getattr(args, name) != getattr(usual, name)]  # fmt: skip
    return Path(args.searches) / "-".join(parts)


def search_words(args, folder, source, target):
    """The options of `tuning.search` for a task."""
    words = ["--dataset", args.data, "--source", source, "--target", target, "--method", args.method, "--semantic",
             "--tuner", args.tuner, "--objective", args.objective, "--max-trials", str(args.trials), "--out",
             str(folder), "--quiet"]  # fmt: skip
    for name in ("data_dir", "iterations"):
        if getattr(args, name) is not None:
            words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    return words


def searched(folder, words, trials):
    """(configuration, settings) of a search, which is made or gone on with; of a longer one its first `trials` count."""
    from isra_keras.training.config import TrainConfig
    from tuning import records
    from tuning import search as searching

    if searching.main(words):
        raise UserError(f"Expected the search in '{folder}' to end; it did not.")
    config = TrainConfig(**records.read_manifest(folder)["config"])
    return config, settings_of(records.read_rows(folder)[:trials], records.objective_of(folder))


def recipe_of(words):
    """(configuration, the recipe as the one setting), as the first trial of a search would have them."""
    from tuning import search as searching
    from tuning import space as spaces
    from tuning.records import Row

    config, given, _ = searching.base_configuration(searching.build_parser().parse_args(words))
    values = {item.name: item.default for item in spaces.make_space(config, fixed=given)}
    return config, [(SETTINGS[0], Row("0", "COMPLETED", values))]


def settings_of(rows, objective):
    """[(name of `SETTINGS`, `Row`)]: the first trial, the best by the objective, the best by target labels.

    Raises:
        UserError: if the target has no labels.
    """
    from tuning.objectives import ORACLE
    from tuning.records import best_row

    labelled = [row for row in rows if row.status == "COMPLETED" and ORACLE in row.metrics]
    if not labelled:
        raise UserError("Expected finished trials on a target with labels; there are none.")
    best = max(labelled, key=lambda row: row.metrics[ORACLE])
    return list(zip(SETTINGS, (rows[0], best_row(rows, objective.direction), best)))


def train(config, todo, results):
    """Trains and appends a line each."""
    import keras

    from isra_keras.training.determinism import make_deterministic, policy
    from isra_keras.training.prepare import load_data
    from tuning import space as spaces
    from tuning.objectives import ORACLE
    from tuning.trial import train_seed

    make_deterministic()
    task, commit = load_data(config), store.commit()
    for row in todo:
        keras.backend.clear_session()
        fresh = spaces.apply(config, row["values"])
        fresh.seed = row["seed"]
        with tempfile.TemporaryDirectory() as folder, policy(fresh):
            try:
                outcome = train_seed(fresh, task, Path(folder))
                found = {"metrics": outcome.metrics, "seconds": round(outcome.seconds, 2)}
            except NotFinite as error:
                found = {"metrics": {}, "seconds": 0.0, "failure": str(error)}
            except Interrupted as stopped:
                raise KeyboardInterrupt(stopped.signal) from None
        append(results, row | found | {"commit": commit})
        shown = f"{100 * found['metrics'].get(ORACLE, float('nan')):.2f} %"
        print(f"{row['task']} {row['setting']} seed {row['seed']}: {shown}", file=sys.stderr, flush=True)


def findings(path):
    """Rows of the jsonl file that count."""
    return [row for row in read(path) if is_finding(row)]


def key(row):
    """What tells a line from all others."""
    return json.dumps([row.get(name) for name in IDENTITY], sort_keys=True)


def runs_of(rows):
    """{place: {setting: {seed: line}}}, the newest line of each; a mean is of one setting, so of the last line's values."""
    found = {}
    for row in rows:
        place = found.setdefault(tuple(row.get(name) for name in PLACE), {})
        runs = place.setdefault(row["setting"], {})
        if any(other.get("values") != row.get("values") for other in runs.values()):
            runs.clear()
        runs[row["seed"]] = row
    return found


def markdown(rows):
    """Text of gain.md: label-free settings in one table, the upper bound in another."""
    lines = ["# What tuning without labels gains", "", "Written by `python -m tuning.gain --report`. Accuracy in % of "
             "the evaluation that each run selects without labels, mean ± standard deviation over seeds that the search "
             "did not use. Iterations: of the trials and of these runs, of those that the recipe trains for. In brackets: "
             "λ, η, number of topics.", ""]  # fmt: skip
    first = ["data", "task", "method", "trials", "iterations", "objective", "recipe", "best label-free", "gained"]
    second = ["data", "task", "method", "trials", "iterations", "best BY target labels", "left on the table"]
    tables = ([first, ["---"] * len(first)], [second, ["---"] * len(second)])
    changes, same, failed = ({}, {}), [], []
    for place, settings in runs_of(rows).items():
        accuracies = [accuracies_of(settings.get(name, {})) for name in SETTINGS]
        failed += failed_text(place, settings, accuracies)
        if not all(accuracies):
            continue
        taken = {json.dumps(row.get("values"), sort_keys=True) for runs in settings.values() for row in runs.values()}
        if accuracies[0] == accuracies[1] == accuracies[2] and len(taken) > 1:  # one trial three times is no finding
            same.append(f"{place[1]} of {place[0]}")
        recipe, chosen, best = map(statistics.fmean, accuracies)
        texts = [cell(settings[name], values) for name, values in zip(SETTINGS, accuracies)]
        words = [str(part) for part in (*place[:4], length(place[0], place[2], place[4]), objective_text(place))]
        tables[0].append([*words, *texts[:2], f"{chosen - recipe:+.2f}"])
        tables[1].append([*words[:5], texts[2], f"{best - chosen:+.2f}"])
        for found, change in zip(changes, (chosen - recipe, best - chosen)):
            found.setdefault(place[0], []).append(change)
    for head, table, found in zip(("Label-free", "Upper bound of the trials"), tables, changes):
        lines += [f"## {head}", "", *BY_LABELS * (table is tables[1]), *("| " + " | ".join(row) + " |" for row in table), "", *means(found)]
    if failed:
        lines += [f"Runs that failed are in no mean: {'; '.join(failed)}.", ""]
    if same:
        lines += [f"In {', '.join(same)} all settings give the same: what is selected, with the guard against collapse, is a "
                  "network from before adaptation.", ""]  # fmt: skip
    return "\n".join(lines)


def failed_text(place, settings, accuracies):
    """["label-free of printed-photo of glyphs, 2 of 3 runs"], why it has no row where all of them failed; [] if none did."""
    where = f"{place[1]} of {place[0]}, {objective_text(place)}"
    found = []
    for name, values in zip(SETTINGS, accuracies):
        count = len(settings.get(name, {}))
        if len(values) < count:
            found.append(f"{name} of {where}, {count - len(values)} of {count} runs" + ("" if values else " and so no row"))
    return found


def objective_text(place):
    """ "sel:snd", "sel:snd, bayesian": the objective, and how trials were drawn if not at random."""
    return place[5] + (f", {place[6]}" if place[6] else "")


def length(dataset, method, iterations):
    """ "300 of 600": what was trained, and what the recipe says."""
    from isra_keras.training.recipes import resolve

    try:
        return f"{iterations} of {resolve(dataset=dataset, method=method).iterations}"
    except UserError:  # a data set that there is no longer
        return str(iterations)


def accuracies_of(runs):
    """[accuracy in %] of the runs that came to one."""
    from tuning.objectives import ORACLE

    return [100 * row["metrics"][ORACLE] for row in runs.values() if ORACLE in row["metrics"]]


def cell(runs, accuracies):
    """ "61.20 ± 1.10 (1, 0.1, 32)", "61.20, 1 of 3 (1, 0.1, 32)" where the others failed."""
    values = next(iter(runs.values())).get("values", {})
    shown = ", ".join(f"{values[name]:.2g}" if isinstance(values[name], float) else str(values[name])
                      for name in SHOWN if name in values)  # fmt: skip
    number = f", {len(accuracies)} of {len(runs)}" if len(accuracies) < len(runs) else ""
    return spread(accuracies) + number + (f" ({shown})" if shown else "")


def means(found):
    """Lines with the mean of the last column, of each data set and of all."""
    if not found:
        return []
    every = [change for part in found.values() for change in part]
    each = "; ".join(f"{name} {statistics.fmean(part):+.2f} ({len(part)} tasks)" for name, part in found.items())
    return [f"Mean of the last column: {each}; all {statistics.fmean(every):+.2f}.", ""]


def spread(values):
    """ "61.20 ± 1.10"."""
    return f"{statistics.fmean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    sys.exit(run_cli(main))
