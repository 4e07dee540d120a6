"""Shannon entropy of softmax predictions, in nats."""

from keras import ops


def entropy(logits, epsilon=1e-7):
    """H_i = -sum_c p_ic log(p_ic + epsilon), p = softmax(logits).

    Args:
        logits: (n, C) float32.
        epsilon: added inside the logarithm; methods differ (1e-7 BA3US, 1e-5 CDAN and SHOT, 1e-20 ETN).

    Returns:
        (n,) float32 in [0, log C].
    """
    probabilities = ops.softmax(ops.cast(logits, "float32"), axis=-1)
    return -ops.sum(probabilities * ops.log(probabilities + epsilon), axis=-1)


def mean_entropy(logits, epsilon=1e-7):
    """Mean of `entropy` over the rows, a float32 scalar."""
    return ops.mean(entropy(logits, epsilon))


def masked_entropy(logits, threshold=1e-6):
    """-sum of p_ic log p_ic over the classes with p_ic >= threshold; the others give neither value nor gradient.

    Args:
        logits: (n, C) float32.
        threshold: 1e-6 in the PyTorch code of SAN, 1e-3 in IWAN's Caffe layer.

    Returns:
        (n,) float32.
    """
    probabilities = ops.softmax(ops.cast(logits, "float32"), axis=-1)
    entries = probabilities * ops.log(ops.maximum(probabilities, threshold))
    return -ops.sum(ops.where(probabilities >= threshold, entries, 0.0), axis=-1)


def prediction_diversity(logits, epsilon=1e-5):
    """H of the mean prediction, -sum_c m_c log(m_c + epsilon), m = mean_i softmax(logits_i): high if all classes occur.

    Args:
        logits: (n, C) float32.
        epsilon: added inside the logarithm.

    Returns:
        float32 scalar in [0, log C].
    """
    mean = ops.mean(ops.softmax(ops.cast(logits, "float32"), axis=-1), axis=0)
    return -ops.sum(mean * ops.log(mean + epsilon))
