"""Resized images of a domain by index, kept in memory where they fit; files that went bad are replaced, never fatal."""

import os
import threading
import warnings
import weakref

import numpy as np

from isra_keras.data.decode import BadImageError, decode_resized
from isra_keras.data.domain import BadImage
from isra_keras.errors import UserError

MAX_CACHE_BYTES = 4 * 2**30
CACHE_SHARE = 0.25  # of the memory that is free when the first store is made
MAX_REPLACEMENTS = 100
_stores = weakref.WeakValueDictionary()
_lock = threading.Lock()


class ImageStore:
    """uint8 (size, size, 3) images of a domain's files. Thread-safe.

    Args:
        domain: `Domain` of files.
        size: side to resize to.
        cache: True keeps every decoded image, False none, "auto" keeps them if they fit (see `fits`).
    """

    def __init__(self, domain, size, cache="auto"):
        self.name, self.paths, self.size = domain.name, domain.paths, size
        self._late = {}
        self._cache = self._known = None
        if cache is True or (cache == "auto" and fits(self.nbytes)):
            self._cache = np.empty((len(self.paths), size, size, 3), "uint8")
            self._known = np.zeros(len(self.paths), bool)

    @classmethod
    def shared(cls, domain, size, cache="auto"):
        """The store of these files and this size that is alive already, or a new one."""
        key = (domain.paths, size)
        with _lock:
            store = _stores.get(key)
            if store is None or (cache is True and not store.cached):
                store = _stores[key] = cls(domain, size, cache)
            return store

    @property
    def nbytes(self):
        """Bytes of all images."""
        return len(self.paths) * self.size * self.size * 3

    @property
    def cached(self):
        """Whether decoded images are kept."""
        return self._cache is not None

    @property
    def bad_images(self):
        """`BadImage`s of the files that turned out bad after the scan, sorted by path."""
        return tuple(sorted(self._late.values()))

    def get(self, index):
        """Image of a sample, or of the next readable one.

        Args:
            index: int in 0..n-1.

        Returns:
            (uint8 (size, size, 3), index of the sample that it shows).

        Raises:
            UserError: if neither a hundred samples in a row nor a hundred spread over the domain can be read.
        """
        count = len(self.paths)
        most = min(count, MAX_REPLACEMENTS)
        # Files lie class by class: a folder that is bad as a whole is no reason to end, a disk that is gone is one.
        for offset in (*range(most), *(number * count // most for number in range(1, most))):
            used = (index + offset) % count
            image = self._read(used)
            if image is not None:
                return image, used
        raise UserError(
            f"Expected readable images in domain {self.name}; {self.paths[index]} ({self._late[index].reason}), the "
            f"{most - 1} after it and {most - 1} others cannot be read. Is the disk still there?"
        )

    def _read(self, index):
        if self._known is not None and self._known[index]:
            return self._cache[index]
        if index in self._late:
            return None
        try:
            image = decode_resized(self.paths[index], self.size)
        except BadImageError as error:
            self._late[index] = BadImage(self.paths[index], str(error))
            warnings.warn(
                f"{self.paths[index]} cannot be read ({error}): training takes another image, evaluations leave it out."
            )
            return None
        if self._known is not None:
            self._cache[index] = image  # the same value, whichever thread writes it
            self._known[index] = True
        return image


def fits(nbytes):
    """Whether a cache of this size is within bounds, together with those that are alive."""
    used = sum(store.nbytes for store in list(_stores.values()) if store.cached)
    return nbytes + used <= min(MAX_CACHE_BYTES, CACHE_SHARE * (free_memory() + used))


def free_memory():
    """Bytes of memory that are free now (0 where that is unknown)."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0
