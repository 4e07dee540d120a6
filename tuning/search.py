"""`python -m tuning.search`, `isra tune`: searches lambda, eta, the number of topics and more, without target labels."""

import argparse
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from isra_keras import train
from isra_keras.cli import run as run_cli
from isra_keras.errors import UserError
from isra_keras.training.checkpoint import is_disk_full
from tuning import cluster, local, records
from tuning import objectives as goals
from tuning import space as spaces

TUNERS = ("bayesian", "random", "hyperband", "grid")


def build_parser():
    """Options of the search beside those of `isra_keras.train`, which make up the base configuration."""
    parser = argparse.ArgumentParser(
        prog="python -m tuning.search", parents=[train.build_parser()], conflict_handler="resolve", allow_abbrev=False,
        description="Searches hyperparameters by a score that needs no target labels. Whatever is given by hand "
        "(--num-topics 64) is not searched. The same command goes on with a search that was interrupted.",
    )  # fmt: skip
    add = parser.add_argument_group("search")
    add.add_argument("--tuner", choices=TUNERS, default="bayesian", help="how trials are drawn (default bayesian)")
    add.add_argument("--objective", metavar="NAME", default=goals.DEFAULT, help="sel:<score>, label-free (default "
                     "sel:mean_entropy; a wrong name lists all); oracle: accuracy, needs target labels")  # fmt: skip
    add.add_argument("--max-trials", type=int, default=30, metavar="N", help="trials in all (default 30)")
    add.add_argument("--seeds", type=int, default=1, metavar="K", help="runs of a trial; the score is their mean")
    add.add_argument("--search", nargs="+", metavar="NAME", help="what to search instead of the default: "
                     + ", ".join(spaces.NAMES))  # fmt: skip
    add.add_argument("--also", nargs="+", default=[], metavar="NAME", help="searched beside the default")
    add.add_argument("--search-seed", type=int, default=0, metavar="N", help="of the search's own draws")
    add.add_argument("--max-failures", type=int, default=3, metavar="N", help="failed trials in a row that end it")
    add.add_argument("--compare-objectives", action="store_true", help="how each label-free score would have chosen "
                     "(needs target labels; also scores that look at the source)")  # fmt: skip
    add.add_argument("--local-workers", type=int, metavar="N", help="a chief and N workers on this machine")
    add.add_argument("--lease", type=float, default=cluster.LEASE, metavar="S", help="a worker that is silent for so "
                     "long loses its trial (default 60)")  # fmt: skip
    add.add_argument("--out", metavar="DIR", help="search folder (default runs/tune-<dataset>-<task>-<method>[-isra])")
    add.add_argument("--quiet", action="store_true", help="no table while it runs")
    add.add_argument("--dry-run", action="store_true", help="print the space and the base configuration and stop")
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)  # what the same command does anyway
    return parser


def base_configuration(args):
    """(`TrainConfig` that the trials start from, names given by hand, `SearchObjective`)."""
    known = {action.dest for action in train.build_parser()._actions} - {"help", "seeds", "out", "resume", "quiet"}
    values = vars(args)
    kept = argparse.Namespace(**{name: values[name] for name in known}, seeds=None, out=None, resume=False, quiet=False)
    given = train.given_values(kept)
    objective = goals.parse_objective(args.objective)
    if objective.select is not None:
        given.setdefault("select", objective.select)
    from isra_keras.training.recipes import resolve

    return resolve(**given), tuple(given), objective


