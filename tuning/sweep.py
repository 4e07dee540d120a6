"""`python -m tuning.sweep`: how lambda, eta, the number of topics and the receptor L1 matter, one at a time and lambda x eta.

    python -m tuning.sweep --data glyphs --seeds 3              runs what is missing, then figures and table
    python -m tuning.sweep --report                             only figures and table, from tuning/results/sweep.jsonl

Every cell is a training with the recipe, one or two values changed; the evaluation is selected without labels. One line
a cell; finished cells are passed over. Target labels are used to report accuracy, never to choose.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from isra_keras.benchmarking import store
from isra_keras.cli import run as run_cli
from isra_keras.errors import NotFinite, UserError
from isra_keras.training.interrupt import Interrupted

RESULTS = Path(__file__).parent / "results"
FACTORS = (0.0, 0.1, 1.0, 10.0)
GRID = (0.1, 1.0, 10.0)
TOPICS = (8, 32, 128)
PENALTIES = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 0.5)
AXES = ("receptor_l1", "class2vec_weight", "alignment_weight", "num_topics", "grid")
CHANGED = ("class2vec_weight", "alignment_weight", "num_topics", "receptor_l1")
TASKS = {"glyphs": "printed-handwritten", "pacs_features": "art_painting-cartoon", "office_caltech10_features": "A-C"}


def build_parser():
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="python -m tuning.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="NAME", default="glyphs", help=f"of {', '.join(TASKS)} (default glyphs)")
    parser.add_argument("--task", metavar="S-T", help="default: one task of each data set")
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument("--method", metavar="NAME", default="ba3us")
    parser.add_argument("--variant", metavar="NAME", help="paper or reference (default: the recipe's)")
    parser.add_argument("--iterations", type=int, metavar="N")
    parser.add_argument("--eval-interval", type=int, metavar="N")
    parser.add_argument("--seeds", type=int, default=3, metavar="K")
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--results", metavar="FILE", default=str(RESULTS / "sweep.jsonl"))
    parser.add_argument("--out", metavar="DIR", default=str(RESULTS), help="of figures and sweep.md")
    parser.add_argument("--report", action="store_true", help="only figures and table")
    return parser


def main(argv=None):
    """Runs the command.

    Raises:
        UserError: unknown data, impossible values, nothing to report, or what ended a training but for a loss that is not finite.
        KeyboardInterrupt: after Ctrl-C or SIGTERM.
    """
    args = build_parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if args.seeds < 1:
        raise UserError(f"Expected --seeds of at least 1; received {args.seeds}.")
    if not args.report:
        if args.data not in TASKS:
            raise UserError(f"Expected --data to be one of {', '.join(TASKS)}; received '{args.data}'.")
        run_cells(args)
    rows = [row for row in read(args.results) if is_finding(row)]
    if not rows:
        raise UserError(f"Expected results in '{args.results}'; there are none. Run the sweep without --report.")
    from tuning.sweep_report import write

    print(write(rows, Path(args.out)))
    return 0


def base_of(args):
    """`TrainConfig` of the recipe."""
    from isra_keras.data.tasks import resolve_task_name
    from isra_keras.training.recipes import resolve

    source, target = resolve_task_name(args.data, args.task or TASKS[args.data])
    return resolve(dataset=args.data, source=source, target=target, data_dir=args.data_dir, method=args.method,
                   variant=args.variant, iterations=args.iterations, eval_interval=args.eval_interval)  # fmt: skip


def cells(config, axes, seeds):
    """[(axis, {changed name: value}, seed)]: the recipe first, seeds outermost, so that an early stop is of use."""
    settings = [("recipe", {})]
    for axis in axes:
        if axis == "grid":
            settings += [("grid", {"class2vec_weight": config.class2vec_weight * one,
                                   "alignment_weight": config.alignment_weight * other})
                         for one in GRID for other in GRID]  # fmt: skip
            continue
        value = getattr(config, axis)
        values = {"num_topics": TOPICS, "receptor_l1": PENALTIES}.get(axis) or [value * factor for factor in FACTORS]
        settings += [(axis, {axis: item}) for item in values]
    return [(axis, changed, seed) for seed in range(seeds) for axis, changed in settings]


def run_cells(args):
    """Trains what is missing and appends a line a cell."""
    config = base_of(args)
    done = {key(row) for row in read(args.results) if is_finding(row)}
    todo = []
    for axis, changed, seed in cells(config, args.axes, args.seeds):
        row = describe(config, changed, seed)
        if key(row) not in done:
            done.add(key(row))  # the recipe is part of every axis and run once
            todo.append((axis, changed, row))
    if not todo:
        return
    import keras

    from isra_keras.training.determinism import make_deterministic, policy
    from isra_keras.training.prepare import load_data
    from tuning import space as spaces
    from tuning.trial import train_seed

    make_deterministic()
    task, commit = load_data(config), store.commit()
    for number, (axis, changed, row) in enumerate(todo, start=1):
        keras.backend.clear_session()
        fresh = spaces.apply(config, changed)
        fresh.seed = row["seed"]
        with tempfile.TemporaryDirectory() as folder, policy(fresh):
            try:
                outcome = train_seed(fresh, task, Path(folder), with_source=False).to_json()
            except NotFinite as error:  # it is a finding, too
                outcome = {"metrics": {}, "diagnostics": {}, "seconds": 0.0, "step": None, "failure": str(error)}
            except Interrupted as stopped:
                raise KeyboardInterrupt(stopped.signal) from None
        outcome.pop("history", None), outcome.pop("seed", None)
        append(args.results, row | outcome | {"commit": commit})
        accuracy = outcome["metrics"].get("oracle:accuracy")
        shown = "failed" if accuracy is None else f"accuracy {100 * accuracy:.2f} %"
        print(f"{number}/{len(todo)} {axis} {changed or ''} seed {row['seed']}: {shown}", file=sys.stderr, flush=True)


def describe(config, changed, seed):
    """What identifies a cell, as JSON values."""
    row = {"dataset": config.dataset, "task": config.task_name, "method": config.method, "variant": config.variant,
           "iterations": config.iterations, "eval_interval": config.eval_interval, "select": config.select,
           "seed": config.seed + seed}  # fmt: skip
    return row | {name: changed.get(name, getattr(config, name)) for name in CHANGED}


FINITE = "Expected finite "
"""How every `NotFinite` begins; lines of before may hold other failures: of data that had gone away."""
IDENTITY = ("dataset", "task", "method", "variant", "iterations", "eval_interval", "select", "seed", *CHANGED)


def key(row):
    """What tells a cell from all others."""
    return json.dumps([row[name] for name in IDENTITY])


def read(path):
    """Rows of a jsonl file; a line that was cut off is passed over."""
    rows = []
    if Path(path).is_file():
        for text in Path(path).read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(text))
            except ValueError:
                continue
    return rows


def is_finding(row):
    """Whether a line need not be trained again: it has no failure, or one that its values are to blame for."""
    return row.get("failure", FINITE).startswith(FINITE)


def append(path, row):
    """Adds a line, which begins anew where the one before was cut off."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(row).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(run_cli(main))
