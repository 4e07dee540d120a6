"""Lists of image files, as the field's scripts keep them: a line for each image, its path and its class."""

import codecs
import os
import re
import sys
from pathlib import Path

from isra_keras.data.decode import IMAGE_SUFFIXES
from isra_keras.data.paths import Paths
from isra_keras.errors import UserError

LONGEST_LINE = 10_000
NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


def is_list(path):
    """Whether a path is meant as a list: a file with the ending .txt, .lst or .tsv."""
    return str(path).lower().endswith((".txt", ".lst", ".tsv")) and os.path.isfile(path)


def read_list(path):
    """Files and classes of a list.

    A line is `FILE CLASS`, or `FILE` for an image without a label; a tab between them if the class's name has blanks.
    Files are relative to the list's folder, or absolute. Empty lines and lines that begin with # are skipped. Bytes
    that are not UTF-8 stay as they are, as in names of files; UTF-16, as Windows writes it, is known by its first bytes.

    Args:
        path: the list.

    Returns:
        (files, classes): `Paths` and a list of str; classes is None if no line has one.

    Raises:
        UserError: the file can't be read or lists nothing; some lines have a class and others have none: names the line.
    """
    classes = []
    try:
        with open(path, encoding=_encoding(path), errors="surrogateescape") as lines:
            files = Paths(_files(path, lines, classes))
    except OSError as error:
        raise UserError(f"Expected a list of images in '{path}'; it can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"Expected a list of images in '{path}' in UTF-8; it begins as UTF-16 does, and is none.") from error
    if not files:
        raise UserError(f"Expected a list of images in '{path}', a line FILE CLASS for each; it lists none.")
    return files, classes or None


def _encoding(path):
    with open(path, "rb") as file:
        start = file.read(LONGEST_LINE)
    marked = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if marked and b"\0" in start else "utf-8-sig"  # names in old encodings may begin with the same bytes


def in_label_order(names):
    """Distinct class names as a tuple: by value if all of them are numbers, by name otherwise."""
    distinct = set(names)
    by_value = all(NUMBER.fullmatch(name) for name in distinct)
    return tuple(sorted(distinct, key=(lambda name: (int(name), name)) if by_value else None))


def list_name(path):
    """The domain's name: the file's, without its ending."""
    return Path(path).stem


def _files(path, lines, classes):
    """The file of each line; its class is added to `classes`."""
    bare, folder = None, os.path.dirname(os.path.abspath(path)).rstrip("/")
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        file, name = _parts(path, number, text)
        if name is None:
            bare = bare or number
        else:
            classes.append(sys.intern(name))  # a million lines, a thousand names
        if bare and classes:
            raise UserError(f"Expected a class in every line of '{path}' or in none; line {bare} has none, others do.")
        yield file if file.startswith("/") else f"{folder}/{file}"


def _parts(path, number, text):
    """(file, class or None) of a line."""
    if len(text) > LONGEST_LINE or "\0" in text:
        raise UserError(f"Expected FILE CLASS in line {number} of '{path}'; received no text: {text[:40]!r}...")
    if "\t" in text:
        file, name = (part.strip() for part in text.rsplit("\t", 1))
    else:
        file, name = text, None
        if not text.lower().endswith(IMAGE_SUFFIXES):
            file, name = (text.rsplit(None, 1) + [None])[:2]
    if not file or name == "":
        raise UserError(f"Expected FILE CLASS in line {number} of '{path}'; received {text[:80]!r}.")
    return file, name
