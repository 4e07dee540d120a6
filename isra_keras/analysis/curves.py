"""Curves of a run from its metrics.jsonl."""

import json
import math
from pathlib import Path

import numpy as np

from isra_keras.analysis import style

ORACLE_TITLE = "accuracy (oracle: target labels)"
ORACLE = ("accuracy", "oracle_accuracy")
"""Names of it in a line; the runner writes the second."""
NOT_PLOTTED = {
    "step", "kind", "time", "seconds", "epoch", "stage", "class_weights", "scores", "checkpoint", "middle_size",
}  # fmt: skip
FIRST = ("loss", "classification", "adversarial", "class2vec", "alignment", "receptors", "target_entropy",
         "complement_entropy")  # fmt: skip
MAX_PANELS = 30
MEANING = {
    "bnm": "batch nuclear norm of the predictions: confident and diverse (higher is better)",
    "snd": "soft neighbourhood density: predictions form dense groups (higher is better)",
    "information_maximisation": "entropy of the mean prediction minus mean entropy, nats (higher is better)",
    "mean_entropy": "mean entropy of the predictions, nats (lower is better); selects the model by default",
    "dev": "source error weighted towards the target (lower is better)",
    "receptors": "error of the receptors and their L1 norm; the norm is most of it at the start",
    "receptor_r2": "share of a topic's variance that its receptor explains, mean over topics that vary; each is cut at -1, "
    "and below 0 it explains less than a constant",
    "receptor_mean_weight": "mean |W| of the receptors",
    "attention_sparsity": "of the attention (Hoyer): 0 even over all samples and features, 1 on one",
    "active_topics": "share of topics whose response varies within the batch",
    "alignment_largest_topic": "the alignment loss of the worst aligned topic, before its weight",
}
"""What the panels are whose names do not say it."""


def read_history(path):
    """Lines of a metrics.jsonl as dicts; a last line that was cut off by a crash is left out.

    Args:
        path: file; missing gives [].
    """
    path = Path(path)
    if not path.is_file():
        return []
    lines = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and "step" in entry:
                lines.append(entry)
    return lines


def series(history):
    """({title: (steps, values)} of training, the same of evaluations): finite numbers only, in order of steps.

    Args:
        history: of `read_history`.
    """
    training, evaluation = {}, {}
    for entry in history:
        if entry.get("kind") == "eval":
            values = {k: v for k, v in entry.items() if k not in ORACLE} | dict(entry.get("scores") or {})
            values |= {ORACLE_TITLE: entry[name] for name in ORACLE if entry.get(name) is not None}
            store = evaluation
        else:
            values, store = entry, training
        for name, value in values.items():
            plain = isinstance(value, (int, float)) and not isinstance(value, bool)
            if name not in NOT_PLOTTED and plain and math.isfinite(value):
                store.setdefault(name, {})[entry["step"]] = value  # a resumed run may repeat a step: the last counts
    return tuple(
        {name: tuple(map(list, zip(*sorted(points.items())))) for name, points in store.items()}
        for store in (training, evaluation)
    )


def stage_borders(history):
    """Steps after which another stage begins."""
    found, stage, last = {}, None, 0
    for entry in history:
        if stage is not None and entry.get("stage") not in (None, stage):
            found[last] = True
        stage, last = entry.get("stage") or stage, entry["step"]
    return list(found)


def meanings(history):
    """Markdown list of what the less familiar panels are."""
    names = set().union(*series(history))
    return "\n".join(f"- *{name.replace('_', ' ')}*: {text}" for name, text in MEANING.items() if name in names)


