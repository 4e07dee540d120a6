"""Rows of predictions as CSV or JSON lines, collected in a partial file that a later call can go on with."""

import csv
import json
import os
import shutil
import sys
from array import array
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

from isra_keras.errors import UserError

COLUMNS = ("path", "class", "probability", "entropy", "error")


class KnownRows:
    """Paths that a partial output holds already, as 8-byte digests and how often: 16 MB for a million.

    Nothing is written or renamed here: a call with other options leaves finished rows as they are.

    Args:
        out, kind, top_k, model, remarks: as in `open_output`.

    Raises:
        UserError: the rows were made with other options or by another model, or are none of `open_output`'s.
    """

    def __init__(self, out, kind, top_k=1, model=None, remarks=False):
        import numpy as np

        self.skipped, begun = 0, _begun(out)
        digests = array("Q")
        if begun is not None:
            _check_model(begun, model)
            digests.extend(_digest(path) for path in _written_paths(begun, kind, top_k, remarks))
        found = np.frombuffer(digests, "uint64") if digests else np.zeros(0, "uint64")
        self._digests, self._left = np.unique(found, return_counts=True)

    def skip(self, path):
        """True, and counted, if the path has a row that no earlier call was told of: it may come, and have rows, twice."""
        import numpy as np

        digest = np.uint64(_digest(path))
        position = self._digests.searchsorted(digest)
        found = position < len(self._digests) and self._digests[position] == digest and self._left[position] > 0
        if found:
            self._left[position] -= 1
        self.skipped += bool(found)
        return bool(found)


def _digest(path):
    return int.from_bytes(blake2b(os.fsencode(path), digest_size=8).digest(), "little")


def _begun(out):
    """The file with the rows so far: OUT.part, else OUT; None if there is neither."""
    return next((path for path in (_partial(out), Path(out)) if path.is_file()), None)


def _written_paths(begun, kind, top_k, remarks):
    """Paths of the complete rows of an output; a row that a crash cut off is not looked at."""
    with open(begun, "rb") as file:
        whole = _whole_rows(file, kind)
    options = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    with open(begun, **options) as file:
        if kind == "csv":
            first = file.readline()  # of other rows, quotes may make no row whole
            _check_columns(begun, next(csv.reader([first])) if first.endswith("\n") else None, _header(top_k, remarks))
            file.seek(0)
            yield from (row[0] for row in islice(csv.reader(_until(file, whole)), 1, None) if row)
            return
        for number, line in enumerate(_until(file, whole), start=1):
            if line.strip():
                yield _path_of(line, number, begun, top_k, remarks)


def _until(file, size):
    """Lines of a text file of so many bytes."""
    for line in file:
        size -= len(line.encode("utf-8", "surrogateescape"))
        if size < 0:
            return
        yield line


def _path_of(line, number, begun, top_k, remarks):
    """The path in a JSON line.

    Raises:
        UserError: no JSON line of `_writer`, or one with another number of classes, with remarks or without.
    """
    try:
        row = json.loads(line)
        path, error, top = str(row["path"]), row["error"], row.get("top")
        fits = (top is None) == (top_k == 1) and (error or top is None or len(top) == top_k)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"Expected JSON lines of this command in '{begun}'; line {number} is none: {line.strip()[:60]!r}. "
            "Use the options of the first call, or another --out."
        ) from None
    if ("remarks" in row) != remarks:
        raise UserError(
            f"Expected rows {'with' if remarks else 'without'} remarks in '{begun}'; line {number} is none. Use the "
            "options of the first call, or another --out."
        )
    if not fits:
        raise UserError(
            f"Expected rows of {top_k} {'class' if top_k == 1 else 'classes'} in '{begun}'; line {number} has "
            f"{max(len(top or ()), 1)}. Use the options of the first call, or another --out."
        )
    return path


def _whole_rows(file, kind):
    """Position behind the last whole row of a binary file, 0 if it has none."""
    if kind == "csv":
        return _last_row_end(file)
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        start = max(0, position - 65536)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def _last_row_end(file):
    """Position behind the last newline of a binary CSV that is not in quotes: names may hold one, and it ends no row."""
    end, position, quoted = file.seek(0), 0, False
    while chunk := file.read(1 << 20):
        for number, part in enumerate(chunk.split(b'"')):
            quoted ^= number > 0
            found = -1 if quoted else part.rfind(b"\n")
            end = position + found + 1 if found >= 0 else end
            position += len(part) + 1
        position -= 1  # behind the last part there is no quote
    return end


def _partial(out):
    """Where rows are collected until all are there."""
    return Path(f"{out}.part")


