"""What source labels alone say of the target: a linear classifier on the features as they came, trained in a second.

It is the yardstick of collapse: it knows neither the target nor the method, and it is the same for every method.
"""

import numpy as np
from scipy.optimize import minimize

from isra_keras.selection.blas import one_blas_thread
from isra_keras.selection.scores import softmax


@one_blas_thread
def source_probe(source_features, source_labels, target_features, num_classes, strength=10.0, max_iterations=200):
    """Probabilities of the target by multinomial logistic regression on the source, rows at unit length.

    Args:
        source_features: (M, p).
        source_labels: (M,) int in 0..C-1.
        target_features: (N, p).
        num_classes: C.
        strength: inverse of the L2 penalty, as scikit-learn's `C`.
        max_iterations: of L-BFGS.

    Returns:
        (N, C) float64, rows sum to one.

    Raises:
        ValueError: if the shapes do not fit together.

    Example:
        >>> source_probe([[1.0, 0.0], [0.0, 1.0]], [0, 1], [[2.0, 0.1]], 2).argmax()
        0
    """
    source, target = _unit(source_features), _unit(target_features)
    labels = np.asarray(source_labels)
    if len(source) != len(labels) or source.shape[1] != target.shape[1]:
        raise ValueError(
            f"Expected a label for each source row and equal widths; received source {source.shape}, "
            f"labels {labels.shape}, target {target.shape}."
        )
    width, count = source.shape[1], len(source)
    wanted = np.eye(num_classes, dtype="float32")[labels]

    def loss(flat):
        weights = flat.reshape(width + 1, num_classes)
        logits = source @ weights[:-1].astype("float32") + weights[-1]
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        error = (np.exp(log_probability) - wanted).astype("float32")
        value = -float((log_probability * wanted).sum(dtype="float64")) + 0.5 / strength * float(
            (weights[:-1] ** 2).sum()
        )
        gradient = np.vstack([source.T @ error + weights[:-1] / strength, error.sum(axis=0, keepdims=True)])
        return value / count, gradient.ravel().astype("float64") / count

    start = np.zeros((width + 1) * num_classes)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": max_iterations}).x
    weights = found.reshape(width + 1, num_classes)
    return softmax(target @ weights[:-1] + weights[-1])


def _unit(features):
    """float32 rows of length one; a zero row stays zero."""
    features = np.asarray(features, "float32")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
