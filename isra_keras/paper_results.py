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


def note(dataset):
    """What to know of a dataset's numbers before one's own are held against them, a text."""
    text = (
        f"As printed, with {facts()['backbone']}; each method's checkpoints were picked by its authors' own rule, some by "
        "target labels, so that they are no label-free results."
    )
    odd = []
    for row in facts()["datasets"][dataset]["rows"]:
        *tasks, average = row["accuracy"]
        if average is not None and None not in tasks and abs(sum(tasks) / len(tasks) - average) > 0.00501:
            name = row["method"] + " with ISRA" * (row["isra"] != "off")
            odd.append(f"{name} ({average:.2f}, mean {sum(tasks) / len(tasks):.2f})")
    return text + f" Printed averages that are not the means of their rows: {', '.join(odd)}." * bool(odd)


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
