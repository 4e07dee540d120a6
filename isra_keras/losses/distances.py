"""Pairwise distances between the rows of two feature matrices."""

from keras import ops


def squared_distances(x, y):
    """||x_i - y_j||^2 for all pairs, never below 0.

    Both are centred first, which loses no digits to a common offset; needs no (n, m, d) tensor.

    Args:
        x: (n, d) float32.
        y: (m, d) float32.

    Returns:
        (n, m) float32. The gradient of an entry rounded to 0 is 0.
    """
    x, y = ops.cast(x, "float32"), ops.cast(y, "float32")
    centre = ops.stop_gradient(ops.mean(y, axis=0, keepdims=True))
    x, y = x - centre, y - centre
    squares = ops.sum(ops.square(x), axis=-1)[:, None] + ops.sum(ops.square(y), axis=-1)[None, :]
    return ops.relu(squares - 2.0 * ops.matmul(x, ops.transpose(y)))
