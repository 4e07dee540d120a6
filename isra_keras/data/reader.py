"""Pixels (or features) of samples: gathered from memory or read from files, cropped, shifted, mirrored."""

import atexit
import threading
import time
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from isra_keras.data.image_store import ImageStore
from isra_keras.data.sampling import stream_seed
from isra_keras.errors import UserError

DEFAULT_SIZE = 256
SHIFT = 1 / 16  # of the side: small images in memory are moved by up to this much, never mirrored


def make_reader(domain, image_size=None, crop_size=None, cache="auto"):
    """`FeatureReader`, `ArrayReader` or `FileReader`, whichever a domain needs.

    Args:
        domain: `Domain`.
        image_size: side to resize to; None keeps arrays as they are and resizes files to 256.
        crop_size: side of the crop; None for the whole image.
        cache: of `ImageStore`.
    """
    if domain.arrays is None:
        return FileReader(domain, image_size or DEFAULT_SIZE, crop_size, cache)
    if domain.arrays.ndim == 2:
        return FeatureReader(domain)
    return ArrayReader(domain, image_size, crop_size)


def late_bad_images(domain, image_size=None):
    """`BadImage`s of the files that turned out bad as they were read, while a data set of the domain is alive.

    Args:
        domain, image_size: as they were given to the data set.
    """
    return () if domain.paths is None else FileReader(domain, image_size or DEFAULT_SIZE, cache=False).bad_images


class FeatureReader:
    """float32 (n, p) rows of precomputed features; no augmentation."""

    bad_images = ()

    def __init__(self, domain):
        self._arrays = tf.constant(domain.arrays)

    def read(self, indices, seed=None, step=None, rows=None):
        """(float32 (n, p), indices)."""
        indices = _of(indices, rows)
        return tf.gather(self._arrays, indices), indices


class ArrayReader:
    """Images in memory: resized if asked for, cropped or shifted by a few pixels."""

    bad_images = ()

    def __init__(self, domain, image_size=None, crop_size=None):
        self._arrays = tf.constant(domain.arrays)
        self._resize = image_size if image_size and domain.arrays.shape[1:3] != (image_size, image_size) else None
        self._shape = (image_size, image_size) if image_size else domain.arrays.shape[1:3]
        self._crop = _checked_crop(crop_size, min(self._shape))

    def read(self, indices, seed=None, step=None, rows=None):
        """((n, height, width, 3), uint8, or float32 where resized; indices). No seed: centre crop, no shift."""
        draws = None if seed is None else _of(_draws(indices, seed, step), rows)
        indices = _of(indices, rows)
        images = tf.gather(self._arrays, indices)
        if self._resize:
            images = tf.clip_by_value(tf.image.resize(images, self._shape), 0.0, 255.0)
        height, width = (self._crop, self._crop) if self._crop else self._shape
        if seed is not None:
            reach = [round(SHIFT * side) for side in self._shape]
            low = [0, 0] if self._crop else [-pixels for pixels in reach]
            spans = [self._shape[0] - height, self._shape[1] - width] if self._crop else [2 * p for p in reach]
            offsets = [low[axis] + draws[:, axis] % (spans[axis] + 1) for axis in (0, 1)]
        elif self._crop:
            offsets = [tf.fill(tf.shape(indices), (side - self._crop) // 2) for side in self._shape]
        else:
            return images, indices
        for axis, (offset, side, full) in enumerate(zip(offsets, (height, width), self._shape), start=1):
            places = tf.clip_by_value(offset[:, None] + tf.range(side), 0, full - 1)
            images = tf.gather(images, places, axis=axis, batch_dims=1)
        return images, indices


class FileReader:
    """Image files: resized to a square, cropped and mirrored at random; centre crop without a seed."""

    def __init__(self, domain, image_size, crop_size=None, cache="auto"):
        self._size, self._crop = image_size, _checked_crop(crop_size, image_size) or image_size
        self._store = ImageStore.shared(domain, image_size, cache)

    @property
    def bad_images(self):
        """Files that went bad after the scan, see `ImageStore`."""
        return self._store.bad_images

    def read(self, indices, seed=None, step=None, rows=None):
        """(uint8 (n, crop, crop, 3), int32 (n,) samples that are shown: others where a file went bad)."""
        span = self._size - self._crop
        if seed is None:
            indices = _of(indices, rows)
            tops = lefts = tf.fill(tf.shape(indices), span // 2)
            flips = tf.zeros_like(indices)
        else:
            draws, indices = _of(_draws(indices, seed, step), rows), _of(indices, rows)
            tops, lefts, flips = draws[:, 0] % (span + 1), draws[:, 1] % (span + 1), draws[:, 2] % 2
        places = tf.stack([indices, tops, lefts, flips], axis=1)
        # Pixels depend on `places` alone. Called stateful, batches would be read one by one wherever runs are
        # deterministic: TensorFlow then takes the parallel map apart.
        images, used = tf.numpy_function(self._load, [places], [tf.uint8, tf.int32], stateful=False)
        return tf.ensure_shape(images, [None, self._crop, self._crop, 3]), tf.ensure_shape(used, [None])

    def _load(self, places):
        images = np.zeros((len(places), self._crop, self._crop, 3), "uint8")
        used = np.zeros(len(places), "int32")
        with _leaving.reading() as goes_on:
            if goes_on:
                self._fill(places, images, used)
        return images, used

    def _fill(self, places, images, used):
        for row, (index, top, left, flip) in enumerate(places.tolist()):
            image, used[row] = self._store.get(index)
            part = image[top : top + self._crop, left : left + self._crop]
            if flip:
                for channel in range(3):  # one by one: backwards, pixels of three bytes take eight times as long
                    images[row, ..., channel] = part[:, ::-1, channel]
            else:
                images[row] = part


class _Leaving:
    """Lets a process end while a data set is still being read.

    TensorFlow reads ahead, in threads that come back to Python for every batch. The interpreter waits for them as it
    ends, and they wait for the interpreter, for ever. So the last readings are waited for before it ends, and what is
    asked for after them is not read: nobody will look at it.
    """

    def __init__(self):
        self.ends, self.running, self.last = False, 0, 0.0
        self.lock = threading.Lock()
        atexit.register(self.wait)

    @contextmanager
    def reading(self):
        """Around a reading: whether it should still take place."""
        with self.lock:
            self.running += 1
        try:
            yield not self.ends
        finally:
            with self.lock:
                self.running, self.last = self.running - 1, time.monotonic()

    def wait(self, quiet=0.2, longest=10.0):
        """Until no reading has run for `quiet` seconds: then everything that is read ahead is full."""
        self.ends, started = True, time.monotonic()
        while time.monotonic() - started < longest and (self.running or time.monotonic() - self.last < quiet):
            time.sleep(quiet / 10)


_leaving = _Leaving()


def _of(values, rows):
    """The rows (start, stop) that are asked for; draws are made for all of them, so that each keeps its own."""
    return values if rows is None else values[rows[0] : rows[1]]


def _draws(indices, seed, step):
    """int32 (n, 3) in 0..2^31-2."""
    key = tf.stack([tf.constant(stream_seed(seed, "augment"), tf.int64), tf.cast(step, tf.int64)])
    return tf.random.stateless_uniform([tf.size(indices), 3], key, 0, np.iinfo("int32").max, tf.int32)


def _checked_crop(crop_size, image_size):
    if crop_size and crop_size > image_size:
        raise UserError(f"Expected a crop of at most {image_size} pixels, the image's size; received {crop_size}.")
    return crop_size if crop_size and crop_size != image_size else None
