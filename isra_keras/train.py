"""`python -m isra_keras.train`: a dataset or two folders of images become a run folder. Alone: the embedded default."""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from isra_keras.cli import run as run_cli
from isra_keras.errors import UserError
from isra_keras.training.asked import configuration, configurations, given_values  # noqa: F401 - `tuning` asks here
from isra_keras.training.cluster import is_chief

EXPLAINED = {
    "selected": "chosen without target labels; this is model.keras",
    "last": "the last evaluation, no choice at all",
    "oracle": "the evaluation that is best BY target labels, which is no result",
}


def build_parser():
    """The command line's options; None stands for "what the recipe says"."""
    parser = argparse.ArgumentParser(
        prog="python -m isra_keras.train",
        description="Trains on a labelled source and an unlabelled target whose classes are some of the source's. "
        "Values that are not given come from the recipe of the dataset and method. Without options: printed "
        "characters to handwritten digits, BA3US with ISRA, on data made on the spot.",
    )
    _data_options(parser.add_argument_group("data"))
    _method_options(parser.add_argument_group("method"))
    _network_options(parser.add_argument_group("network"))
    _training_options(parser.add_argument_group("training"))
    _run_options(parser.add_argument_group("run"))
    return parser


def _data_options(add):
    add.add_argument("--dataset", metavar="NAME", help="glyphs (default), office_home, office31, imagenet_caltech, "
                     "office_caltech10, office_caltech10_features, pacs_features")  # fmt: skip
    add.add_argument("--source", metavar="DOMAIN", help="e.g. Art or Ar")
    add.add_argument("--target", metavar="DOMAIN", help="e.g. Clipart or Cl")
    add.add_argument("--task", metavar="S-T", help="both at once, e.g. Ar-Cl")
    add.add_argument("--source-dir", metavar="DIR", help="your own source: one folder of images for each class, or a "
                     "list of images (.txt, a line FILE CLASS for each)")  # fmt: skip
    add.add_argument("--target-dir", metavar="DIR", help="your own target: images, or folders by class (for evaluation), "
                     "or a list, with or without classes")  # fmt: skip
    add.add_argument("--data-dir", metavar="DIR", help="where the dataset lies")
    add.add_argument("--allow-incomplete", action="store_true", default=None, help="train although images are missing")
    add.add_argument("--on-bad-image", choices=("skip", "error"), help="unreadable images (default skip)")


def _method_options(add):
    from isra_keras.methods import METHODS  # loads no method

    add.add_argument("--method", metavar="NAME", help=f"{', '.join(METHODS)} (default ba3us)")
    add.add_argument("--option", metavar="NAME=VALUE", action="append", default=[], help="of the method, e.g. "
                     "complement_weight=5; repeatable; a wrong name lists them")  # fmt: skip
    add.add_argument("--semantic", action=argparse.BooleanOptionalAction, default=None,
                     help="with ISRA on top of the method (default)")  # fmt: skip
    add.add_argument("--variant", metavar="NAME", help="ISRA by the paper's equations or as the authors' code computes: "
                     "paper, reference")  # fmt: skip
    add.add_argument("--num-topics", type=int, metavar="J", help="topics of class2vec (by data set: 32 to 256)")
    add.add_argument("--class2vec-weight", type=float, metavar="LAMBDA", help="weight of the reconstruction of features")
    add.add_argument("--alignment-weight", type=float, metavar="ETA", help="weight of the alignment, topic by topic")
    add.add_argument("--receptor-l1", type=float, metavar="L1", help="of the receptors' first layers (0.5); 0.1 lets topics learn more")
    add.add_argument("--recipe", metavar="WHOSE", help="hyperparameters of the authors' code (default) or of the paper's "
                     "text: code, paper")  # fmt: skip
    add.add_argument("--reference-quirks", action="store_true", default=None, help="repeat the code's oddities")


