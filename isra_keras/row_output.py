"""Rows of predictions as CSV or JSON lines, collected in a partial file that a later call can go on with."""

import csv
import json
import os
import sys
from array import array
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from isra_keras.errors import UserError

COLUMNS = ("path", "class", "probability", "entropy", "error")


class KnownRows:
    """Paths that a partial output holds already, as 8-byte digests: 8 MB for a million."""

    def __init__(self, out, kind):
        import numpy as np

        self.skipped = 0
        digests = array("Q", (_digest(path) for path in _written_paths(_partial(out), out, kind)))
        self._digests = np.unique(np.frombuffer(digests, "uint64")) if digests else np.zeros(0, "uint64")

    def skip(self, path):
        """True, and counted, if the path has a row."""
        import numpy as np

        digest = np.uint64(_digest(path))
        position = self._digests.searchsorted(digest)
        found = position < len(self._digests) and self._digests[position] == digest
        self.skipped += bool(found)
        return bool(found)


def _digest(path):
    return int.from_bytes(blake2b(os.fsencode(path), digest_size=8).digest(), "little")


def _written_paths(partial, out, kind):
    """Paths of the complete rows of a partial output; makes `partial` from `out` if the run had ended."""
    if not partial.exists() and Path(out).exists():
        os.replace(out, partial)
    if not partial.exists():
        return
    with open(partial, "r+b") as file:  # a row that a crash cut off is cut away
        file.truncate(_last_newline(file))
    with open(partial, newline="", encoding="utf-8", errors="surrogateescape") as file:
        if kind == "csv":
            yield from (row["path"] for row in csv.DictReader(file) if row.get("path"))
        else:
            yield from (json.loads(line)["path"] for line in file if line.strip())


def _last_newline(file):
    """Position behind the last newline of a binary file, 0 if it has none."""
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        start = max(0, position - 65536)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def _partial(out):
    """Where rows are collected until all are there."""
    return Path(f"{out}.part")


@contextmanager
def open_output(out, kind, top_k, resume):
    """Yields `write(row)`. Rows go to OUT.part, which becomes OUT at the end; without OUT to standard output.

    Args:
        out: file name or None.
        kind: "csv" or "jsonl".
        top_k: classes a row.
        resume: go on with OUT.part.

    Raises:
        UserError: if the file can't be opened.
    """
    if out is None:
        if hasattr(sys.stdout, "reconfigure"):  # file names may be no valid UTF-8
            sys.stdout.reconfigure(errors="surrogateescape")
        yield _writer(sys.stdout, kind, top_k, header=True)
        sys.stdout.flush()
        return
    partial = _partial(out)
    if resume and kind == "csv":
        _check_header(partial, top_k)
    try:
        file = open(partial, "a" if resume else "w", newline="", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"Expected to write to '{out}'; it can't be opened: {error.strerror}.") from error
    with file:
        yield _writer(file, kind, top_k, header=file.tell() == 0)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, out)


def _header(top_k):
    """Columns of a CSV: those of `COLUMNS`, then class_2, probability_2, …"""
    return [*COLUMNS, *(f"{name}_{rank}" for rank in range(2, top_k + 1) for name in ("class", "probability"))]


def _check_header(partial, top_k):
    """Refuses to go on with a CSV of other columns."""
    if not partial.exists():
        return
    with open(partial, newline="", encoding="utf-8", errors="surrogateescape") as file:
        found = next(csv.reader(file), None)
    if found and found != _header(top_k):
        raise UserError(
            f"Expected the columns {', '.join(_header(top_k))} in '{partial}'; received {', '.join(found)}. "
            "Use the options of the first call, or another --out."
        )


def _writer(file, kind, top_k, header):
    """Function that writes a row as CSV or as a JSON line."""
    if kind == "jsonl":

        def write_json(row):
            record = {name: row[name] for name in COLUMNS}
            if top_k > 1:
                record["top"] = [{"class": name, "probability": round(p, 6)} for name, p in row["top"]]
            file.write(json.dumps(_rounded(record)) + "\n")

        return write_json
    writer = csv.writer(file, lineterminator="\n")
    if header:
        writer.writerow(_header(top_k))

    def write_csv(row):
        record = _rounded(row)
        others = [value for name, p in row["top"][1:] for value in (name, round(p, 6))]
        writer.writerow([*("" if record[name] is None else record[name] for name in COLUMNS),
                         *(others or [""] * 2 * (top_k - 1))])  # fmt: skip

    return write_csv


def _rounded(row):
    """The row with six digits behind the point."""
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}
