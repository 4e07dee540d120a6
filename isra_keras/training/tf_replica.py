"""A replica's part of a step: which rows it forwards, how the others' rows come to it, its share of the loss.

Alignment means, attention norms, normalisers and class weights are those of the whole batch. So every replica forwards
its own rows through the network and then receives the rows of all others (`Replica.gather`); the losses are computed by
every replica on the whole batch, divided by the number of replicas. Summing over replicas, as the optimiser does with
its gradients, gives the gradient of one replica with the whole batch: R equal parts of the objectives' own weights, and
of the network's weights what went through each replica's own rows.
"""

import threading
from contextlib import contextmanager

import tensorflow as tf

from isra_keras.training.replica import Alone, share

NAMES = ("pooled", "features", "logits", "labels", "indices")


_forwarding = threading.local()
"""`now` is set in the thread of a replica while it forwards rows that the others don't."""


def forwards_own_rows():
    """Whether the replica of this thread forwards rows that the others don't: not where a method mixes images of the
    whole batch, which each replica forwards alike."""
    return getattr(_forwarding, "now", False)


@contextmanager
def own_rows():
    """While the replica of this thread forwards rows that the others don't."""
    _forwarding.now = True
    try:
        yield
    finally:
        _forwarding.now = False


class Replica(Alone):
    """One of several, inside of `strategy.run`.

    Args:
        number: of this replica.
        count: of all replicas.
        device: of this replica.
        rows: {domain: rows of the whole batch}, ints.
    """

    def __init__(self, number, count, device, rows=None):
        self.number, self.count, self.device, self.rows = number, count, device, rows

    def gather(self, forward, with_images=False):
        """Views of the rows that this replica forwarded become those of the whole batch.

        Args:
            forward: function without arguments -> `Views`.
            with_images: exchange the images too, as float32; `View.images` is None otherwise.
        """
        with own_rows():
            views = forward()
        found = {name: getattr(views, name) for name in ("source", "target", "middle")}
        parts = {name: view for name, view in found.items() if view is not None}
        for view in parts.values():
            view.images = tf.cast(view.images, "float32") if with_images else None
        shared = {name: view for name, view in parts.items() if self.rows[name] >= self.count}
        for name in (*NAMES, "images") if with_images else NAMES:
            self._exchange(name, {d: view for d, view in shared.items() if getattr(view, name) is not None})
        return views

    def _exchange(self, name, views):
        """Gathers one tensor of several domains at once: each replica adds its rows to zeros.

        A sum, not an all-gather: it takes shares that are not equal, its result has a static shape and is the same
        on every replica to the bit, and its gradient is again one sum. Twice the bytes, of tensors that are small
        beside the gradients.
        """
        if not views:
            return
        placed = [self._placed(tf.convert_to_tensor(getattr(view, name)), self.rows[domain])
                  for domain, view in views.items()]  # fmt: skip
        whole = tf.split(self.sum(tf.concat(placed, axis=0)), [self.rows[domain] for domain in views], axis=0)
        for view, values in zip(views.values(), whole):
            setattr(view, name, values)

    def _placed(self, values, rows):
        """(rows, ...): the replica's rows where they belong, zeros elsewhere."""
        start, stop = share(rows, self.number, self.count)
        return tf.pad(values, [[start, rows - stop]] + [[0, 0]] * (len(values.shape) - 1))

    def sum(self, values):
        """Sum over all replicas; its gradient sums over all replicas too."""
        return tf.custom_gradient(lambda inputs: (self._reduce(inputs), self._reduce))(values)

    def _reduce(self, values):
        # On its device by name: what a gradient is made of has none, and the strategy of several workers then fails.
        (values,) = self.place([values])
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

    def part(self, loss):
        return loss / self.count

    def place(self, gradients):
        with tf.device(self.device):
            return [None if gradient is None else tf.identity(gradient) for gradient in gradients]

    def moments(self, values, axes):
        """(mean, biased variance) over `axes` and over all replicas; in two passes, so that no digits cancel.

        Args:
            values: float32 (n, ..., d).
            axes: all but one.
        """
        (channel,) = set(range(len(values.shape))) - set(axes)
        width = values.shape[channel]
        count = tf.cast(tf.size(values), "float32") / float(width)
        total = self.sum(tf.concat([tf.reduce_sum(values, axes), [count]], axis=0))
        mean = total[:-1] / total[-1]
        shape = [width if axis == channel else 1 for axis in range(len(values.shape))]
        squares = tf.square(values - tf.reshape(mean, shape))
        return mean, self.sum(tf.reduce_sum(squares, axes)) / total[-1]