def _network_options(add):
    add.add_argument("--backbone", metavar="NAME", help="resnet50, mobilenet_v2, small_cnn, features, hub:<preset>")
    add.add_argument("--weights", metavar="imagenet|none|FILE", help="of the backbone; a .weights.h5, .h5 or .keras where "
                     "nothing can be downloaded")  # fmt: skip
    add.add_argument("--freeze-backbone", action=argparse.BooleanOptionalAction, default=None,
                     help="compute its features once and train on them: minutes on a CPU instead of hours")  # fmt: skip
    add.add_argument("--batch-norm", metavar="batch|fixed", help="train the backbone with each batch's statistics, as the "
                     "papers do, or with those of its weights")  # fmt: skip
    add.add_argument("--feature-dim", type=int, metavar="D", help="width of the bottleneck")
    add.add_argument("--precision", metavar="POLICY", help="float32 (default), mixed_float16, mixed_bfloat16")


def _training_options(add):
    add.add_argument("--iterations", type=int, metavar="N", help="steps of training; schedules span them")
    add.add_argument("--warmup", type=float, metavar="SHARE", help="of the iterations, on source labels alone, first")
    add.add_argument("--weight-smoothing", type=float, metavar="SHARE", help="of the class weights, kept when renewed")
    add.add_argument("--eval-interval", type=int, metavar="N", help="iterations between evaluations")
    add.add_argument("--batch-size", type=int, metavar="N", help="images of each domain in a step (36)")
    add.add_argument("--learning-rate", type=float, metavar="LR", help="before the schedule; --dry-run shows the recipe's")
    add.add_argument("--image-size", type=int, metavar="PX", help="side that images are resized to")
    add.add_argument("--crop-size", type=int, metavar="PX", help="side of the random crop")
    add.add_argument("--augment", action=argparse.BooleanOptionalAction, default=None, help="random crops and flips")
    add.add_argument("--jit-compile", action=argparse.BooleanOptionalAction, default=None, help="XLA; slow on a CPU")
    add.add_argument("--deterministic", action=argparse.BooleanOptionalAction, default=None,
                     help="equal runs give equal bits (default)")  # fmt: skip
    add.add_argument("--distribute", metavar="HOW", help="none (default), mirrored: all GPUs of this machine, or "
                     "multi_worker: the machines that TF_CONFIG names")  # fmt: skip
    add.add_argument("--sync-batch-norm", action=argparse.BooleanOptionalAction, default=None,
                     help="statistics of the whole batch, not of each replica's rows")  # fmt: skip
    add.add_argument("--guard", action=argparse.BooleanOptionalAction, default=None,
                     help="keep no model that looks collapsed while there is a sound one (default)")  # fmt: skip
    add.add_argument("--select", metavar="SCORE", help="label-free score that picks the model (default "
                     "mean_entropy): information_maximisation, snd, bnm, dev, source_accuracy, source_risk, last (none does)")  # fmt: skip


def _run_options(add):
    add.add_argument("--seed", type=int, metavar="N", help="of weights, order and augmentation (0)")
    add.add_argument("--seeds", type=int, metavar="K", help="K runs, OUT/seed0 to OUT/seed<K-1>, and their mean ± std")
    add.add_argument("--out", metavar="DIR", help="run folder (default runs/<task>-<method>, numbered)")
    add.add_argument("--resume", action="store_true", help="go on with the run in --out; starts one if there "
                     "is none and the data is named")  # fmt: skip
    add.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")
    add.add_argument("--quiet", action="store_true", help="no progress")


