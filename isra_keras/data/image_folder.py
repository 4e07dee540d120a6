"""Trees of image files: which classes, which files, in an order that depends on names only."""

import io
import os
import warnings
from array import array
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from isra_keras.data.decode import FORMATS, IMAGE_SUFFIXES, check_image
from isra_keras.data.domain import BadImage, Domain
from isra_keras.data.paths import Paths
from isra_keras.errors import UserError
from isra_keras.row_output import csv_writer

READABLE = ", ".join(FORMATS)
CLUTTER = ("thumbs.db", "desktop.ini")
"""Files that systems leave in folders of images."""
ON_BAD_IMAGE = ("skip", "error")
MOST_CHECKED = 50_000
"""Of more files than this none is opened before training: ImageNet's 1.3 million would take minutes, or hours on a
network drive. A bad one is then named and replaced when it is read (`image_store.ImageStore`)."""


class Scan(NamedTuple):
    """Readable files of a list.

    Attributes:
        keep: positions of the readable files.
        bad: the others, with the reason.
    """

    keep: list[int] | range
    bad: tuple[BadImage, ...]


def class_folders(folder):
    """Names of the visible sub-folders, sorted.

    Raises:
        UserError: if `folder` is no readable folder.
    """
    return sorted(entry.name for entry in _entries(folder) if is_folder(entry) and not entry.name.startswith("."))


def image_files(folder, recursive=True, passed=None):
    """Visible image files of a folder, by suffix, sorted by path; safe against loops of symbolic links.

    Folders of runs below it are passed over: their images are figures.

    Args:
        folder: where to look.
        recursive: also in sub-folders.
        passed: `Counter` to which the endings of other visible files are added, or None.

    Returns:
        list of paths.

    Raises:
        UserError: if `folder` is no readable folder.
    """
    found, waiting, seen = [], [str(folder)], set()
    while waiting:
        current = waiting.pop()
        real = os.path.realpath(current)
        if real in seen or seen and is_run_folder(current):
            continue
        seen.add(real)
        for entry in _entries(current):
            if entry.name.startswith("."):
                continue
            if is_folder(entry):
                waiting.extend([entry.path] if recursive else [])
            elif is_image_file(entry):
                found.append(entry.path)
            elif passed is not None and entry.name.lower() not in CLUTTER:
                passed[os.path.splitext(entry.name)[1].lower()] += 1
    return sorted(found)


def labelled_files(folders, recursive=True, passed=None):
    """Image files of several folders, one folder after the other.

    Args:
        folders: {label: folder}.
        recursive, passed: as in `image_files`.

    Returns:
        (`Paths`, (n,) int32 labels).

    Raises:
        UserError: if one is no readable folder.
    """
    labels = array("i")

    def files():
        for label, folder in folders.items():
            found = image_files(folder, recursive, passed)
            labels.extend([label] * len(found))
            yield from found

    return Paths(files()), np.array(labels, "int32")


def is_run_folder(folder):
    """Whether `train` has made a folder."""
    return os.path.isfile(os.path.join(folder, "config.json")) and os.path.isdir(os.path.join(folder, "checkpoints"))


def is_folder(entry):
    """Whether an `os.DirEntry` is a folder or a link to one; a link that leads back to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_image_file(entry):
    """Whether an `os.DirEntry` is a file with an image's suffix, or a link to one that is gone (reading will tell).

    Pipes and devices are not: opening one could wait for ever.
    """
    if not entry.name.lower().endswith(IMAGE_SUFFIXES):
        return False
    try:
        return entry.is_file() or entry.is_symlink() and not os.path.exists(entry.path)
    except OSError:  # a link that leads back to itself: reading will tell
        return True


def scan(paths, on_bad_image="skip", threads=None):
    """Checks header and ending of every file in parallel.

    Args:
        paths: image files.
        on_bad_image: "skip" leaves bad files out and names them, and checks none of more than `MOST_CHECKED`; "error"
            checks all and refuses.
        threads: number of readers; None for a few for each processor.

    Returns:
        `Scan`.

    Raises:
        UserError: with "error", if a file is bad; if `on_bad_image` is unknown.
    """
    if on_bad_image not in ON_BAD_IMAGE:
        raise UserError(f"Expected --on-bad-image of {', '.join(ON_BAD_IMAGE)}; received '{on_bad_image}'.")
    if on_bad_image == "skip" and len(paths) > MOST_CHECKED:
        return Scan(range(len(paths)), ())
    with ThreadPoolExecutor(threads or min(32, 4 * (os.cpu_count() or 1))) as pool:
        reasons = list(pool.map(check_image, paths, chunksize=64))
    bad = tuple(BadImage(path, reason) for path, reason in zip(paths, reasons) if reason)
    if bad and on_bad_image == "error":
        raise UserError(f"Expected readable images; {summary(bad)}. Remove or replace them, or pass over bad ones "
                        "(--on-bad-image skip).")
    return Scan([index for index, reason in enumerate(reasons) if reason is None], bad)


def summary(bad_images, shown=5):
    """ "3 of them cannot be read: a.jpg (empty file), ..." of `BadImage`s; none is named if `shown` is 0."""
    named = ", ".join(f"{bad.path} ({bad.reason})" for bad in bad_images[:shown])
    more = f" and {len(bad_images) - shown} more" if len(bad_images) > shown else ""
    kinds = Counter(bad.reason.split(":")[0] for bad in bad_images)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4)) if len(bad_images) > 1 else ""
    files = "file" if len(bad_images) == 1 else "files"
    text = f"{len(bad_images)} {files} cannot be read{f' ({counts})' if counts else ''}"
    return f"{text}: {named}{more}" if shown else text


def make_domain(name, classes, files, labels, place, on_bad_image):
    """`Domain` of image files after the scan for bad ones."""
    kept = scan(files, on_bad_image)
    if not kept.keep:
        bad = f" ({summary(kept.bad)})" if kept.bad else ""
        raise UserError(f"Expected readable images in '{place}'; found none{bad}.")
    if kept.bad:
        inside = tuple(BadImage(_inside(bad.path, place), bad.reason) for bad in kept.bad)  # short enough to read
        warnings.warn(f"{name}: {summary(inside, shown=2)}; skipped.", stacklevel=3)
    labels = np.asarray(labels, "int32")
    if kept.bad:
        files, labels = [files[index] for index in kept.keep], labels[kept.keep]
    return Domain(name, tuple(classes), labels, files, None, kept.bad)


def _inside(path, folder):
    """The path from the folder, if it lies in it."""
    return os.path.relpath(path, folder) if path.startswith(os.path.join(folder, "")) else path


def table(bad_images):
    """CSV text of `BadImage`s: path, reason."""
    text = io.StringIO()
    csv_writer(text).writerows([("path", "reason"), *sorted(set(bad_images))])
    return text.getvalue()


def describe(folder, shown=8):
    """What a folder holds, for messages about a missing dataset."""
    if not os.path.exists(folder):
        return f"'{folder}' does not exist"
    if not os.path.isdir(folder):
        return f"'{folder}' is a file"
    names = sorted(entry.name for entry in _entries(folder) if not entry.name.startswith("."))
    listed = ", ".join(names[:shown]) + (f", ... ({len(names)} entries)" if len(names) > shown else "")
    return f"'{folder}' holds {listed or 'nothing'}"


def _entries(folder):
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"Expected a readable folder; received '{folder}': {error.strerror}.") from error
