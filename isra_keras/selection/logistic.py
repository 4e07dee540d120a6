"""A logistic regression between two domains, small enough to need no library."""

import numpy as np


def domain_probability(source, target, penalty=1.0, iterations=25):
    """Probability that each source row is from the target, by ridge logistic regression.

    Newton's method on standardised features; deterministic.

    Args:
        source: (M, d), target: (N, d).
        penalty: weight of ||w||^2 / 2 against the summed loss (scikit-learn's 1 / C).
        iterations: upper bound of Newton steps; it mostly takes six.

    Returns:
        (M,) float64 in (0, 1), with the domains' shares as prior: M source and N target rows.
    """
    rows = np.concatenate([source, target]).astype("float64")
    rows = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-12)
    rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    labels = np.repeat([0.0, 1.0], [len(source), len(target)])
    ridge = np.full(rows.shape[1], float(penalty))
    ridge[-1] = 1e-8  # the intercept is free
    weights = np.zeros(rows.shape[1])
    loss = _loss(rows, labels, weights, ridge)
    for _ in range(iterations):
        probability = _sigmoid(rows @ weights)
        gradient = rows.T @ (probability - labels) + ridge * weights
        curvature = np.maximum(probability * (1 - probability), 1e-10)
        step = np.linalg.solve((rows.T * curvature) @ rows + np.diag(ridge), gradient)
        size = 1.0
        while (fresh := _loss(rows, labels, weights - size * step, ridge)) > loss and size > 1e-4:
            size /= 2
        weights = weights - size * step
        if loss - fresh <= 1e-7 * max(loss, 1.0):
            break
        loss = fresh
    return _sigmoid(rows[: len(source)] @ weights)


def _sigmoid(values):
    return np.where(values >= 0, 1.0, np.exp(-np.abs(values))) / (1.0 + np.exp(-np.abs(values)))


def _loss(rows, labels, weights, ridge):
    """Summed logistic loss plus the penalty."""
    scores = rows @ weights
    return float(np.sum(np.logaddexp(0.0, scores) - labels * scores) + 0.5 * np.sum(ridge * weights**2))
