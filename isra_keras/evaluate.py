"""`python -m isra_keras.evaluate RUN`: accuracy, per-class accuracy, confusion, label-free scores of a finished run."""

import argparse
import errno
import json
import math
import os
import sys

from isra_keras.cli import run as run_cli
from isra_keras.errors import UserError
from isra_keras.run_folder import load_run, load_source_model, run_folder


def build_parser():
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m isra_keras.evaluate",
        description="Evaluates a run on its target. Without target labels: the label-free scores alone.",
    )
    parser.add_argument("run", metavar="RUN", help="run folder of `train`")
    parser.add_argument("--with", metavar="RUN", dest="others", action="append", default=[], help="another run on the same "
                        "data that votes too, as in `predict`; repeatable")  # fmt: skip
    parser.add_argument("--data-dir", metavar="DIR", help="where the dataset is now, if it has moved")
    parser.add_argument("--source-dir", metavar="DIR", help="where your own source is now, if it has moved")
    parser.add_argument("--target-dir", metavar="DIR", help="where your own target is now, if it has moved")
    parser.add_argument("--with-source", action="store_true", help="predict the source too: adds DEV and source scores")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images at once (default 64)")
    parser.add_argument("--report", action="store_true", help="write RUN/report anew")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def main(argv=None):
    """Runs the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    if args.batch_size < 1:
        raise UserError(f"Expected --batch-size of at least 1; received {args.batch_size}.")
    folder = run_folder(args.run)
    config = read_config(folder)
    if args.others and args.report:
        raise UserError("Expected --report of one run; received --with beside it. Leave one of them out.")
    if args.others:
        from isra_keras.committee import load_committee

        (network, info), before = load_committee([folder, *args.others]), None
    else:
        (network, info), before = load_run(folder), load_source_model(folder)
    task = rebuild_task(moved(config, source_dir=args.source_dir, target_dir=args.target_dir), args.data_dir)
    result, arrays = evaluate(network, info, task, args.batch_size, args.with_source, before)
    if args.report:
        from isra_keras.analysis.report import write_report

        labels = task.target.labels[arrays["indices"]]
        try:
            write_report(folder, arrays, labels, info["class_names"], info["class_weights"], source_labels=task.source.labels)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):  # the command line has words for it
                raise
            raise UserError(
                f"Expected to write to '{folder / 'report'}'; the system refused: {error.strerror}. Leave --report out, "
                "or take a copy of the run."
            ) from error
    print(json.dumps(_plain(result), indent=2)) if args.json else _show(result)
    return 0


def read_config(folder):
    """dict of config.json.

    Raises:
        UserError: if it is missing or broken.
    """
    path = run_folder(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"Expected the configuration of the run in '{path}'; it is missing or broken ({error})."
        ) from error
    if not isinstance(config, dict):
        raise UserError(f"Expected an object in '{path}'; received {type(config).__name__}.")
    return config


def moved(config, **folders):
    """The configuration of a run of a user's own folders with where they are now; None for where they were.

    Raises:
        UserError: a folder for a run of a dataset.
    """
    given = {name: os.path.expanduser(folder) for name, folder in folders.items() if folder}
    if given and not config.get("source_dir"):
        name = next(iter(given)).replace("_", "-")
        raise UserError(f"Expected --data-dir for a run of the dataset {config.get('dataset')}; received --{name}.")
    return config | given


def rebuild_task(config, data_dir=None):
    """The `Task` that a run was trained on.

    Args:
        config: of `read_config`: "source_dir" and "target_dir", or "dataset", "source" and "target".
        data_dir: where the dataset is now; None for where it was.

    Raises:
        UserError: if data is missing; a `data_dir` for a run of a user's own folders.
    """
    from isra_keras.data import tasks

    bad = config.get("on_bad_image") or "skip"
    if config.get("source_dir") and data_dir:
        raise UserError(
            f"Expected --data-dir for a dataset; the run is of the folders '{config['source_dir']}' and "
            f"'{config['target_dir']}'. If they have moved, `evaluate` takes --source-dir and --target-dir; for other commands "
            "write where they are now into the run's config.json (source_dir, target_dir)."
        )
    if config.get("source_dir"):
        return tasks.folder_task(config["source_dir"], config["target_dir"], on_bad_image=bad)
    if not config.get("dataset"):
        raise UserError("Expected 'dataset' or 'source_dir' in config.json; it holds neither.")
    return tasks.load_task(
        config["dataset"], config.get("source"), config.get("target"), data_dir=data_dir or config.get("data_dir"),
        seed=config.get("data_seed", config.get("seed") or 0),
        allow_incomplete=bool(config.get("allow_incomplete")), on_bad_image=bad,
    )  # fmt: skip


def evaluate(network, info, task, batch_size=64, with_source=False, before=None):
    """Everything that is known about a network on a task's target.

    Args:
        network, info: of `load_run`.
        task: `Task`.
        batch_size: rows of a forward pass.
        with_source: predict the source domain too.
        before: of `load_source_model`, to see what adaptation changed; None for none.

    Returns:
        (dict with "labelled", "samples", "scores", "classes", "shared_classes_judged" and, where the target has
        labels, "accuracy", "class_averaged_accuracy", "per_class", "confusion"; of `before` "after_warmup": a dict with
        "predictions_changed", in [0, 1], and "accuracy" where there are labels; dict of arrays "features", "logits",
        "indices").

    Raises:
        UserError: if the task has other classes than the run; if the network's answers are no numbers.
    """
    from isra_keras.analysis.per_class import judged_shared, weights_judged_by
    from isra_keras.selection.scores import score_all, softmax

    if list(task.class_names) != info["class_names"]:
        raise UserError(
            f"Expected the classes that the run was trained on ({_few(info['class_names'])}); "
            f"received {_few(task.class_names)}. Point --data-dir, or of your own folders --source-dir, to the same data."
        )
    target = predict_domain(network, info, task.target, batch_size, before)
    source = predict_domain(network, info, task.source, batch_size) if with_source else None
    for domain, found in ((task.target, target), (task.source, source)):
        check_finite(domain, found)
    unreadable = (*task.target.bad_images, *target["bad"])
    if source is not None:
        unreadable += (*task.source.bad_images, *source["bad"])
    extra = () if source is None else (source["features"], source["logits"], task.source.labels[source["indices"]])
    weights = weights_judged_by(info["class_weights"], softmax(target["logits"]), task.source.labels).tolist()
    shared = [name for name, is_shared in zip(info["class_names"], judged_shared(weights)) if is_shared]
    result = {
        "run": info.get("task"),
        "method": info.get("method"),
        "samples": len(target["logits"]),
        "scores": score_all(target["features"], target["logits"], *extra),
        "class_weights": dict(zip(info["class_names"], weights)),
        "shared_classes_judged": shared,
        "bad_images": [{"path": str(bad.path), "reason": bad.reason} for bad in unreadable],
    }
    labels = task.target.labels[target["indices"]]
    result.update(_with_labels(target["logits"], labels, info["class_names"]))
    if before is not None:
        earlier = target.pop("before")
        changed = earlier.argmax(axis=-1) != target["logits"].argmax(axis=-1)
        known = _with_labels(earlier, labels, info["class_names"])
        result["after_warmup"] = {"predictions_changed": float(changed.mean())} | (
            {"accuracy": known["accuracy"]} if known["labelled"] else {}
        )
    return result, target


def check_finite(domain, found):
    """Refuses answers of which scores can't be made, `found` of `predict_domain` or None."""
    import numpy as np

    if found is None:
        return
    broken = ~(np.isfinite(found["logits"]).all(axis=1) & np.isfinite(found["features"]).all(axis=1))
    if broken.any():
        raise UserError(
            f"Expected finite answers of the model; {broken.sum():,} of {len(broken):,} samples of {domain.name} have some "
            "that are NaN or infinite. Its weights, or the features that it is given, are broken: `predict` names the "
            "samples. Train it again, with a lower --learning-rate if it diverged."
        )