@contextmanager
def alone(out):
    """Keeps other processes away from OUT.part and OUT while rows are looked at, written and renamed.

    The lock is a hidden file beside them that goes away with it; one that a killed process left behind locks nothing.

    Args:
        out: file name, or None for standard output, which needs none.

    Raises:
        UserError: another process is at it; the file can't be made.
    """
    if out is None:
        yield
        return
    from filelock import FileLock, Timeout

    path = Path(out).with_name(f".{_partial(out).name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Expected to be alone at --out '{out}'; received one that another `predict` is writing to. Wait for it, "
            "end it, or take another --out."
        ) from None
    except OSError as error:
        raise UserError(
            f"Expected to write to '{out}'; the system refused '{path.name}' beside it: {error.strerror}. Take another "
            "--out."
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: later, it could be the next one's
        lock.release()


@contextmanager
def open_output(out, kind, top_k, resume, model=None, remarks=False):
    """Yields `write(row)`. Rows go to OUT.part, which becomes OUT at the end; without OUT to standard output.

    An exception leaves OUT as it was, and OUT.part with the rows so far.

    Args:
        out: file name or None.
        kind: "csv" or "jsonl".
        top_k: classes a row.
        resume: go on with OUT.part, or with a copy of OUT; `KnownRows` has looked at them.
        model: digest of what predicts, kept in a hidden file beside the rows, so that no other one goes on; or None.
        remarks: rows have "remarks", a last column.

    Raises:
        UserError: if the file can't be opened.
    """
    if out is None:
        if hasattr(sys.stdout, "reconfigure"):  # as a file is written; file names may be no valid UTF-8
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
        yield _writer(sys.stdout, kind, top_k, remarks, header=True)
        sys.stdout.flush()
        return
    partial = _partial(out)
    try:
        file = _opened(out, partial, kind, resume)
        if model is not None:
            _note(partial).write_text(f"{model}\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"Expected to write to '{out}'; it can't be opened: {error.strerror}.") from error
    with file:
        yield _writer(file, kind, top_k, remarks, header=file.tell() == 0)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, out)
    if model is not None:
        os.replace(_note(partial), _note(Path(out)))


def _opened(out, partial, kind, resume):
    """The partial file, to be written to; with `resume` behind its last complete row."""
    if resume and not partial.exists() and os.path.exists(out):
        shutil.copyfile(out, partial)  # OUT stays until all rows are there
    if resume and partial.exists():
        with open(partial, "r+b") as file:
            file.truncate(_whole_rows(file, kind))
    return open(partial, "a" if resume else "w", newline="", encoding="utf-8", errors="surrogateescape")


def _note(path):
    """Where the model is named that made the rows of a file."""
    return path.with_name(f".{path.name}.model")


def _check_model(begun, model):
    """Refuses to go on with the rows of another model; a file without its note is trusted, and that is said."""
    if model is None:
        return
    try:
        kept = _note(begun).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        print(f"warning: nothing says which run made the rows of '{begun}'; going on with them.", file=sys.stderr)
        return
    if kept != model:
        raise UserError(
            f"Expected the RUN (and --with) that made the rows of '{begun}'; received another one, whose rows would be "
            "mixed with them. Name the same, or another --out."
        )


def _header(top_k, remarks):
    """Columns of a CSV: those of `COLUMNS`, then class_2, probability_2, …, and remarks if asked for."""
    others = (f"{name}_{rank}" for rank in range(2, top_k + 1) for name in ("class", "probability"))
    return [*COLUMNS, *others, *["remarks"] * remarks]


def _check_columns(begun, found, expected):
    """Refuses to go on with a CSV of other columns."""
    if found and found != expected:
        raise UserError(
            f"Expected the columns {', '.join(expected)} in '{begun}'; received {', '.join(found)[:200]}. "
            "Use the options of the first call, or another --out."
        )


def _writer(file, kind, top_k, remarks, header):
    """Function that writes a row as CSV or as a JSON line."""
    if kind == "jsonl":

        def write_json(row):
            record = {name: row[name] for name in COLUMNS}
            if top_k > 1:
                record["top"] = [{"class": name, "probability": round(p, 6)} for name, p in row["top"]]
            if remarks:
                record["remarks"] = row["remarks"]
            file.write(json.dumps(_rounded(record)) + "\n")

        return write_json
    writer = csv_writer(file)
    if header:
        writer.writerow(_header(top_k, remarks))

    def write_csv(row):
        record = _rounded(row)
        others = [value for name, p in row["top"][1:] for value in (name, round(p, 6))]
        writer.writerow([*("" if record[name] is None else record[name] for name in COLUMNS),
                         *(others or [""] * 2 * (top_k - 1)), *[row.get("remarks", "")] * remarks])  # fmt: skip

    return write_csv


def csv_writer(file):
    """`csv.writer` of lines that end in a line feed. Told so itself, that of Python 3.11 quotes no carriage return."""
    return csv.writer(SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n")))


def _rounded(row):
    """The row with six digits behind the point."""
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}
