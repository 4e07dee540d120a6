"""Binary cross-entropy of domain logits."""

from keras import ops


def domain_cross_entropy(logits, labels):
    """Binary cross-entropy per row in its logit form: max(z, 0) - z y + log(1 + exp(-|z|)).

    PyTorch's form clamps each logarithm at -100 instead; the two are equal wherever float32 can tell.

    Args:
        logits: (n,) float32, logit of "source".
        labels: (n,) or scalar float in [0, 1]; 1 is source, 0 is target.

    Returns:
        (n,) float32.
    """
    labels = ops.cast(labels, logits.dtype)
    # -log sigmoid(z) = softplus(-z); softplus(z) - z y covers both labels.
    return ops.softplus(logits) - logits * labels
