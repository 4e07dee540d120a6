"""The files in which a frozen backbone's features are kept: a folder for each domain, 1,024 samples in a file.

Beside them `rows.npz` tells which file of the domain each row is of, so that another domain with some of the same files
(photos that were added to, a catalogue without a class) computes the others only.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from isra_keras.errors import UserError

CHUNK = 1024
"""Images in a file of the cache: what a killed extraction loses at most."""


def cache_folder():
    """Where features are kept: $ISRA_CACHE/features, ~/.cache/isra_keras/features without it."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(os.environ.get("ISRA_CACHE") or os.path.join(home, "isra_keras"))) / "features"


@contextlib.contextmanager
def locked(folder, name):
    """The folder of a domain's features, for this process alone; one that can't be written to is read as it is.

    Raises:
        UserError: the folder is not there and can't be made, or, later, features are missing in it and can't be added.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            print(f"waiting for another process that computes the features of {name}", file=sys.stderr, flush=True)
            lock.acquire()
    except OSError as error:  # chunks are replaced whole, so that reading needs no lock
        if not folder.is_dir():
            raise _no_room(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def read_chunk(path, start, stop, width):
    """(float32 (k, p) features, {row: reason}) of a chunk, None where there is no whole one."""
    try:
        found, bad = np.load(path, allow_pickle=False), {}
        if len(found) < stop - start:
            listed = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            bad = {int(row): str(reason) for row, reason in listed.items()}
    except (OSError, ValueError, EOFError, AttributeError, TypeError):
        return None
    whole = found.shape == (stop - start - len(bad), width) and all(start <= row < stop for row in bad)
    return (found, bad) if whole and found.dtype == np.float32 else None


def write_chunk(path, features, bad):
    """The chunk, whole or not at all; the images that it lacks are named in a .json beside it, written first."""
    listed = path.with_suffix(".json")
    if bad:
        _replace(listed, json.dumps(bad).encode())
    else:
        listed.unlink(missing_ok=True)
    content = io.BytesIO()
    np.save(content, features)
    _replace(path, content.getbuffer())


DECODED = {".tif": b"2", ".tiff": b"2"}
"""Raised with `data.decode` for files whose pixels it makes otherwise than before: their features are made anew."""


def file_stamp(path):
    """Bytes that change with a file (its path, its size, its time of change) and with what its pixels are taken for."""
    try:
        status = os.stat(path)
        stamp = f"\0{status.st_size} {status.st_mtime_ns}\0".encode()
    except OSError:
        stamp = b"\0gone\0"
    return os.fsencode(os.path.abspath(path)) + stamp + DECODED.get(os.path.splitext(path)[1].lower(), b"")


class KnownRows:
    """The features of a domain's files that other folders of the cache have, of the same backbone and sizes.

    Args:
        folder: of the domain.
        settings: str, tells apart what features depend on beside the file.
        stamps: `file_stamp` of each file of the domain, in order.

    They may differ from those computed anew in their last bits, where an image's row in its batch decides on rounding.
    """

    def __init__(self, folder, settings, stamps):
        keys = [hashlib.blake2b(stamp, digest_size=8).digest() for stamp in stamps]
        self._keys = np.frombuffer(b"".join(keys), "uint64")
        self._folder, self._settings, self._found = folder, settings, None

    def note(self):
        """Says in the folder which rows it has, if it does not yet: one that is from before, or whose samples are all known."""
        if not (self._folder / "rows.npz").exists():
            with contextlib.suppress(UserError):  # a cache that can only be read
                self._write_keys()

    def take(self, start, stop, width):
        """(float32 (stop - start, p) features, bool (stop - start,) which of these rows are known)."""
        if self._found is None:
            self._found = self._look()
        folders, owners, places = self._found
        features, known = np.zeros((stop - start, width), "float32"), np.zeros(stop - start, bool)
        wanted = np.flatnonzero(owners[start:stop] >= 0) + start
        blocks = places[wanted] // CHUNK
        for owner, block in sorted(set(zip(owners[wanted].tolist(), blocks.tolist()))):
            rows = wanted[(owners[wanted] == owner) & (blocks == block)]
            folder, size = folders[owner]
            first, last = block * CHUNK, min((block + 1) * CHUNK, size)
            found = read_chunk(folder / f"{first:08d}.npy", first, last, width)
            if found is None:
                continue
            there = np.delete(np.arange(first, last), [row - first for row in found[1]])
            rows = rows[np.isin(places[rows], there)]
            features[rows - start] = found[0][np.searchsorted(there, places[rows])]
            known[rows - start] = True
        return features, known

    def _look(self):
        """([(folder, its samples)], index of the folder that has a row or -1 (n,), the row in there (n,))."""
        self._write_keys()
        folders, owners, places = [], np.full(len(self._keys), -1), np.zeros(len(self._keys), "int64")
        for path in sorted(self._folder.parent.glob("*/rows.npz")):
            keys = None if path.parent == self._folder else self._keys_in(path)
            if keys is None or not len(keys):
                continue
            kept = [(path.parent / f"{first:08d}.npy").exists() for first in range(0, len(keys), CHUNK)]
            order = np.argsort(keys)
            at = order[np.searchsorted(keys, self._keys, sorter=order).clip(max=len(keys) - 1)]
            new = (keys[at] == self._keys) & np.array(kept)[at // CHUNK] & (owners < 0)
            owners[new], places[new] = len(folders), at[new]
            folders.append((path.parent, len(keys)))
        return folders, owners, places

    def _write_keys(self):
        content = io.BytesIO()
        np.savez(content, settings=np.array(self._settings), keys=self._keys)
        _replace(self._folder / "rows.npz", content.getbuffer())

    def _keys_in(self, path):
        try:
            with np.load(path, allow_pickle=False) as rows:
                return rows["keys"] if str(rows["settings"]) == self._settings else None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):  # of a killed process, or another format
            return None


def _replace(path, content):
    """Bytes in a file, by way of one beside it."""
    aside = path.with_name(f"{path.name}.part")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise _no_room(path.parent, error) from error


def _no_room(folder, error):
    return UserError(
        f"Expected a folder for features in '{folder.parent}'; the system refused: {error.strerror}. "
        "Name another in the environment variable ISRA_CACHE."
    )