def main(argv=None):
    """Runs the command.

    Args:
        argv: list of str, or None for the process's.

    Returns:
        int: 0, or 128 + the signal that stopped it.

    Raises:
        UserError: what the user can mend.
    """
    args = build_parser().parse_args(argv)
    given = given_values(args)
    if args.seeds is not None and args.seeds < 1:
        raise UserError(f"Expected --seeds of at least 1; received {args.seeds}.")
    if args.seeds is not None and args.seed is not None:
        raise UserError("Expected --seed or --seeds; received both.")
    if args.resume and not args.out:
        raise UserError("Expected --out with --resume: the folder of the run to go on with.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    folders = configurations(given, args.out, args.resume, args.seeds)
    config = next(iter(folders.values()))
    if args.dry_run:  # a run finds these as it builds its network
        from isra_keras.training.build import check_parts

        check_parts(config)
    show_configuration(config, args.quiet or not is_chief(config))
    if args.dry_run:
        return 0
    return _train(folders, args)


def _train(folders, args):
    """All runs of the command, one after the other."""
    from isra_keras.training.prepare import check_folder

    for out, config in folders.items():  # before TensorFlow is loaded
        if config.distribute != "multi_worker":  # there the chief does, when all have met, and tells the others
            check_folder(out, config, args.resume)
    import keras

    from isra_keras.training.interrupt import Interrupted
    from isra_keras.training.runner import run

    results = []
    for number, (out, config) in enumerate(folders.items()):
        if number:
            keras.backend.clear_session()
        try:
            results.append(run(config, out, args.resume, quiet=args.quiet))
        except Interrupted as stopped:
            print(f"\nstopped at step {stopped.step} of {config.iterations}; the state is saved. Go on with:\n  "
                  f"{resume_command(args, list(folders)[0])}", file=sys.stderr)  # fmt: skip
            return 128 + stopped.signal
    if not is_chief(config):
        return 0
    show_result(results[0], folders) if args.seeds is None else show_seeds(results, list(folders)[0].parent)
    return 0


def resume_command(args, out):
    """What to type to go on."""
    folder = out if args.seeds is None else out.parent
    seeds = f" --seeds {args.seeds}" if args.seeds is not None else ""
    return f"python -m isra_keras.train --out {shlex.quote(str(folder))}{seeds} --resume"


def show_configuration(config, quiet=False):
    """The resolved configuration as a table."""
    if quiet:
        return
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text  # names of folders may hold what rich takes as markup

    title = Text(f"{config.dataset or 'folders'}: {config.task_name}", style="table.title")
    table = Table("name", Column("value", overflow="fold"), title=title, show_header=False, box=None)
    hidden = {"format_version", "keep_checkpoints"} | (set() if config.semantic else SEMANTIC_ONLY)
    hidden |= {"distribute", "sync_batch_norm"} if config.distribute == "none" else set()
    for name, value in vars(config).items():
        if name not in hidden and value is not None and value != {}:
            table.add_row(name, Text(_text(value)))
    Console().print(table)


SEMANTIC_ONLY = {"variant", "num_topics", "class2vec_weight", "alignment_weight", "receptor_l1", "receptor_width",
                 "normalisation"}  # fmt: skip


def _text(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items() if part is not None)
    if isinstance(value, list):
        return "/".join(f"{part:g}" for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_result(result, folders):
    """The three choices, the classes judged shared, where things are and what to type next."""
    from rich.console import Console
    from rich.table import Table

    console, out = Console(), Path(result.out)
    labelled = result.oracle is not None
    table = Table(title=f"target: {result.samples:,} samples")
    table.add_column("choice")
    table.add_column("step", justify="right")
    if labelled:
        table.add_column("accuracy", justify="right")
    table.add_column(result.select.replace("_", " ") if result.select != "last" else "mean entropy", justify="right")
    table.add_column("what it is")
    for name, choice in (("selected", result.selected), ("last", result.last)):
        score = next(iter(choice.scores.values()))
        accuracy = [f"{100 * choice.accuracy:.2f} %"] if labelled else []
        table.add_row(name, str(choice.step), *accuracy, f"{score:.4f}", EXPLAINED[name])
    console.print(table)
    if labelled:
        best = f"{100 * result.oracle.accuracy:.2f} % at step {result.oracle.step}"
        console.print(f"Upper bound: {best}, {EXPLAINED['oracle']}", highlight=False)
    else:
        console.print("The target has no labels: accuracy is unknown, the choice is label-free.")
    names, total = result.shared_classes, len(result.class_weights)
    _say(console, f"Judged shared: {len(names)} of {total} classes: {', '.join(names)}")
    if labelled:
        _say(console, found_classes(names, present_classes(out)))
    speed = f"{result.steps_per_second:.1f} it/s, {100 * result.data_wait_share:.0f} % of it waiting for data"
    console.print(f"{result.seconds:.0f} s ({speed})", highlight=False)
    typed = shlex.quote(str(out))
    print(f"model:  {out}/model.keras\nreport: {out}/report/report.md\ncurves: tensorboard --logdir {typed}/tensorboard")
    print(f"next:\n  python -m isra_keras.evaluate {typed}\n  python -m isra_keras.predict {typed} IMAGES_OR_FOLDER")


def _say(console, text):
    """Wraps a sentence with names of classes: square brackets and colons in it are no markup."""
    console.print(text, markup=False, emoji=False, highlight=False)


def present_classes(out):
    """Names of the classes that the labelled target of a run shows, from model.json."""
    classes = json.loads((out / "model.json").read_text(encoding="utf-8")).get("classes") or []
    return [row["name"] for row in classes if row["count"]]


def found_classes(judged, present):
    """Sentence: how many of the present classes were judged shared, and which were missed or taken by mistake."""
    missed = [name for name in present if name not in judged]
    extra = [name for name in judged if name not in present]
    parts = [f"missed {', '.join(missed)}"] * bool(missed) + [f"taken though absent {', '.join(extra)}"] * bool(extra)
    found = f"By the target's labels: {len(present) - len(missed)} of {len(present)} present classes found"
    return f"{found}; {'; '.join(parts)}." if parts else f"{found}, none too many."


def show_seeds(results, base):
    """Mean ± std over seeds, printed and written to summary.json."""
    from rich.console import Console
    from rich.table import Table

    from isra_keras.training.checkpoint import write_text

    summary = summarise(results)
    write_text(base / "summary.json", json.dumps(summary, indent=2) + "\n")
    table = Table(title=f"target accuracy over {len(results)} seeds")
    for column in ("choice", "mean ± std", *(f"seed {result.seed}" for result in results), "what it is"):
        table.add_column(column, justify="left" if column in ("choice", "what it is") else "right")
    for name in ("selected", "last") if summary["accuracy"] else ():
        row = summary["accuracy"][name]
        values = [f"{100 * value:.2f}" for value in row["values"]]
        table.add_row(name, f"{100 * row['mean']:.2f} ± {100 * row['std']:.2f}", *values, EXPLAINED[name])
    console = Console()
    if summary["accuracy"]:
        console.print(table)
        best = summary["accuracy"]["oracle"]
        bound = f"{100 * best['mean']:.2f} ± {100 * best['std']:.2f}"
        console.print(f"Upper bound: {bound}, {EXPLAINED['oracle']}", highlight=False)
    else:
        console.print("The target has no labels: accuracy is unknown. Label-free scores are in summary.json.")
    print(f"runs in {base}/seed* · {base}/summary.json")


def summarise(results):
    """{"seeds", "accuracy": {choice: {"mean", "std", "values"}}, "scores": the same of the selected models}.

    std is that of a sample (n - 1), 0 for one seed.
    """
    import statistics

    def row(values):
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return {"mean": statistics.fmean(values), "std": spread, "values": values}

    accuracy = {name: row([getattr(result, name).accuracy for result in results])
                for name in EXPLAINED if all(result.oracle for result in results)}  # fmt: skip
    scores = {name: row([result.selected.scores[name] for result in results]) for name in results[0].selected.scores}
    return {"seeds": [result.seed for result in results], "select": results[0].select, "accuracy": accuracy,
            "scores": scores}  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_cli(main))
