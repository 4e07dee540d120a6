"""Many file paths in little memory: a million `str` take 150 MB, here their names' bytes and 12 more each."""

import hashlib
import os
from array import array
from collections.abc import Sequence


class Paths(Sequence):
    """An immutable sequence of file paths; each folder is kept once. A slice is a tuple.

    Args:
        files: str, any iterable; read once.
    """

    def __init__(self, files=()):
        folders, text, end = {}, bytearray(), 0
        self._ends, self._places = array("q", (0,)), array("i")
        for file in files:
            folder, separator, name = file.rpartition(os.sep)
            name = os.fsencode(name)
            text += name
            end += len(name)
            self._ends.append(end)
            self._places.append(folders.setdefault(folder + separator, len(folders)))
        self._folders, self._text = tuple(folders), bytes(text)

    def __len__(self):
        return len(self._places)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        at = range(len(self))[index]
        name = self._text[self._ends[at] : self._ends[at + 1]]
        return self._folders[self._places[at]] + os.fsdecode(name)

    def __iter__(self):
        return (self[at] for at in range(len(self)))

    def __eq__(self, other):
        return self._parts() == other._parts() if isinstance(other, Paths) else NotImplemented

    def __hash__(self):
        return hash((self._folders, self._text, len(self)))

    def digest(self):
        """SHA-256 of the files' names in their order, whatever folders they are in."""
        return hashlib.sha256(self._ends.tobytes() + self._text).hexdigest()

    def __repr__(self):
        return f"Paths({list(self[:3])}{f', ... {len(self):,} in all' * (len(self) > 3)})"

    def _parts(self):
        return self._folders, self._places, self._ends, self._text


def whole_paths(given):
    """The same values with paths as texts; those of data from the root, so that they hold in every working directory."""
    given = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in given.items()}
    places = [name for name in ("source_dir", "target_dir", "data_dir") if given.get(name)]
    return given | {name: os.path.abspath(os.path.expanduser(given[name])) for name in places if isinstance(given[name], str)}
