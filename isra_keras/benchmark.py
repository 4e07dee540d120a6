"""`python -m isra_keras.benchmark`: methods, with and without ISRA, over tasks and seeds; tables, evidence, choice."""

import argparse
import contextlib
import os
import shlex
import sys
import time
from pathlib import Path

from isra_keras.cli import named_value, remembered_warnings
from isra_keras.cli import run as run_cli
from isra_keras.errors import UserError

EPILOG = """A grid:
  python -m isra_keras.benchmark --dataset office_caltech10_features --seeds 3
Own data:
  python -m isra_keras.benchmark --source-dir catalogue/ --target-dir photos/ \\
    --methods source_only,ba3us,shot
A file:
  python -m isra_keras.benchmark grid.toml
A report:
  python -m isra_keras.benchmark --report benchmarks/results/*_features.jsonl \\
    --out RESULTS.md
A choice:
  python -m isra_keras.benchmark --choose benchmarks/results/*_features.jsonl

Finished cells are passed over: the same command goes on after a kill. Cells are
told apart by dataset, task, method, semantic, seed and --set; after a change of
the code, take another --out."""


def build_parser():
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m isra_keras.benchmark",
        description="Trains a grid of methods x {without, with ISRA} x tasks x seeds, one line of\njsonl for each cell.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("grid", nargs="?", metavar="GRID", help="file of a grid, TOML or .json, instead of the options")
    grid = parser.add_argument_group("grid")
    grid.add_argument("--dataset", metavar="NAME", help="glyphs, office_home, office31, imagenet_caltech, office_caltech10, "
                      "office_caltech10_features, pacs_features")  # fmt: skip
    grid.add_argument("--source-dir", metavar="DIR", help="your own source instead of --dataset: one folder of images "
                      "for each class, or a list of images")  # fmt: skip
    grid.add_argument("--target-dir", metavar="DIR", help="your own target: images, folders by class, or a list. Every cell "
                      "leaves a run folder; at the end the one to take is named")  # fmt: skip
    grid.add_argument("--methods", metavar="all|A,B", help="default all")
    grid.add_argument("--tasks", metavar="all|S-T,…", help="default all")
    grid.add_argument("--seeds", type=int, metavar="K", help="seeds 0 to K-1 (default 1)")
    grid.add_argument("--semantic", metavar="WHICH", help="off, on (both variants of ISRA), both (off and on; default), "
                      "reference, paper, or some of them with commas")  # fmt: skip
    grid.add_argument("--iterations", type=int, metavar="N", help="instead of the recipe's")
    grid.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="another value of the "
                      "configuration, JSON; repeatable")  # fmt: skip
    how = parser.add_argument_group("how")
    how.add_argument("--jobs", type=int, default=1, metavar="J", help="cells at once; they share the cores (default 1)")
    how.add_argument("--data-dir", metavar="DIR", help="where the dataset lies")
    how.add_argument("--work", metavar="DIR", help="checkpoints of image runs (default OUT.work)")
    how.add_argument("--skip-failed", action="store_true", help="do not try failed cells again")
    how.add_argument("--dry-run", action="store_true", help="list the cells and stop")
    how.add_argument("--quiet", action="store_true", help="no progress")
    results = parser.add_argument_group("results")
    results.add_argument("--out", metavar="FILE", help="jsonl of the grid (default benchmarks/results/<dataset>.jsonl; of "
                         "your own folders runs/benchmark/<names>.jsonl, beside it their runs), or a folder for a file "
                         "a method; of --report: RESULTS.md")  # fmt: skip
    results.add_argument("--report", nargs="+", metavar="JSONL", help="make the report of finished cells and stop")
    results.add_argument("--csv", metavar="FILE", help="the report's tables as CSV too")
    results.add_argument("--latex", metavar="FILE", help="the report's tables as LaTeX too")
    results.add_argument("--choose", nargs="+", metavar="JSONL", help="name the model to ship for each task, and stop")
    return parser


