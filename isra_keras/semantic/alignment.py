"""Alignment of the source's and target's masked features, topic by topic (Eq. 3)."""

from keras import ops


def topic_alignment(attention, features, row_weights):
    """|| sum_i w_i A_ij * x_i ||^2 per topic, with masks M_j = A_j * X.

    With w = +1 on source and -1 on target rows it is Eq. 3's difference of sums; with w = 1/n_s and -1/n_t the
    difference of means of the authors' code. The masks (J, n, d) never exist: the weighted sum over rows is
    one contraction.

    Args:
        attention: (J, n, d) float32, normalised; a constant.
        features: (n, d) float32, through which the gradient goes.
        row_weights: (n,) float32.

    Returns:
        (J,) float32, sums over d.
    """
    weighted = features * ops.reshape(row_weights, (-1, 1))
    difference = ops.sum(ops.stop_gradient(attention) * weighted[None], axis=1)
    return ops.sum(ops.square(difference), axis=-1)
