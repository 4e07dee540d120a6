"""`python -m isra_keras.predict RUN IMAGES…|DIR`: a class for every image, one row an image, in little memory."""

import argparse
import hashlib
import json
import math
import os
import sys
import time
import zipfile
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

from isra_keras.cli import run as run_cli
from isra_keras.errors import UserError
from isra_keras.row_output import KnownRows, alone, open_output
from isra_keras.run_folder import load_run, read_info, resized_to, run_folder

NOT_FINITE = "the model's answer is not finite"
VOTES = 2
"""How votes are counted, `isra_keras.committee`; 1: without a source-only run's part in it."""


def build_parser():
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m isra_keras.predict",
        description="One row for every image: path, class, probability, entropy (nats), error. Unreadable files get "
        "a row with the reason.",
    )
    parser.add_argument("run", metavar="RUN", help="run folder of `train`, with model.keras and model.json")
    parser.add_argument("inputs", metavar="IMAGE|DIR", nargs="+",
                        help="images, lists of images (.txt, as `train` takes them) and folders (searched to the "
                        "bottom; other files are passed over); for runs on precomputed features: .npy or .npz files")  # fmt: skip
    parser.add_argument("--with", metavar="RUN", dest="others", action="append", default=[], help="another run that votes "
                        "too; repeatable. The probability is then the class's part of the votes, where the mean of the "
                        "runs' own probabilities is one vote more; of equal votes the class with more on the runs' "
                        "own target leads, and where none has more than a third of them that of a source_only run, "
                        "if one is named, with the largest part; the entropy is that of these parts")  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="write here instead of to standard output")
    parser.add_argument("--format", choices=("csv", "jsonl"), help="csv, or what the name of --out says")
    parser.add_argument("--top-k", type=int, default=1, metavar="K", help="also the next best classes (default 1)")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="images at once (default 32)")
    parser.add_argument("--threads", type=int, default=min(8, os.cpu_count() or 1), help="decoding threads")
    parser.add_argument("--remarks", action="store_true", help="a further column: images unlike the run's source, "
                        "answers less certain than its target's; reads some 1,300 images of its dataset first")  # fmt: skip
    parser.add_argument("--data-dir", metavar="DIR", help="where that dataset is now, if it has moved")
    parser.add_argument("--resume", action="store_true", help="go on with --out of the same RUN and options: "
                        "images with a row are passed over")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary on standard error")
    return parser