def _with_labels(logits, labels, class_names):
    """What needs target labels; {"labelled": False} without."""
    from isra_keras.analysis.per_class import accuracy, confusion, per_class

    if not (labels >= 0).any():
        return {"labelled": False}
    predictions = logits.argmax(axis=-1)
    rows = per_class(labels, predictions, class_names)
    overall, averaged = accuracy(rows)
    table = confusion(labels, predictions, len(class_names))
    return {
        "labelled": True,
        "accuracy": overall,
        "class_averaged_accuracy": averaged,
        "per_class": [vars(row) for row in rows if row.count or row.predicted],
        "confusion": {
            row.name: {class_names[c]: int(table[index, c]) for c in table[index].nonzero()[0]}
            for index, row in enumerate(rows)
            if row.count
        },
    }


def predict_domain(network, info, domain, batch_size=64, before=None):
    """Predictions for every readable sample of a domain, in evaluation mode and in order.

    Returns:
        dict of NumPy arrays: features (N, d) float32, logits (N, C) float32, indices (N,) int; of another network,
        `before`, its logits under that name; and "bad", a tuple of `BadImage`s, files that turned out unreadable only
        now: they have no row.

    Raises:
        UserError: if no sample is readable.
    """
    import numpy as np

    from isra_keras.data.pairs import evaluation_dataset, plain_errors
    from isra_keras.data.reader import late_bad_images

    columns = {"features": [], "logits": [], "indices": []} | ({} if before is None else {"before": []})
    data = evaluation_dataset(domain, batch_size, info["image_size"], info["crop_size"])
    with plain_errors():
        for batch in data:
            images = np.asarray(batch["images"], "float32")
            outputs, readable = network.predict_on_batch(images), np.asarray(batch["readable"])
            if before is not None:
                columns["before"].append(before.predict_on_batch(images)["logits"][readable])
            columns["features"].append(outputs["features"][readable])
            columns["logits"].append(outputs["logits"][readable])
            columns["indices"].append(np.asarray(batch["indices"])[readable])
    if not columns["logits"]:
        raise UserError(f"Expected at least one readable sample in domain {domain.name}; there is none.")
    found = {name: np.concatenate(parts) for name, parts in columns.items()}
    return found | {"bad": () if len(found["indices"]) == len(domain.labels) else late_bad_images(domain, info["image_size"])}