def main(argv=None):
    """Runs the command.

    Args:
        argv: list of str, or None for the process's.

    Returns:
        int: 0, or 1 if a cell failed.

    Raises:
        UserError: what the user can mend.
    """
    args = build_parser().parse_args(argv)
    if args.report or args.choose:
        check_reading(args)
        return _read_results(args)
    if args.csv or args.latex:
        raise UserError("Expected --csv and --latex beside --report; received them without it.")
    cells = cells_of(args)
    default = Path("benchmarks") / "results" / f"{cells[0].dataset}.jsonl"
    if args.source_dir:
        default = Path("runs") / "benchmark" / f"{cells[0].task}.jsonl"
    out = Path(args.out or default)
    if out.suffix not in (".jsonl", ""):
        raise UserError(f"Expected --out of a grid to end with .jsonl, or to be a folder; received '{out}'.")
    if args.jobs < 1:
        raise UserError(f"Expected --jobs of at least 1; received {args.jobs}.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return run_grid(cells, out, args)


def check_reading(args):
    """Refuses what --report and --choose would pass over.

    Raises:
        UserError: names the options.
    """
    if args.report and args.choose:
        raise UserError("Expected --report or --choose; received both.")
    if args.report and args.out and os.path.isdir(args.out):
        raise UserError(f"Expected --out of --report to be a file, such as RESULTS.md; '{args.out}' is a folder.")
    reads = {"report", "out", "csv", "latex", "quiet"} if args.report else {"choose", "quiet"}
    initial = vars(build_parser().parse_args([]))
    beside = sorted(name for name, value in vars(args).items() if name not in reads and value != initial[name])
    if beside:
        named = ", ".join("the file of a grid" if name == "grid" else f"--{name.replace('_', '-')}" for name in beside)
        raise UserError(f"Expected --{'report' if args.report else 'choose'} without {named}, which it would not heed.")


def cells_of(args):
    """Cells of the command line or of the file.

    Raises:
        UserError: neither or both, unknown names.
    """
    from isra_keras.benchmarking.grid import folder_cells, make_cells, read_grid

    folders = [args.source_dir, args.target_dir]
    given = {name: getattr(args, name) for name in ("dataset", "methods", "tasks", "seeds", "semantic")
             if getattr(args, name) is not None}  # fmt: skip
    overrides = dict(named_value(text, "--set") for text in args.set)
    if args.iterations is not None:
        overrides["iterations"] = args.iterations
    if args.grid:
        if given or overrides or any(folders):
            raise UserError(f"Expected a file or the grid's options; received '{args.grid}' and options.")
        return read_grid(args.grid)
    if any(folders):
        if not all(folders) or {"dataset", "tasks"} & set(given):
            raise UserError("Expected --source-dir with --target-dir, and no --dataset and --tasks beside them.")
        return folder_cells(*folders, **given, overrides=overrides)
    if "dataset" not in given:
        raise UserError(
            "Expected --dataset, --source-dir with --target-dir, a file of a grid, --report or --choose; received none "
            "of them. See --help."
        )
    return make_cells(**given, overrides=overrides)


def run_grid(cells, out, args):
    """Runs what is missing of a grid; returns 1 if a cell failed."""
    from isra_keras.benchmarking.grid import check_configurations, check_data
    from isra_keras.benchmarking.pool import run_cells
    from isra_keras.benchmarking.progress import GridProgress
    from isra_keras.benchmarking.store import Store, commit
    from isra_keras.data.tasks import folder_task

    folders = args.source_dir and [str(Path(one).absolute()) for one in (args.source_dir, args.target_dir)]
    store = Store(out)
    if folders:
        check_same_folders(store, folders)
    done = store.done(args.skip_failed)
    missing = [cell for cell in cells if cell.key not in done]
    if args.dry_run:
        check_configurations(cells, args.data_dir, folders)
        whole = store.done()
        for cell in cells:
            print(("done     " if cell.key in whole else "failed   " if cell.key in done else "to run   ") + cell.key)
        return 0
    with remembered_warnings() as said:
        task = folder_task(*folders) if folders else None
        check_data(missing, args.data_dir, folders, task)
    failures, identity = [], commit()
    settings = {
        "data_dir": args.data_dir and str(Path(args.data_dir).absolute()),
        "work": str(Path(args.work or (out.with_suffix("") if folders else f"{out}.work")).absolute()),
        "threads": max(1, (os.cpu_count() or 1) // args.jobs),
        "folders": folders or None,
        "said": said,
    }
    with store.alone(), contextlib.ExitStack() as stack:
        done = store.done(args.skip_failed)  # another benchmark may have added to it since
        missing = [cell for cell in missing if cell.key not in done]
        progress = stack.enter_context(GridProgress(len(missing), len(cells) - len(missing), quiet=args.quiet))

        def on_message(worker, message):
            if message[0] == "progress":
                return
            cell = worker.cell
            line = finished_line(cell, message, identity)
            store.append(line)
            failures.extend([cell] if line["status"] != "done" else [])
            progress.finished(cell, line, time.monotonic() - worker.started, args.jobs)

        run_cells(missing, min(args.jobs, len(missing)), settings, on_message, progress.tick)
    if folders:
        return _name_the_best(store, cells, failures, task)
    print(f"{_finished(store, cells)} of {len(cells)} cells in {out}; make the report:\n"
          f"  python -m isra_keras.benchmark --report {out} --out RESULTS.md")  # fmt: skip
    return 1 if failures else 0


def check_same_folders(store, folders):
    """Keeps the runs of other folders of the same names apart.

    Raises:
        UserError: the lines are of others.
    """
    from isra_keras.benchmarking.grid import folders_id

    if any(line.get("folders", folders_id(*folders)) != folders_id(*folders) for line in store.lines()):
        raise UserError(f"Expected the runs of these two folders in '{store.path}'; it has those of others. Take another "
                        "--out.")  # fmt: skip


def check_names(lines):
    """Refuses lines of several pairs of folders of one name, which a table would take for one task.

    Raises:
        UserError: names the task. Folders that moved, with all that lay in them, are the same.
    """
    seen = {}
    for line in lines:
        if line.get("folders") and "data" in line:
            task, (folders, data) = line["cell"]["task"], (line["folders"], line["data"])
            known = seen.setdefault(task, (folders, data))
            if known[0] != folders and known[1] != data:
                raise UserError(f"Expected folders of different names; those of '{task}' are two pairs that differ. Give the files of "
                                "one pair at a time.")  # fmt: skip


def _finished(store, cells):
    """How many of the cells have succeeded."""
    done = store.done()
    return sum(cell.key in done for cell in cells)


def _name_the_best(store, cells, failures, task):
    """After a user's own grid: all models side by side, which one to take, and what has changed since."""
    from isra_keras.benchmarking.choosing import describe_choices
    from isra_keras.benchmarking.own_data import changed_since, folder_facts
    from isra_keras.benchmarking.store import latest

    print(f"{_finished(store, cells)} of {len(cells)} cells in {store.path}")
    keys, now = {cell.key for cell in cells}, folder_facts(task)
    lines = [line for key, line in latest(store.lines()).items() if key in keys]
    lines.sort(key=lambda line: line.get("data") == now)  # the last one counts as the newest, from whatever file
    if any(line["status"] == "done" for line in lines):
        print(describe_choices(lines))
    changed = changed_since([line for line in lines if line["status"] == "done"], task)
    if changed:
        print(f"\n{changed}")
    return 1 if failures else 0


def finished_line(cell, message, identity):
    """The line of a cell from its worker's message."""
    from isra_keras.benchmarking.store import LINE_FORMAT

    if message[0] == "done":
        return {"commit": identity} | message[1]  # the worker's own, where it says
    return {"format": LINE_FORMAT, "cell": cell.to_dict(), "status": "failed", "reason": message[1], "commit": identity}


def _read_results(args):
    """--report, --choose."""
    from isra_keras.benchmarking.store import latest, read_lines

    lines = read_lines(args.report or args.choose)
    check_names(lines)
    lines = list(latest(lines).values())
    if args.choose:
        from isra_keras.benchmarking.choosing import describe_choices

        print(describe_choices(lines))
        return 0
    from isra_keras.benchmarking.report import write_report

    command = f"python -m isra_keras.benchmark --report {shlex.join(args.report)} --out {shlex.quote(args.out or 'RESULTS.md')}"
    for path in write_report(lines, Path(args.out or "RESULTS.md"), args.csv, args.latex, command):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(run_cli(main))
