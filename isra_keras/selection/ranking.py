"""Choosing among candidates (checkpoints, runs, settings) by one score or by many."""

import numpy as np
from scipy.stats import rankdata


def best_index(values, direction):
    """Position of the best value; the first one of equals; NaN is never best.

    Args:
        values: sequence of float, one for each candidate.
        direction: "min" or "max".

    Raises:
        ValueError: if there is no finite value, or the direction is unknown.
    """
    values = _signed(values, direction)
    if not np.isfinite(values).any():
        raise ValueError("Expected at least one finite score; received none.")
    return int(np.argmin(np.where(np.isnan(values), np.inf, values)))


def ensemble_ranks(table, directions=None):
    """Mean rank of each candidate over all scores; lower is better, 1 is best by every score.

    Ranks make scores of different units comparable; equal values share the mean of their ranks, NaN ranks last.

    Args:
        table: {score name: sequence of float, one for each candidate}.
        directions: {score name: "min" or "max"}; those of `SCORES` if None.

    Returns:
        (candidates,) float64 in [1, candidates].

    Example:
        >>> ensemble_ranks({"mean_entropy": [0.2, 0.5], "snd": [6.1, 5.0]})
        array([1., 2.])
    """
    if directions is None:
        from isra_keras.selection.scores import SCORES

        directions = {name: SCORES[name][1] for name in table}
    if not table:
        raise ValueError("Expected at least one score; received none.")
    ranks = []
    for name, values in table.items():
        signed = _signed(values, directions[name])
        ranks.append(rankdata(np.where(np.isnan(signed), np.inf, signed)))
    return np.mean(ranks, axis=0)


def _signed(values, direction):
    """float64 values for which lower is better."""
    if direction not in ("min", "max"):
        raise ValueError(f"Expected direction 'min' or 'max'; received '{direction}'.")
    return np.asarray(values, "float64") * (1.0 if direction == "min" else -1.0)