def main(argv=None):
    """Runs the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    _check(args)
    with alone(args.out):
        return _predict(args)


def _predict(args):
    """Reads the runs, predicts and writes; returns the exit code."""
    kind = _format(args)
    network, info = _load([args.run, *args.others])
    top_k = min(args.top_k, len(info["class_names"]))
    model = None if args.out is None else _model_digest([args.run, *args.others])
    known = KnownRows(args.out, kind, top_k, model, args.remarks) if args.resume else None
    remarked = _remarking(args, network, info) if args.remarks else None
    counts, passed = Counter(), Counter()
    start = time.monotonic()
    batches = predict_rows(network, info, args.inputs, args.batch_size, top_k, args.threads, known, remarked, passed)
    first = next(batches, None)  # before anything is written: without images OUT stays what it was
    if first is None and not (known and known.skipped):
        kinds = "JPEG, PNG, WebP, BMP, GIF, TIFF"
        raise UserError(f"Expected images in {', '.join(map(repr, args.inputs))}; there is none ({kinds}).{_others(passed)}")
    output = open_output(args.out, kind, top_k, args.resume, model, args.remarks)
    with output as write, _progress(args.quiet) as advance:
        for rows in chain([] if first is None else [first], batches):
            for row in rows:
                write(row)
                counts["unanswered" if row["error"] == NOT_FINITE else "unreadable"] += bool(row["error"])
            counts["rows"] += len(rows)
            advance(len(rows))
    if not args.quiet:
        if passed:
            print(f"warning:{_others(passed)}", file=sys.stderr)
        seconds = time.monotonic() - start
        skipped = f", {known.skipped:,} passed over" if known else ""
        unanswered = f", {counts['unanswered']:,} without a finite answer" if counts["unanswered"] else ""
        said = f"{counts['rows']:,} rows, {counts['unreadable']:,} unreadable{unanswered}{skipped}"
        print(f"{said}, {seconds:.1f} s", file=sys.stderr)
    return 0


def _load(runs):
    """As `load_run`; of several runs their vote."""
    if len(runs) == 1:
        return load_run(runs[0])
    from isra_keras.committee import load_committee

    return load_committee(runs)


def _model_digest(runs):
    """Text that is the same for the same networks, classes and sizes, wherever the run folders are."""
    found = []
    for run in runs:
        with open(run_folder(run) / "model.keras", "rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()
        info = read_info(run)
        found.append(json.dumps([weights, *(info[name] for name in ("class_names", "kind", "image_size", "crop_size"))]))
        if len(runs) > 1:
            found.append(json.dumps([VOTES, weights, info.get("method"), info.get("predicted")]))
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()[:32]


def _remarking(args, network, info):
    """Function of entropies and features -> remarks; without the run's dataset, which is said, they tell less."""
    from isra_keras.evaluate import read_config, rebuild_task
    from isra_keras.remarks import read_border, remarks

    border = None
    try:
        border = read_border(network, info, rebuild_task(read_config(run_folder(args.run)), args.data_dir))
    except UserError as error:
        print(f"warning: nothing is said of images unlike the source: {error}", file=sys.stderr)
    return lambda entropy, features: remarks(info, entropy, features, border)


def predict_rows(network, info, inputs, batch_size=32, top_k=1, threads=4, known=None, remarked=None, passed=None):
    """Lists of rows, a batch at a time, in the order of `iter_images`.

    Memory does not depend on the number of files, but for the names of one folder: they are decoded and forgotten as
    they come.

    Args:
        network, info: of `load_run` or `load_committee`.
        inputs: image files and folders.
        batch_size: rows of a forward pass.
        top_k: classes in a row's "top".
        threads: decoding threads.
        known: has a method `skip(path)` that is True for paths to pass over, or None.
        remarked: (n,) entropies, (n, d) features -> n texts, or None.
        passed: as in `iter_images`.

    Yields:
        list of dict: path, class, probability, entropy (nats), error ("" or the reason), remarks (""), top (list of
        (class, probability)); class, probability and entropy are None where there is an error.
    """
    names = info["class_names"]
    top_k, rows_at_once = min(top_k, len(names)), None
    for batch in _batches(_samples(network, info, inputs, threads, batch_size, known, passed), batch_size):
        rows = [{"path": path, "class": None, "probability": None, "entropy": None, "error": reason, "remarks": "",
                 "top": []} for path, _, reason in batch]  # fmt: skip
        readable = [index for index, (_, _, reason) in enumerate(batch) if not reason]
        if len(batch) == batch_size:  # fewer images than that are not filled up to it
            rows_at_once = batch_size
        if readable:
            results = _classify(network, [batch[index][1] for index in readable], rows_at_once, top_k, remarked)
            for index, (best, probabilities, entropy, said) in zip(readable, results):
                if not math.isfinite(entropy):  # weights or activations that are NaN or infinite
                    rows[index]["error"] = NOT_FINITE
                    continue
                top = [(names[c], float(p)) for c, p in zip(best, probabilities)]
                rows[index].update(
                    {"class": top[0][0], "probability": top[0][1], "entropy": max(float(entropy), 0.0),
                     "remarks": said, "top": top}
                )  # fmt: skip
        yield rows


