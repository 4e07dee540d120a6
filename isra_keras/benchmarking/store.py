"""Results on the disk: one JSON object a line, appended and flushed; a line that a crash cut off is dropped.

In one jsonl file, or in a folder with a file for each method with and without ISRA, which keeps the files of large
grids small.
"""

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

from isra_keras.benchmarking.grid import Cell
from isra_keras.errors import UserError

LINE_FORMAT = 1


class Store:
    """Finished and failed cells.

    Args:
        path: a jsonl file, or a folder for many; made with the first line.
    """

    def __init__(self, path):
        self.path = Path(path)

    @contextmanager
    def alone(self):
        """Holds the file or folder against a second benchmark.

        Raises:
            UserError: if another one has it, or its folder can't be written.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"Expected to be alone with '{self.path}'; another benchmark writes it. Wait for it, or take "
                            "another --out.") from None  # fmt: skip
        except OSError as error:
            raise UserError(
                f"Expected to write '{self.path}'; the system refused: {error.strerror}. Take another --out."
            ) from error
        try:
            self._mend()
            yield self
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def append(self, line):
        """Adds a line and flushes it to the disk."""
        path = self.path
        if not _is_file(path):
            cell = line["cell"]
            path = path / f"{cell['method']}-{cell['isra']}.jsonl"
            path.parent.mkdir(exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def lines(self):
        """All lines, in order; see `read_lines`."""
        return read_lines([self.path]) if self.path.exists() else []

    def done(self, with_failed=False):
        """Keys of the cells that need not run again."""
        return {key for key, line in latest(self.lines()).items() if with_failed or line["status"] == "done"}

    def _mend(self):
        """Ends last lines that lack their end, and cuts off those that are not whole."""
        for path in files_of(self.path) if self.path.exists() else ():
            content = path.read_bytes()
            if content and not content.endswith(b"\n"):
                start = content.rfind(b"\n") + 1
                with open(path, "r+b") as file:
                    if _is_whole(content[start:]):
                        file.seek(0, os.SEEK_END)
                        file.write(b"\n")
                    else:
                        file.truncate(start)


def _is_whole(row):
    """Whether bytes are a line of a cell."""
    try:
        line = json.loads(row)
        Cell.from_dict(line["cell"]), line["status"], line["format"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


def _is_file(path):
    return path.suffix == ".jsonl"


def files_of(path):
    """The jsonl files that a path names: itself, or those of the folder, by name."""
    path = Path(path)
    return sorted(path.glob("*.jsonl")) if path.is_dir() else [path]


def read_lines(paths):
    """Lines of several files.

    Args:
        paths: jsonl files, or folders of them.

    Returns:
        List of dict, each with "cell" and "status".

    Raises:
        UserError: a file that is missing, is broken before its last line, or was written by a later version.
    """
    lines = []
    for path in (file for path in paths for file in files_of(path)):
        try:
            rows = path.read_text(encoding="utf-8").split("\n")
        except OSError as error:
            raise UserError(
                f"Expected results of a benchmark in '{path}'; it can't be read ({error.strerror})."
            ) from error
        except UnicodeDecodeError as error:
            raise UserError(f"Expected results of a benchmark in '{path}'; it is not a text ({error}).") from error
        for number, row in enumerate(rows, 1):
            if not row.strip():
                continue
            try:
                line = json.loads(row)
                version = line["format"]
                Cell.from_dict(line["cell"]), line["status"]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                if number == len(rows):  # cut off by a crash
                    continue
                raise UserError(
                    f"Expected a line of `benchmark` in '{path}', line {number}; it is broken ({error})."
                ) from error
            if version > LINE_FORMAT:
                raise UserError(
                    f"Expected lines of format {LINE_FORMAT} in '{path}'; received {version}: update isra_keras."
                )
            lines.append(line)
    return lines


def latest(lines):
    """{key of the cell: its last line}, a finished one before a failed one; the newest line last."""
    found = {}
    for line in lines:
        key = Cell.from_dict(line["cell"]).key
        if key not in found or line["status"] == "done" or found[key]["status"] != "done":
            found.pop(key, None)
            found[key] = line
    return found


def commit():
    """Short id of the package's commit, "+" after it if the package's files differ from it; None outside of git."""
    folder = Path(__file__).resolve().parents[1]

    def git(*words):
        return subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=20
        ).stdout

    try:
        known = git("ls-files", "--error-unmatch", "__init__.py")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "--short=10", "HEAD").strip() + ("+" if changed.strip() else "") if known else None
    except (OSError, subprocess.SubprocessError):
        return None
