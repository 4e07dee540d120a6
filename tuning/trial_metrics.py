"""Means over the seeds of a trial."""

import numpy as np


def mean_metrics(outcomes):
    """{name: mean over seeds} of the metrics that all of them have; NaN where one has none.

    Args:
        outcomes: list of `Outcome`s as dicts.
    """
    names = [name for name in outcomes[0]["metrics"] if all(name in item["metrics"] for item in outcomes)]
    return {name: float(np.mean([_number(item["metrics"][name]) for item in outcomes])) for name in names}


def _number(value):
    return float("nan") if value is None else value
