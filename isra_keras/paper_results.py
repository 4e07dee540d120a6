"""Accuracies that were published for the tasks of the datasets here, to stand beside one's own.

The numbers are in `paper_results.json`, with their source. They were made with ResNet-50 and picked by the authors'
own rules, some of them by target labels.

Example:
    >>> published("office_home", "ba3us", "off")["Ar-Cl"]
    60.62
"""

import functools
import json
from importlib import resources

AVERAGE = "Avg"


@functools.cache
def facts():
    """Content of `paper_results.json`."""
    return json.loads(resources.files("isra_keras").joinpath("paper_results.json").read_text(encoding="utf-8"))


def datasets():
    """Names of the datasets that have published numbers."""
    return list(facts()["datasets"])


def source(dataset):
    """Where the numbers of a dataset stand, a sentence."""
    return f"{facts()['source']}, {facts()['datasets'][dataset]['table']}."


def published(dataset, method=None, isra="off"):
    """Published accuracies in per cent.

    Args:
        dataset: of `datasets()`; another one has no numbers.
        method: key of `METHODS`, or None for all rows.
        isra: "off", "reference" or "paper"; both variants stand for the paper's ISRA.

    Returns:
        {task: accuracy} with "Avg"; empty where nothing was published. For `method=None` {(method, "off" or "on"): that}.
    """
    entry = facts()["datasets"].get(dataset)
    if entry is None:
        return {}
    rows = {}
    for row in entry["rows"]:
        values = dict(zip([*entry["tasks"], AVERAGE], row["accuracy"]))
        values = {task: value for task, value in values.items() if value is not None}
        if values:
            rows[row["method"], row["isra"]] = values
    if method is None:
        return rows
    return rows.get((method, "off" if isra == "off" else "on"), {})
