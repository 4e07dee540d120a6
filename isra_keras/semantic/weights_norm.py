"""The L1 norm of weights so many that a copy of them matters."""

from contextlib import contextmanager
from contextvars import ContextVar

import keras
from keras import ops

MANY = 2**24
"""Weights (64 MiB) from which the norm is taken in blocks; it is slower for fewer."""
BLOCK = 2**20
_IN_PLACE = ContextVar("in_place", default=False)


@contextmanager
def in_place(allowed):
    """Whether `weights_and_l1` may add to a gradient where it lies, which XLA can't; read while a step is traced."""
    token = _IN_PLACE.set(bool(allowed))
    try:
        yield
    finally:
        _IN_PLACE.reset(token)


def weights_and_l1(weights):
    """The weights, and the sum of their absolute values.

    With the weights that come back used in place of those given, the gradient of the norm is added to theirs a block
    at a time, in the memory that theirs has. Otherwise |W| and then sign(W) would exist whole, each as large as W.

    Args:
        weights: (J, ...) float32 tensor.

    Returns:
        (weights, float32 scalar). Sub-gradient of the norm 0 at 0.
    """
    size = 1
    for side in weights.shape:
        size *= int(side)
    if size < MANY or not _IN_PLACE.get() or keras.backend.backend() != "tensorflow":
        return weights, ops.sum(ops.abs(weights))
    return _by_blocks(weights, max(1, BLOCK * int(weights.shape[0]) // size))


def _by_blocks(weights, block):
    """`weights_and_l1` on TensorFlow, `block` of the J at a time."""
    import tensorflow as tf

    count = int(weights.shape[0])
    starts = -(-count // block)

    def rows(number):
        return tf.range(number * block, tf.minimum((number + 1) * block, count))

    def loop(body, start):
        step = lambda number, value: (number + 1, body(number, value))  # noqa: E731
        return tf.while_loop(lambda number, _: number < starts, step, (0, start), parallel_iterations=1)[1]

    @tf.custom_gradient
    def run(weights):
        norm = loop(lambda number, total: total + tf.reduce_sum(tf.abs(tf.gather(weights, rows(number)))), tf.zeros(()))

        def gradient(of_weights, of_norm):
            def add(number, sums):
                chosen = rows(number)
                more = of_norm * tf.sign(tf.gather(weights, chosen))
                return tf.raw_ops.InplaceAdd(x=sums, i=chosen, v=more)

            return loop(add, of_weights)

        return (tf.identity(weights), norm), gradient

    return run(weights)
