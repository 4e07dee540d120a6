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


def attention_sparsity(attention):
    """Hoyer sparsity of each topic's attention, averaged over topics: 0 uniform, 1 one single entry.

    Args:
        attention: (J, n, d) float32 >= 0.

    Returns:
        float32 scalar in [0, 1]; a topic without attention counts as 0.

    Reference:
        Hoyer, "Non-negative Matrix Factorization with Sparseness Constraints", JMLR 2004.
    """
    size = float(attention.shape[1] * attention.shape[2])
    largest = ops.max(attention, axis=(1, 2), keepdims=True)
    scaled = attention / ops.where(largest > 0, largest, ops.ones_like(largest))
    l1, l2 = ops.sum(scaled, axis=(1, 2)), ops.sqrt(ops.sum(ops.square(scaled), axis=(1, 2)))
    sparsity = (size**0.5 - l1 / ops.maximum(l2, 1e-20)) / (size**0.5 - 1.0)
    return ops.mean(ops.where(l2 > 0, sparsity, ops.zeros_like(sparsity)))
