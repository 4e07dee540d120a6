"""Which sample comes when: pure functions of (seed, stream, step), in TensorFlow operations."""

import hashlib
import threading

import numpy as np
import tensorflow as tf


def stream_seed(seed, stream):
    """int in 0..2^31-1 that belongs to a stream ("source", "target/crop", ...) under a seed."""
    digest = hashlib.blake2b(f"{int(seed)}/{stream}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") & 0x7FFFFFFF


def shuffled(positions, count, seed):
    """Samples at positions of an endless stream that goes through all samples once a pass, each pass in a new order.

    Args:
        positions: int64 (n,), consecutive, n <= count.
        count: samples of the domain.
        seed: int, of `stream_seed`.

    Returns:
        int32 (n,) in 0..count-1.
    """
    if count == 1:
        return tf.zeros_like(positions, tf.int32)
    passes, places = positions // count, positions % count
    first = tf.reduce_min(passes)  # n <= count: at most two passes meet in a batch

    def order(number):
        key = tf.stack([tf.constant(seed, tf.int64), number])
        return tf.random.experimental.index_shuffle(places, key, tf.constant(count - 1, tf.int64))

    def drawn():
        return tf.where(passes == first, order(first), order(first + 1))

    return tf.cast(tf.cond(tf.size(positions) > 0, drawn, lambda: places), tf.int32)


def balanced(step, size, labels, seed):
    """Samples with replacement: a class at random, then one of its samples.

    Args:
        step: int64 scalar.
        size: n, int.
        labels: (N,) int32 array; classes without samples are never drawn.
        seed: int, of `stream_seed`.

    Returns:
        int32 (n,) in 0..N-1.
    """
    order = np.argsort(labels, kind="stable").astype("int32")
    counts = np.bincount(labels[labels >= 0])
    starts = np.sum(labels < 0) + np.cumsum(counts) - counts
    present = np.flatnonzero(counts)
    key = tf.stack([tf.constant(seed, tf.int64), step])
    draws = tf.random.stateless_uniform([size, 2], key, 0, np.iinfo("int32").max, tf.int32)
    classes = tf.gather(tf.constant(present, tf.int32), draws[:, 0] % len(present))
    within = draws[:, 1] % tf.gather(tf.constant(counts, tf.int32), classes)
    return tf.gather(tf.constant(order), tf.gather(tf.constant(starts, tf.int32), classes) + within)


class MiddleSizes:
    """Sizes of the middle batch and where each begins in its stream; the prefix sums grow when asked for.

    Args:
        size: callable step -> rows, a sequence (its last entry holds on), or None for no middle batch.
    """

    def __init__(self, size):
        if size is not None and not callable(size):
            table = [int(rows) for rows in size]
            size = (lambda step: table[min(step, len(table) - 1)]) if table else None
        self._size = size
        self._offsets = [0]
        self._lock = threading.Lock()

    def largest(self):
        """Most rows among the first 1,024 steps and at every power of two up to 2^24."""
        if self._size is None:
            return 0
        return max(int(self._size(step)) for step in (*range(1024), *(2**power for power in range(10, 25))))

    def at(self, step):
        """(offset, rows) of a step, int64 scalars."""
        step = int(step)
        with self._lock:
            while len(self._offsets) <= step + 1:
                self._offsets.append(self._offsets[-1] + max(0, int(self._size(len(self._offsets) - 1))))
            offset, end = self._offsets[step : step + 2]
        return np.int64(offset), np.int64(end - offset)

    def tensors(self, step):
        """`at` inside of a tf.data function."""
        offset, rows = tf.numpy_function(self.at, [step], [tf.int64, tf.int64], stateful=False)
        return tf.ensure_shape(offset, []), tf.ensure_shape(rows, [])