def plot_curves(history, path):
    """Small multiples: one panel for each training term and each evaluation score.

    Args:
        history: of `read_history`.
        path: .png to write.

    Returns:
        bool, False if there is nothing to draw (no file is written).
    """
    training, evaluation = series(history)
    names = sorted(training, key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST), n))
    panels = [(n, training[n], style.BLUE) for n in names]
    panels += [(n, evaluation[n], style.GREEN) for n in sorted(evaluation, key=lambda n: (n == ORACLE_TITLE, n))]
    panels = panels[:MAX_PANELS] if len(panels) > MAX_PANELS else panels
    if not panels:
        return False
    steps = [step for _, points, _ in panels for step in points[0]]
    limits = (min(steps), max(max(steps), min(steps) + 1))
    borders = stage_borders(history)
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    # The margins are known. Constrained layout measures every label instead, which takes longer than a short training.
    with style.figure(3.0 * columns, 1.9 * rows + 0.6, rows, columns, squeeze=False, layout="none") as (made, axes):
        _set_margins(made, rows, columns)
        for axis, panel in zip(axes.flat, panels):
            for border in borders:
                axis.axvline(border, color=style.GREY, linewidth=0.9, linestyle="--")
            _panel(axis, *panel, limits, borders)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        title = "blue: training (line: moving mean of a stage) · green: evaluation on the target · orange: uses target labels"
        height = made.get_size_inches()[1]
        made.suptitle(title + (" · dashed: next stage" if borders else ""), fontsize=9, y=1 - 0.1 / height, va="top")
        made.supxlabel("step", fontsize=9, y=0.08 / height, va="bottom")
        style.save(made, path, tight=columns < 3)  # the title is wider than two panels
    return True


def _set_margins(made, rows, columns):
    """Room for tick labels and titles, in inches."""
    width, height = made.get_size_inches()
    left, right, bottom, top, between, above = 0.76, 0.28, 0.48, 0.62, 0.84, 0.52
    across = (width - left - right - between * (columns - 1)) / columns
    up = (height - bottom - top - above * (rows - 1)) / rows
    made.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height, between / across, above / up)


def _panel(axis, title, points, colour, limits, borders=()):
    """One curve; a noisy training curve gets a moving mean, in each stage alone."""
    from matplotlib.ticker import MaxNLocator

    steps, values = np.asarray(points[0], float), np.asarray(points[1], float)
    colour = style.RED if title == ORACLE_TITLE else colour
    few = len(values) <= 40 and colour != style.BLUE
    pieces = moving_means(steps, values, borders) if colour == style.BLUE else [(steps, values)]
    if len(pieces) > 1 or len(pieces[0][0]) < len(steps):
        axis.plot(steps, values, color=colour, alpha=0.25, linewidth=0.7)
    for means in pieces:
        axis.plot(*means, color=colour, linewidth=1.4, marker="o" if few else None, markersize=3)
    axis.set_title(title.replace("_", " "), loc="left")
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axis.yaxis.set_major_locator(MaxNLocator(4))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    margin = 0.03 * (limits[1] - limits[0])
    axis.set_xlim(limits[0] - margin, limits[1] + margin)


def moving_means(steps, values, borders):
    """A curve's moving mean over a twentieth of its length, stage by stage: across a border it would draw ramps that
    never were. A stage that does not go up and down, or is shorter than two windows, stays as it is.

    Args:
        steps, values: (n,) floats, in order of steps.
        borders: of `stage_borders`.

    Returns:
        list of (steps, values), one for each stage that has any; the whole curve if no stage needs a mean.
    """
    window, smoothed = len(values) // 20, False
    pieces = np.split(np.arange(len(steps)), np.searchsorted(steps, sorted(borders), side="right"))
    found = []
    for part in pieces:
        x, y = steps[part], values[part]
        if window >= 2 and len(y) >= 2 * window and _noisy(y):
            smoothed, sums = True, np.cumsum(np.concatenate([[0.0], y]))
            x, y = x[window // 2 :][: len(y) - window + 1], (sums[window:] - sums[:-window]) / window
        if len(x):
            found.append((x, y))
    return found if smoothed else [(steps, values)]


def _noisy(values):
    """True if a curve goes up and down; a schedule does not."""
    signs = np.sign(np.diff(values))
    return bool((signs > 0).any() and (signs < 0).any())
