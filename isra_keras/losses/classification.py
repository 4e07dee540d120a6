"""Cross-entropy, class-weighted means and BA3US's complement entropy."""

import math

from keras import ops


def cross_entropy(logits, labels, label_smoothing=0.0):
    """-sum_c q_c log softmax(logits)_c per row, q = (1 - s) onehot(label) + s / C.

    Args:
        logits: (n, C) float32.
        labels: (n,) int32 in [0, C).
        label_smoothing: s in [0, 1).

    Returns:
        (n,) float32.
    """
    log_probabilities = ops.log_softmax(logits, axis=-1)
    classes = logits.shape[-1]
    targets = ops.one_hot(labels, classes, dtype=logits.dtype)
    if label_smoothing:
        targets = (1.0 - label_smoothing) * targets + label_smoothing / classes
    return -ops.sum(targets * log_probabilities, axis=-1)


def log_add_exp(x, y):
    """log(e^x + e^y), float32 of any shape.

    Where both are equal the gradient is half for each; on TensorFlow `ops.logaddexp` gives all of it to one.
    """
    return ops.where(x > y, x + ops.softplus(y - x), y + ops.softplus(x - y))


def safe(values):
    """The values, 1 in place of 0: what weights are divided by. A floor would keep the ratios of tiny ones from cancelling."""
    return ops.where(values > 0, values, ops.ones_like(values))


def weighted_mean(values, weights, epsilon=1e-8):
    """sum(w v) / (epsilon + sum(w)), the denominator a constant.

    Args:
        values: (n,) float32.
        weights: (n,) float32 >= 0.

    Returns:
        float32 scalar; 0 where all weights are 0.
    """
    values, weights = ops.cast(values, "float32"), ops.cast(weights, "float32")
    return ops.sum(weights * values) / ops.stop_gradient(safe(epsilon + ops.sum(weights)))


def complement_entropy(logits, labels, weights=None, alpha=1.0):
    """Negative entropy of the wrong classes, weighted by how wrong the row is (BA3US, section 3.3).

    q_i = 1 - p_{i,y} + 1e-7, P_ik = p_ik / q_i, l_i = 1/log(C-1) sum_{k != y} P_ik log(P_ik + 1e-10),
    v_i = q_i^alpha / sum_i q_i^alpha times the class weight of the label (v a constant); sum v l / sum v.
    Minimising it flattens the distribution over the wrong classes.

    With two classes there is one wrong class and nothing to flatten (the original divides by log 1 = 0 and
    returns NaN): the value is 0 here.

    Args:
        logits: (n, C) float32 source logits.
        labels: (n,) int32.
        weights: (n,) float32 class weights of the labels, or None.
        alpha: float, exponent of the row weight.

    Returns:
        float32 scalar in [-1, 0].

    Reference:
        Liang et al., "A Balanced and Uncertainty-aware Approach for Partial Domain Adaptation", ECCV 2020.
    """
    logits, classes = ops.cast(logits, "float32"), logits.shape[-1]
    if classes <= 2:
        return 0.0 * ops.sum(logits)
    probabilities = ops.softmax(logits, axis=-1)
    own = ops.one_hot(labels, classes, dtype=logits.dtype)
    wrong = ops.sum((1.0 - own) * probabilities, axis=-1) + 1e-7  # 1 - p_y has no digits left where p_y is near 1
    share = probabilities / wrong[:, None]
    rows = ops.sum((1.0 - own) * share * ops.log(share + 1e-10), axis=-1) / math.log(classes - 1)
    row_weights = ops.power(wrong, alpha) / ops.sum(ops.power(wrong, alpha))
    if weights is not None:
        row_weights = row_weights * weights
    row_weights = ops.stop_gradient(row_weights)
    return ops.sum(row_weights * rows) / safe(ops.sum(row_weights))
