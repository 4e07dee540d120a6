"""Checkpoints that survive a crash at any moment: written aside, flushed, renamed, verified when read."""

import errno
import hashlib
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np

from isra_keras.errors import DiskFull, UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile)
"""What reading a damaged checkpoint may raise."""
OPTIMIZER = "optimizer/"


def write_atomic(path, write):
    """Calls `write(file)` on a new file beside `path`, flushes it to the disk and renames it.

    Whatever goes wrong, `path` is either the old file or the complete new one, and nothing else is left behind.

    Args:
        path: where to.
        write: function of a binary file.

    Raises:
        DiskFull: says where.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.part")
    try:
        with open(aside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        _sync_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        if error.errno in FULL:
            raise disk_full(path) from error
        raise
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if getattr(error.__context__, "errno", None) in FULL:  # zipfile hides what stopped it
            raise disk_full(path) from error
        raise


def write_text(path, text):
    """`write_atomic` of a text; names of files that are no UTF-8 keep their bytes."""
    write_atomic(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def disk_full(path, needed=None):
    """The error for a write that found no room."""
    size = f"{needed:,} bytes" if needed else "room"
    return DiskFull(
        f"Expected {size} on the disk for '{path}'; the disk (or the quota) is full. What was written before is intact: "
        "free some space, then go on with --resume."
    )


def is_disk_full(error):
    """Whether an exception, or what led to it, is of a full disk or quota, or of a file that may not grow."""
    texts, seen = [os.strerror(code) for code in FULL], set()
    while error is not None and id(error) not in seen:
        if isinstance(error, DiskFull) or getattr(error, "errno", None) in FULL:
            return True
        if any(text in str(error) for text in texts):  # TensorFlow's and HDF5's errors bear no number
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


class CheckpointFolder:
    """The checkpoints of one run: `step_NNNNNNNN.npz` with arrays, `.json` beside it with state and SHA-256.

    The .json is written last: without it a checkpoint does not exist. The newest `keep` are kept, and the selected
    weights (`selected_NNNNNNNN.npz`), copied when they were selected, as long as a kept checkpoint refers to them.

    Args:
        folder: made when the first checkpoint is saved.
        keep: number of newest checkpoints.
    """

    def __init__(self, folder, keep=2):
        self.folder, self.keep, self._broken = Path(folder), int(keep), []

    def save(self, step, arrays, state):
        """Writes a checkpoint and removes what is no longer needed.

        Args:
            step: int, steps done.
            arrays: {unique name: NumPy array}.
            state: dict of JSON values; "selected" names the selected weights' file, or is None.

        Returns:
            Path of the .json.

        Raises:
            UserError: disk full; names path and bytes.
        """
        path = self._write(f"step_{step:08d}", step, arrays, state)
        for broken in self._broken:
            if broken != path:
                broken.unlink(missing_ok=True)
        self._broken = []
        self._clean()
        return path

    def save_selected(self, step, arrays):
        """Copies the selected weights to a file of their own; its name is for `state["selected"]`."""
        return self._write(f"selected_{step:08d}", step, arrays, {}).with_suffix(".npz").name

    def save_reference(self, step, array):
        """Keeps what later evaluations of the run are compared with, `CollapseWatch.reference`."""
        self._write("reference", step, {"reference": array}, {})

    def load_reference(self, step, warn=None):
        """The array of `save_reference`, or None if it is missing, broken (`warn` is called with a sentence) or from after `step`."""
        description = self.folder / "reference.json"
        if not description.exists():
            return None
        try:
            taken, arrays, _ = self._read(description)
            return arrays["reference"] if taken <= step else None
        except BROKEN as error:
            if warn is not None:
                warn(f"'{description.with_suffix('.npz')}', which later evaluations are compared with to notice a collapse, is "
                     f"broken ({error}); the next evaluation takes its place")  # fmt: skip
            return None

    def load_newest(self, warn=None):
        """(step, {name: array}, state) of the newest checkpoint that is whole; None if there is none at all.

        Newer ones that are broken are removed with the next `save`, so that they do not count among those kept.

        Args:
            warn: called with a sentence for each checkpoint that is passed over.

        Raises:
            UserError: if there are checkpoints and all of them are broken.
        """
        candidates = self._steps()
        for path in candidates:
            try:
                step, arrays, state = self._read(path)
                if state.get("selected"):
                    self._read(self.folder / Path(state["selected"]).with_suffix(".json"))
                self._broken = candidates[: candidates.index(path)]
                return step, arrays, state
            except BROKEN as error:
                if warn is not None:
                    warn(f"checkpoint '{path.with_suffix('.npz')}' is broken ({error}); going back to the one before")
        if candidates:
            raise UserError(
                f"Expected a whole checkpoint in '{self.folder}'; all {len(candidates)} are broken. "
                "Start again in another --out."
            )
        return None

    def newest_state(self):
        """State of the newest checkpoint whose description can be read, without its arrays; {} if there is none."""
        for path in self._steps():
            try:
                return json.loads(path.read_text(encoding="utf-8"))["state"]
            except BROKEN:
                continue
        return {}

    def load_selected(self, name):
        """{name: array} of `save_selected`.

        Raises:
            UserError: if it is broken.
        """
        try:
            return self._read(self.folder / Path(name).with_suffix(".json"))[1]
        except BROKEN as error:
            raise UserError(f"Expected the selected weights in '{self.folder / name}'; broken ({error}).") from error

    def _write(self, stem, step, arrays, state):
        """Writes arrays, then the description that makes them count; returns the description's path.

        A checkpoint of the same step stays whole until the new arrays are: equal ones are not written over it.
        """
        data, description = self.folder / f"{stem}.npz", self.folder / f"{stem}.json"
        fresh, needed = data.with_name(f".{data.name}.new"), sum(array.nbytes for array in arrays.values())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_room(data, needed)
            write_atomic(fresh, lambda file: np.savez(file, **arrays))
            content = {"step": step, "sha256": _sha256(fresh), "bytes": fresh.stat().st_size, "state": state}
            if not _describes(description, content):
                description.unlink(missing_ok=True)  # its hash would not fit
                os.replace(fresh, data)
            write_text(description, json.dumps(content, indent=1))
        except (UserError, OSError) as error:
            if not description.exists():
                data.unlink(missing_ok=True)
            if isinstance(error, UserError) or error.errno in FULL:
                raise disk_full(data, needed) from error
            raise UserError(f"Expected to write '{data}'; the system refused: {error.strerror}.") from error
        finally:
            fresh.unlink(missing_ok=True)
        return description

    def _check_room(self, path, needed):
        """Asks before writing: a file system can be full without saying so until the flush."""
        room = os.statvfs(self.folder)
        if room.f_bavail * room.f_frsize < needed:
            raise disk_full(path, needed)

    def _read(self, description):
        content = json.loads(description.read_text(encoding="utf-8"))
        data = description.with_suffix(".npz")
        if data.stat().st_size != content["bytes"] or _sha256(data) != content["sha256"]:
            raise ValueError("its SHA-256 does not fit")
        with np.load(data, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return content["step"], arrays, content["state"]

    def _steps(self):
        """Descriptions of all checkpoints, newest first."""
        if not self.folder.is_dir():
            return []
        found = (path for path in self.folder.iterdir() if re.fullmatch(r"step_\d{8,}\.json", path.name))
        return sorted(found, key=lambda path: int(path.stem[5:]), reverse=True)

    def _clean(self):
        """Removes older checkpoints and selected weights that no kept one refers to; the description goes first."""
        kept, wanted = self._steps()[: self.keep], set()
        for path in kept:
            wanted.add(path.stem)
            try:
                selected = json.loads(path.read_text(encoding="utf-8"))["state"].get("selected")
            except BROKEN:
                continue
            wanted.add(Path(selected or "").stem)
        for suffix in (".json", ".npz"):
            for path in self.folder.glob(f"*{suffix}"):
                if path.stem not in wanted and re.fullmatch(r"(step|selected)_\d+", path.stem):
                    path.unlink(missing_ok=True)


def gather(variables):
    """{stable name: NumPy copy} of {path: Keras variable}."""
    return {stable_name(name): np.array(variable.numpy()) for name, variable in variables.items()}


def stable_name(path):
    """A variable's path without Keras's automatic numbers, which depend on what else the process has built."""
    return re.sub(r"_\d+(?=[/_]|$)", "", path)


def restore(variables, arrays):
    """Assigns a checkpoint to variables; every variable has to be there in its shape.

    Args:
        variables: {path: Keras variable}.
        arrays: {path: array}; names that no variable has are an error too.

    Raises:
        UserError: if names or shapes differ: the checkpoint is of another model.
    """
    variables = {stable_name(name): variable for name, variable in variables.items()}
    missing = sorted(set(variables) - set(arrays)) + sorted(set(arrays) - set(variables))
    wrong = [name for name, variable in variables.items()
             if name in arrays and tuple(variable.shape) != tuple(arrays[name].shape)]  # fmt: skip
    if missing or wrong:
        names = ", ".join((missing + wrong)[:3])
        raise UserError(
            f"Expected a checkpoint of this very model; {len(missing)} names and {len(wrong)} shapes differ "
            f"({names}). Resume with the version that wrote it, or start again in another --out."
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])


def without_optimizer(variables):
    """The variables of `AdaptationModel.state_variables` that are not the optimiser's."""
    return {name: v for name, v in variables.items() if not name.split("/", 1)[1].startswith(OPTIMIZER)}


def _describes(description, content):
    """Whether a description is of these very arrays."""
    try:
        saved = json.loads(description.read_text(encoding="utf-8"))
        same = all(saved[name] == content[name] for name in ("sha256", "bytes"))
        data = description.with_suffix(".npz")
        return same and _sha256(data) == content["sha256"]
    except BROKEN:
        return False


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder):
    """Flushes a rename; some file systems don't offer it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