def main(argv=None):
    """Runs the command.

    Raises:
        UserError: what the user can mend.
    """
    args = build_parser().parse_args(argv)
    for name in ("max_trials", "seeds", "max_failures", "local_workers"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"Expected --{name.replace('_', '-')} of at least 1; received {getattr(args, name)}.")
    if args.search_seed < 0:
        raise UserError(f"Expected --search-seed of at least 0; received {args.search_seed}.")
    if not 0 < args.lease < float("inf"):
        raise UserError(f"Expected --lease of some seconds, above 0; received {args.lease}.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    local.end_with_parent()
    config, given, objective = base_configuration(args)
    space = spaces.make_space(config, args.search, args.also, given)
    out = Path(os.path.expanduser(args.out)) if args.out else default_folder(config)
    search = {"tuner": args.tuner, "objective": objective.name, "seeds": args.seeds, "max_trials": args.max_trials,
              "search_seed": args.search_seed}  # fmt: skip
    few = spaces.grid_text(space, args.max_trials) if args.tuner == "grid" else ""
    if few and not cluster.is_worker() and not os.environ.get(local.PARENT):
        print(f"warning: {few}", file=sys.stderr)
    if args.dry_run:
        show_space(config, space, out, args.tuner == "grid")
        return 0
    wanted = records.manifest(config, space, search)
    try:
        return _search_or_show(args, argv, out, config, objective, space, wanted)
    except Exception as error:
        if not is_disk_full(error):
            raise
        from tuning.disk import out_of_room

        with out_of_room(out):
            raise


def _search_or_show(args, argv, out, config, objective, space, wanted):
    """What the command is for, once its words are understood."""
    if cluster.is_worker():
        saved = records.check_worker(out, wanted, cluster.patience())
        if finished(out, saved["search"]["max_trials"]):
            print(f"All trials in '{out}' have ended; nothing is left for this worker.")
            return 0
    else:
        records.check_manifest(out, wanted)
        if finished(out, args.max_trials) and not cluster.is_chief():  # a chief tells its workers first
            check_data(out, config)
            return conclude(out, args)
    if args.local_workers and cluster.role() == "alone":
        status = _supervise(args, argv, out, objective, space)
    else:
        status = _search(args, out, config, objective, space)
    if status or cluster.is_worker() or (cluster.is_chief() and os.environ.get(local.PARENT)):
        return status
    return conclude(out, args)


def default_folder(config):
    """runs/tune-<dataset>-<task>-<method>."""
    name = f"tune-{config.dataset or 'folders'}-{config.task_name}-{config.method}{'-isra' if config.semantic else ''}"
    return Path("runs") / name.replace("/", "_")


def show_space(config, space, out, grid=False):
    """The base configuration and the dimensions, as tables."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # names of folders may hold what rich takes as markup

    train.show_configuration(config)
    table = Table(title=Text(f"searched, into {out}", style="table.title"))
    for column in ("name", "values", "recipe"):
        table.add_column(column)
    for item in space:
        table.add_row(item.name, item.text(grid), f"{item.default:g}" if isinstance(item.default, float) else str(item.default))
    Console().print(table)


def finished(out, max_trials):
    """Whether all trials have ended; then nothing heavy need be loaded."""
    rows = records.read_rows(out)
    ended = sum(row.status in ("COMPLETED", "FAILED") for row in rows)
    return ended >= max_trials or ended == len(rows) > 0 and records.is_spent(out, max_trials)


def load_images(config):
    """The `Task` as it lies on the disk: of images where the backbone is frozen, whose features may differ by a bit from
    machine to machine."""
    from isra_keras.training.prepare import load_data

    return load_data(replace(config, freeze_backbone=False))


def check_data(out, config):
    """Refuses to show a finished search as that of other data; data that are gone are no reason.

    Raises:
        UserError: names what differs.
    """
    try:
        task = load_images(config)
    except UserError as error:
        print(f"note: the data were not compared with those of the search: {error}", file=sys.stderr)
        return
    records.add_data(out, records.fingerprint(task))


def _search(args, out, config, objective, space):
    """Trials in this process, or the chief's or a worker's part."""
    from contextlib import nullcontext

    from isra_keras.training.record import folder_lock

    with nullcontext() if cluster.is_worker() else folder_lock(out), _terminable():
        return _run_tuner(args, out, config, objective, space)


def _run_tuner(args, out, config, objective, space):
    from isra_keras.training.prepare import check_task

    names = [item.name for item in space]
    task = load_images(config)
    check_task(task, config)
    check_labels(task, args, objective)
    if cluster.is_worker():
        records.check_worker_data(out, records.fingerprint(task), cluster.patience())
    else:
        records.add_data(out, records.fingerprint(task))
    from tuning.oracles import make_oracle
    from tuning.view import View

    quiet = args.quiet or bool(os.environ.get(local.PARENT))
    with View(out, objective, names, args.max_trials, seeds=args.seeds, quiet=quiet) as view:
        from isra_keras.selection import NEEDS_SOURCE
        from isra_keras.training.determinism import make_deterministic
        from tuning.hypermodel import ISRAHyperModel
        from tuning.tensorboard import HParamsLog
        from tuning.tuner import SearchTuner

        if config.deterministic:
            make_deterministic()
        model = ISRAHyperModel(
            task, config, args.seeds, names=names, grid=args.tuner == "grid",
            needs_source=args.compare_objectives or objective.select in NEEDS_SOURCE,
            on_step=lambda seed, step: view.on_step(seed, step, config.iterations),
        )  # fmt: skip
        budget = -(-config.iterations // config.eval_interval)
        oracle = make_oracle(args.tuner, goals.objective(objective.name), args.max_trials, args.search_seed + 1,
                             len(space), budget, args.max_failures)  # fmt: skip
        tuner = SearchTuner(oracle, model, out, HParamsLog(out, space, objective, view), args.lease)
        try:
            tuner.search()
        except RuntimeError as error:
            if "consecutive failures" not in str(error):
                raise
            raise UserError(failures_text(out, args.max_failures)) from error
    return 0


def check_labels(task, args, objective):
    """Before the first trial.

    Raises:
        UserError: target labels are asked for, and there are none.
    """
    if (task.target.labels >= 0).any():
        return
    if objective.is_oracle:
        raise UserError(
            "Expected target labels for --objective oracle; there are none. Take a score: sel:mean_entropy."
        )
    if args.compare_objectives:
        raise UserError("Expected target labels for --compare-objectives; there are none. Leave the option out.")


def failures_text(out, limit):
    """The sentence for a search that was ended by failed trials."""
    failed = [row for row in records.read_rows(out) if row.reason]
    reason = failed[-1].reason if failed else "see the trial folders"
    return (f"Expected trials that succeed; {limit} failed one after another, the last one: {reason} Mend it, or allow "
            "more with --max-failures.")  # fmt: skip


class _terminable:
    """SIGTERM ends the search as Ctrl-C does; the trial that was running is run again by the same command."""

    def __enter__(self):
        def stop(number, frame):
            raise KeyboardInterrupt(number)

        self.before = signal.signal(signal.SIGTERM, stop)

    def __exit__(self, kind, error, trace):
        signal.signal(signal.SIGTERM, self.before)


def _supervise(args, argv, out, objective, space):
    """A chief and workers of this machine, and the table of what they do."""
    from tuning.view import View

    command = [sys.executable, "-m", "tuning.search", *without_workers(sys.argv[1:] if argv is None else argv)]
    if not args.out:
        command += ["--out", str(out)]
    names = [item.name for item in space]
    with View(out, objective, names, args.max_trials, args.local_workers, args.seeds, quiet=args.quiet) as view:
        with _terminable(), local.LocalCluster(command, args.local_workers, out) as processes:
            while not processes.watch():
                view.refresh()
                time.sleep(1.0)
            view.refresh()
    return 0


def without_workers(argv):
    """The command line without --local-workers."""
    kept, skip = [], False
    for word in argv:
        if skip or word.startswith("--local-workers="):
            skip = False
        elif word == "--local-workers":
            skip = True
        else:
            kept.append(word)
    return kept


def conclude(out, args):
    """Table, best trial, figures and what to type next; in a folder that can't be written, what there is to say.

    Raises:
        UserError: another process works in the folder.
    """
    from contextlib import nullcontext

    from isra_keras.training.record import folder_lock
    from tuning.report import conclude as report

    write = os.access(out, os.W_OK)
    with folder_lock(out) if write else nullcontext():
        return report(out, args.compare_objectives, write)


if __name__ == "__main__":
    sys.exit(run_cli(main))
