"""Binary cross-entropy of domain logits."""

from keras import ops


def domain_cross_entropy(logits, labels):
    """Binary cross-entropy per row in its logit form: log(1 + exp(z)) - z y.

    PyTorch's form takes logarithms of the rounded sigmoid, clamped at -100: the two part where float32 rounds it to 0 or
    1 (|z| above 17). There this one keeps the gradient of rows on the wrong side; a row of label 1 that is right by more
    than that has a loss of 0, the exact one being below 4e-8.

    Args:
        logits: (n,) float32, logit of "source".
        labels: (n,) or scalar float in [0, 1]; 1 is source, 0 is target.

    Returns:
        (n,) float32.
    """
    labels = ops.cast(labels, logits.dtype)
    # -log sigmoid(z) = softplus(-z); softplus(z) - z y covers both labels.
    return ops.softplus(logits) - logits * labels
