"""A logistic regression between two domains, small enough to need no library."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from isra_keras.selection.blas import one_blas_thread


@one_blas_thread
def domain_probability(source, target, penalty=1.0, iterations=500):
    """Probability that each source row is from the target, by ridge logistic regression.

    L-BFGS on standardised features, to a gradient of 1e-5 a row; deterministic. Newton's method takes
    several times as long at a thousand features, and DEV is computed at every evaluation.

    Args:
        source: (M, d), target: (N, d).
        penalty: weight of ||w||^2 / 2 against the summed loss (scikit-learn's 1 / C).
        iterations: upper bound.

    Returns:
        (M,) float64 in (0, 1), with the domains' shares as prior: M source and N target rows.
    """
    rows = np.concatenate([source, target]).astype("float64")
    rows = ((rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-12)).astype("float32")
    labels = np.repeat([0.0, 1.0], [len(source), len(target)])

    def loss(flat):
        weights, bias = flat[:-1], flat[-1]  # the intercept is free
        scores = rows @ weights.astype("float32") + bias
        value = np.sum(np.logaddexp(0.0, scores) - labels * scores) + 0.5 * penalty * weights @ weights
        error = expit(scores) - labels
        slope = rows.T @ error.astype("float32") + penalty * weights
        return value / len(rows), np.append(slope, error.sum()) / len(rows)

    options = {"maxiter": iterations, "gtol": 1e-5, "ftol": 1e-9}
    found = minimize(loss, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B", options=options).x
    return expit(rows[: len(source)] @ found[:-1] + found[-1])
