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
    rows = standardised(np.concatenate([source, target]))
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


def standardised(rows, block=64):
    """Columns of mean 0 and deviation 1, reckoned in float64 and rounded once.

    A few rows at a time: fresh memory for all of them in float64, several times over, took as long as the fit. The sums
    take the rows in the order that NumPy's `mean` and `std` take them, so every bit is theirs.

    Args:
        rows: (N, d).
        block: rows at a time.

    Returns:
        (N, d) float32.
    """
    buffer = np.empty((block + 1, rows.shape[1]))  # the sum so far, then the rows
    starts = range(0, len(rows), block)

    def mean(change):
        total = np.zeros(rows.shape[1])
        for start in starts:
            part = rows[start : start + block]
            buffer[0], buffer[1 : len(part) + 1] = total, part
            change(buffer[1 : len(part) + 1])
            np.add.reduce(buffer[: len(part) + 1], axis=0, out=total)
        return total / len(rows)

    def square(part):
        part -= centre
        part *= part

    centre = mean(lambda part: None)
    deviation = np.maximum(np.sqrt(mean(square)), 1e-12)
    result = np.empty(rows.shape, "float32")
    for start in starts:
        part = buffer[: len(rows[start : start + block])]
        np.subtract(rows[start : start + block], centre, out=part)
        part /= deviation
        result[start : start + block] = part
    return result
