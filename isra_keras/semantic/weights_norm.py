"""A product with weights so many that every pass over them counts, and their L1 norm."""

from contextlib import contextmanager
from contextvars import ContextVar

import keras
from keras import ops

MANY = 2**24
"""Weights (64 MiB) from which both are computed in blocks; that is slower for fewer."""
BLOCK = 2**20
_IN_PLACE = ContextVar("in_place", default=False)


@contextmanager
def in_place(allowed):
    """Whether `product_and_l1` may write a gradient block by block, which XLA can't; read while a step is traced."""
    token = _IN_PLACE.set(bool(allowed))
    try:
        yield
    finally:
        _IN_PLACE.reset(token)


def product_and_l1(features, weights, multiply):
    """Features times each matrix of the weights, and the sum of the weights' absolute values.

    The weights' gradient has a part of each. In blocks both parts are added while they are in the cache; otherwise |W|, then
    sign(W), then the sum of both parts would each be as large as W, and go through memory on their own.

    Args:
        features: (n, d) float32.
        weights: (J, d, h) float32 tensor.
        multiply: (features, weights) -> the product, where there are no blocks.

    Returns:
        ((J, n, h) float32, float32 scalar). Sub-gradient of the norm 0 at 0.
    """
    size = 1
    for side in weights.shape:
        size *= int(side)
    if size < MANY or not _IN_PLACE.get() or keras.backend.backend() != "tensorflow":
        return multiply(features, weights), ops.sum(ops.abs(weights))
    return _by_blocks(features, weights, max(1, BLOCK * int(weights.shape[0]) // size))


def _by_blocks(features, weights, block):
    """`product_and_l1` on TensorFlow, `block` of the J at a time."""
    import tensorflow as tf

    count = int(weights.shape[0])
    starts = -(-count // block)

    def part(values, number):
        """A block: a slice, which copies nothing."""
        first, inner = number * block, tf.shape(values)[1:]
        return tf.slice(values, [first, 0, 0], tf.concat([[tf.minimum(block, count - first)], inner], 0))

    def loop(body, start):
        step = lambda number, value: (number + 1, body(number, value))  # noqa: E731
        return tf.while_loop(lambda number, _: number < starts, step, (0, start), parallel_iterations=1)[1]

    @tf.custom_gradient
    def run(features, weights):
        norm = loop(lambda number, total: total + tf.reduce_sum(tf.abs(part(weights, number))), tf.zeros(()))

        def gradient(of_product, of_norm):
            turned = tf.transpose(features)[None]

            def renew(number, whole):
                own = part(weights, number)
                rows = number * block + tf.range(tf.shape(own)[0])
                value = tf.matmul(turned, part(of_product, number)) + of_norm * tf.sign(own)
                return tf.raw_ops.InplaceUpdate(x=whole, i=rows, v=value)

            of_features = tf.reduce_sum(tf.matmul(of_product, weights, transpose_b=True), axis=0)
            return of_features, loop(renew, tf.raw_ops.Empty(shape=weights.shape, dtype=weights.dtype))

        return (tf.matmul(features[None], weights), norm), gradient

    return run(tf.convert_to_tensor(features), tf.convert_to_tensor(weights))
