"""Binary cross-entropy of domain logits."""

from keras import ops


def domain_cross_entropy(logits, labels):
    """Binary cross-entropy per row in its logit form: max(z, 0) - z y + log(1 + exp(-|z|)).

    PyTorch's form takes logarithms of the rounded sigmoid, clamped at -100: the two part where float32 rounds it to 0 or
    1 (|z| above 17), and this one keeps its gradient there.

    Args:
        logits: (n,) float32, logit of "source".
        labels: (n,) or scalar float in [0, 1]; 1 is source, 0 is target.

    Returns:
        (n,) float32.
    """
    labels = ops.cast(labels, logits.dtype)
    # -log sigmoid(z) = softplus(-z); softplus(z) - z y covers both labels.
    return ops.softplus(logits) - logits * labels