def _classify(network, samples, rows_at_once, top_k, remarked):
    """[(best classes, their probabilities, entropy, remarks)] of samples of one shape, filled up to so many rows, or
    None."""
    import numpy as np

    from isra_keras.selection.scores import entropies, softmax

    images = np.stack(samples).astype("float32")
    count = len(images)
    if rows_at_once and count < rows_at_once:  # one shape only, so that the network is traced once
        images = np.concatenate([images, np.zeros((rows_at_once - count, *images.shape[1:]), "float32")])
    outputs = network.predict_on_batch(images)
    probabilities = softmax(outputs["logits"][:count])
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    entropy = entropies(probabilities)
    said = remarked(entropy, outputs["features"][:count]) if remarked else [""] * count
    return list(zip(best, np.take_along_axis(probabilities, best, axis=1), entropy, said))


def _samples(network, info, inputs, threads, batch_size, known, passed):
    """(path, array or None, reason or "") of every sample that is not known already."""
    if info["kind"] == "features":
        yield from _feature_rows(inputs, network.input_shape[-1], known)
        return
    height, width = network.input_shape[1:3]
    sizes = (resized_to(info, (height, width)), info["crop_size"])

    def load(path):
        return (path, *load_image(path, *sizes))

    paths = (path for path in iter_images(inputs, passed) if known is None or not known.skip(path))
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(load, path) for path in islice(paths, 4 * batch_size))
        try:
            while waiting:
                sample = waiting.popleft().result()
                waiting.extend(pool.submit(load, path) for path in islice(paths, 1))
                yield sample
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def load_image(path, image_size, crop_size):
    """An image as the network was evaluated on (`data.reader.FileReader`): resized, centre crop.

    Args:
        path: file.
        image_size: side of the square that it is resized to, of `run_folder.resized_to`.
        crop_size: side of the centre crop; None crops nothing.

    Returns:
        (uint8 (height, width, 3), ""), or (None, reason).
    """
    from isra_keras.data.decode import BadImageError, decode_resized

    try:
        image = decode_resized(path, image_size)
    except BadImageError as error:
        return None, str(error) or "unreadable"
    crop = crop_size or image_size
    start = (image_size - crop) // 2
    return image[start : start + crop, start : start + crop], ""


def iter_images(inputs, passed=None):
    """Paths of the named files, of those in named lists, and of all images below named folders, whose names are held one
    folder at a time.

    Inputs come as they are named, a folder's images by name, then its folders by name, each to the bottom. Below a
    folder the rules are those of `data.image_folder.image_files`: nothing hidden, links are followed, none twice.

    Args:
        inputs: files (taken whatever they are called), folders, and lists as `train` takes them (.txt; their classes, if
            there are any, are not looked at).
        passed: `Counter` to which the endings of the folders' other visible files are added, or None.

    Raises:
        UserError: if one is not there.
    """
    from isra_keras.data.image_folder import is_run_folder
    from isra_keras.data.image_list import is_list, read_list

    for given in inputs:
        if not os.path.exists(given):
            raise UserError(f"Expected images or folders; received '{given}', which is not there.")
    for given in inputs:
        if not os.path.isdir(given):
            yield from read_list(given)[0] if is_list(given) else [str(given)]
            continue
        waiting, seen = [str(given)], set()
        while waiting:
            folder = waiting.pop()
            real = os.path.realpath(folder)
            if real in seen or seen and is_run_folder(folder):
                continue
            seen.add(real)
            images, folders = _names(folder, passed)
            yield from (os.path.join(folder, name) for name in images)
            waiting.extend(os.path.join(folder, name) for name in reversed(folders))


def _names(folder, passed=None):
    """(sorted names of the images, sorted names of the folders) of a folder; of one that can't be read none, which is
    said. Names alone: entries of a million files would take three times the memory."""
    from isra_keras.data.image_folder import CLUTTER, is_folder, is_image_file

    images, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if is_folder(entry):
                    folders.append(entry.name)
                elif is_image_file(entry):
                    images.append(entry.name)
                elif passed is not None and entry.name.lower() not in CLUTTER:
                    passed[os.path.splitext(entry.name)[1].lower()] += 1
    except OSError as error:
        print(f"warning: '{folder}' can't be read: {error.strerror}", file=sys.stderr)
    return sorted(images), sorted(folders)


