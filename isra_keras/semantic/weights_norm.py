"""A product with weights so many that every pass over them counts, and their L1 norm."""

import math

from keras import ops

from isra_keras.semantic.kernels import device_kind, runs_one_by_one

MANY = 2**25
"""From so many weights (128 MiB) their gradient is made in blocks: a little slower, but sign(W) never exists whole."""
BLOCK = 2**20
"""Weights of which the norm, and in blocks the gradient, is made while they are in a processor's cache."""


def product_and_l1(features, weights, multiply):
    """Features times each matrix of the weights, and the sum of the weights' absolute values.

    The weights' gradient has a part of each. TensorFlow's own gradient of the norm makes a tensor as large as W of the
    norm's slope, multiplies it by sign(W) and adds both parts, each of it a pass over memory; here the slope stays a number
    and both parts are added where one of them lies.

    Args:
        features: (n, d) float32.
        weights: (J, d, h) float32 tensor.
        multiply: (features, weights) -> the product, used outside of `one_by_one`.

    Returns:
        ((J, n, h) float32, float32 scalar). Sub-gradient of the norm 0 at 0.
    """
    size = math.prod(map(int, weights.shape))
    if not runs_one_by_one() or size < MANY and device_kind() == "gpu":  # a GPU has no use for small pieces
        return multiply(features, weights), ops.sum(ops.abs(weights))
    return _in_few_passes(features, weights, max(1, BLOCK * int(weights.shape[0]) // size), size >= MANY)


def _in_few_passes(features, weights, block, gradient_in_blocks):
    """`product_and_l1` on TensorFlow; the norm, and the gradient if asked for, `block` of the J at a time."""
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

            def both(slopes, own):
                return tf.matmul(turned, slopes) + of_norm * tf.sign(own)

            def renew(number, whole):
                own = part(weights, number)
                rows = number * block + tf.range(tf.shape(own)[0])
                return tf.raw_ops.InplaceUpdate(x=whole, i=rows, v=both(part(of_product, number), own))

            if gradient_in_blocks:
                of_weights = loop(renew, tf.raw_ops.Empty(shape=weights.shape, dtype=weights.dtype))
            else:
                of_weights = both(of_product, weights)
            return tf.reduce_sum(tf.matmul(of_product, weights, transpose_b=True), axis=0), of_weights

        return (tf.matmul(features[None], weights), norm), gradient

    return run(tf.convert_to_tensor(features), tf.convert_to_tensor(weights))