def _show(result):
    """Tables for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    title = " · ".join(str(part) for part in (result["run"], result["method"]) if part)
    table = Table(title=Text(title) if title else None)  # as Text: brackets in names are no markup
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_row("target samples", f"{result['samples']:,}")
    if result["labelled"]:
        table.add_row("accuracy", f"{100 * result['accuracy']:.2f} %")
        table.add_row("class-averaged accuracy", f"{100 * result['class_averaged_accuracy']:.2f} %")
    warm = result.get("after_warmup", {})
    if "accuracy" in warm:
        table.add_row("accuracy at the end of the warm-up", f"{100 * warm['accuracy']:.2f} %")
    if warm:
        table.add_row("predictions changed since the warm-up", f"{100 * warm['predictions_changed']:.2f} %")
    for name, value in result["scores"].items():
        table.add_row(f"{name} (label-free)", f"{value:.4f}")
    console.print(table)
    if warm:
        console.print("The end of the warm-up (source labels alone) is source_model.keras: fewer steps than a run of source only.")
    if result["labelled"]:
        console.print(_class_table(result["per_class"]))
    else:
        console.print("The target has no labels: accuracy and confusion are unknown, the scores above need none.")
    shared = result["shared_classes_judged"]
    counts = f"{len(shared)} of {len(result['class_weights'])} classes"
    console.print(f"Judged shared, {counts}: {', '.join(shared)}", markup=False)
    for bad in result["bad_images"][:10]:
        console.print(f"unreadable: {bad['path']}: {bad['reason']}", markup=False)
    if len(result["bad_images"]) > 10:
        console.print(f"… and {len(result['bad_images']) - 10} more unreadable images")


def _class_table(rows):
    """rich table of the classes."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name, justify in (("class", "left"), ("samples", "right"), ("accuracy", "right"), ("predicted", "right"),
                          ("most often taken for", "left")):  # fmt: skip
        table.add_column(name, justify=justify)
    for row in rows:
        share = f"{100 * row['accuracy']:.1f} %" if row["count"] else "not in the target"
        wrong = f"{row['mistaken_for']} ({row['mistakes']})" if row["mistakes"] else ""
        table.add_row(Text(row["name"]), str(row["count"]), share, str(row["predicted"]), Text(wrong))
    return table


def _plain(value):
    """The same with NaN as None, which JSON has."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _few(names, limit=6):
    names = list(names)
    return ", ".join(names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "")


if __name__ == "__main__":
    sys.exit(run_cli(main))