def _others(passed):
    """A sentence about files that were passed over, "" if there are none."""
    from isra_keras.data.own_folders import other_files

    return f" Passed over {other_files(passed)}" if passed else ""


def _feature_rows(inputs, width, known):
    """(path, vector, reason) of every row of .npy files and of "features" in .npz files."""
    import numpy as np

    for given in inputs:
        try:
            loaded = np.load(given, mmap_mode="r", allow_pickle=False)
            rows = loaded["features"] if hasattr(loaded, "files") else loaded
            names = loaded["path"] if hasattr(loaded, "files") and "path" in loaded.files else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"Expected .npy or .npz with features (n, {width}); '{given}' can't be read: {error}"
            ) from error
        if rows.ndim != 2 or rows.shape[1] != width:
            raise UserError(f"Expected features (n, {width}) in '{given}'; received shape {rows.shape}.")
        if names is not None and names.shape != (len(rows),):
            raise UserError(f"Expected a path for each of {len(rows)} rows in '{given}'; received \"path\" of shape {names.shape}.")
        for index in range(len(rows)):
            path = f"{given}#{index}" if names is None else _text(names[index])
            if known is None or not known.skip(path):
                finite = bool(np.isfinite(rows[index]).all())
                yield path, rows[index], "" if finite else "features are not finite"


def _text(name):
    """A name of an array of texts or of bytes, as many tools write them."""
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)


def _batches(items, size):
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


@contextmanager
def _progress(quiet):
    """Yields `advance(rows)`, shown on standard error."""
    if quiet or not sys.stderr.isatty():
        yield lambda rows: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,} images"), TextColumn("{task.fields[rate]:.0f}/s"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task, start = progress.add_task("predict", total=None, rate=0.0), time.monotonic()

        def advance(rows):
            done = progress.tasks[0].completed + rows
            progress.update(task, advance=rows, rate=done / max(time.monotonic() - start, 1e-6))

        yield advance


def _format(args):
    """ "csv" or "jsonl": --format, else the ending of --out."""
    return args.format or ("jsonl" if str(args.out).endswith((".jsonl", ".ndjson")) else "csv")


def _check(args):
    """Refuses options that make no sense before anything is loaded."""
    for name in ("top_k", "batch_size", "threads"):
        if getattr(args, name) < 1:
            raise UserError(f"Expected --{name.replace('_', '-')} of at least 1; received {getattr(args, name)}.")
    if args.remarks and args.others:
        raise UserError("Expected --remarks of one run; received --with too: what is usual is known of single runs.")
    if args.data_dir is not None and not args.remarks:
        raise UserError("Expected --data-dir with --remarks, which reads the run's dataset; received it alone. Leave it out.")
    if args.resume and args.out is None:
        raise UserError("Expected --out FILE with --resume; rows on standard output can't be gone on with.")
    if args.out is not None:
        _check_out(Path(args.out))
    for run in (args.run, *args.others):
        run_folder(run)
    for given in args.inputs:
        if not os.path.exists(given):
            raise UserError(f"Expected images or folders; received '{given}', which is not there.")


def _check_out(out):
    """Refuses what rows can't be written to; a device would be replaced by a file."""
    folder = out.resolve().parent
    if not folder.is_dir():
        raise UserError(f"Expected an existing folder for --out; received '{out}'.")
    if out.exists() and not out.is_file():
        kind = "a folder" if out.is_dir() else "no plain file"
        raise UserError(f"Expected a file for --out; '{out}' is {kind}. Name a file, such as rows.csv.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"Expected a folder that can be written to for --out '{out}'; '{folder}' can't. Name another.")


if __name__ == "__main__":
    sys.exit(run_cli(main))
