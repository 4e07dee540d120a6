"""The report of a run: report.md with its three figures."""

import re
from pathlib import Path

import numpy as np

from isra_keras.analysis import curves, style
from isra_keras.analysis.per_class import (
    BORDER,
    accuracy,
    confusion,
    judged_shared,
    per_class,
    shared_border,
    weights_judged_by,
)
from isra_keras.selection.scores import entropies, score_all, softmax

RULE = (f"A class is judged shared when its weight is above {BORDER} of an even share among the classes that the weights "
        "spread over (exp of their entropy).")  # fmt: skip


def write_report(
    run_dir, evaluation, labels, class_names, class_weights=None, history=None, title=None, source_labels=None
):
    """Writes run_dir/report/: report.md, confusion.png, curves.png, class_weights.png.

    Every file is written beside its place and renamed. confusion.png is there only with labels.

    Args:
        run_dir: run folder.
        evaluation: of the whole target set: an `Evaluation`, or a dict with "features" (N, d), "logits" (N, C).
        labels: (N,) int target labels in source numbering, -1 where unknown, or None. For the tables only.
        class_names: C source class names in label order.
        class_weights: (C,) of the method; None judges by the mean of the predictions.
        history: list of dicts as in metrics.jsonl, or a path; run_dir/metrics.jsonl if None.
        title: first line of the report.
        source_labels: int labels of the source: a class that none of them has is not judged shared. None: all are there.

    Returns:
        Path of report.md.

    Raises:
        ValueError: if lengths do not fit together.
    """
    features, logits = _arrays(evaluation)
    class_names = [str(name) for name in class_names]
    labels = None if labels is None or not (np.asarray(labels) >= 0).any() else np.asarray(labels)
    _check(logits, labels, class_names, class_weights)
    folder = Path(run_dir) / "report"
    folder.mkdir(parents=True, exist_ok=True)
    if history is None or isinstance(history, (str, Path)):
        history = curves.read_history(history or Path(run_dir) / "metrics.jsonl")

    probabilities = softmax(logits)
    from_method = class_weights is not None
    taught = np.arange(len(class_names)) if source_labels is None else source_labels
    weights = weights_judged_by(class_weights, probabilities, taught)
    predictions = logits.argmax(axis=-1)
    rows = None if labels is None else per_class(labels, predictions, class_names)

    counts = None if rows is None else [row.count for row in rows]
    plot_class_weights(weights, class_names, folder / "class_weights.png", counts)
    has_curves = curves.plot_curves(history, folder / "curves.png")
    if rows is None:
        (folder / "confusion.png").unlink(missing_ok=True)  # of an earlier report with labels
    else:
        plot_confusion(confusion(labels, predictions, len(class_names)), class_names, folder / "confusion.png")
    parts = [
        f"# {_plain(title or 'Run ' + Path(run_dir).resolve().name)}",
        _summary(features, logits, probabilities, rows),
        _shared_section(weights, class_names, from_method, rows),
        _class_section(rows, class_names, predictions, probabilities),
        "## Curves\n\n"
        + (f"![curves](curves.png)\n\n{curves.meanings(history)}" if has_curves else "No metrics were recorded."),
    ]
    path = folder / "report.md"
    style.write_text(path, "\n\n".join(parts) + "\n")
    return path


def plot_class_weights(weights, class_names, path, counts=None):
    """Horizontal bars, largest weight on top, with the border of the rule.

    Args:
        weights: (C,).
        class_names: C names.
        path: .png.
        counts: (C,) target samples by label, to mark the classes that have any; None without labels.
    """
    order = np.argsort(weights, kind="stable")
    shared = judged_shared(weights)[order]
    positions = np.arange(len(order))
    with style.figure(6.5, max(2.2, 0.17 * len(order) + 1.3)) as (made, axis):
        for rows, colour, judged in ((shared, style.BLUE, "judged shared"), (~shared, style.GREY, "judged absent")):
            if rows.any():  # the legend gives bars that are none a colour of its own, the other one's
                axis.barh(positions[rows], weights[order][rows], color=colour, height=0.75, label=judged)
        axis.axvline(shared_border(weights), color=style.DARK, linewidth=1, linestyle="--", label="border of the rule")
        if counts is not None:
            present = np.asarray(counts)[order] > 0
            offset = np.full(present.sum(), -0.012 * weights.max())
            axis.plot(offset, positions[present], ">", color=style.RED, markersize=4, clip_on=False,
                      linestyle="none", label="has target images (from labels)")  # fmt: skip
            axis.set_xlim(-0.03 * weights.max(), None)
        axis.set_yticks(positions, [_short(class_names[index]) for index in order], fontsize=_label_size(len(order)))
        axis.set_ylim(-0.7, len(order) - 0.3)
        axis.grid(False, axis="y")
        axis.set_xlabel("class weight")
        axis.legend(loc="lower right", fontsize=8)
        style.save(made, path)


def plot_confusion(table, class_names, path):
    """Share of each true class's samples by predicted class; rows are the classes that the target holds.

    Args:
        table: (C, C) counts of `confusion`.
        class_names: C names.
        path: .png.
    """
    from matplotlib.colors import PowerNorm

    present = np.flatnonzero(table.sum(axis=1))
    used = np.flatnonzero(table.sum(axis=0) + table.sum(axis=1))
    shares = table[np.ix_(present, used)] / table[present].sum(axis=1, keepdims=True)
    cell = 0.2 if len(used) > 20 else 0.42
    width, height = max(4.5, cell * len(used) + 3.2), max(3.2, cell * len(present) + 2.0)
    with style.figure(width, height) as (made, axis):
        image = axis.imshow(shares, cmap=style.SEQUENTIAL, norm=PowerNorm(0.5, 0, 1), aspect="equal")
        axis.grid(False)
        size = _label_size(len(used))
        axis.set_xticks(np.arange(len(used)), [_short(class_names[i]) for i in used], fontsize=size,
                        rotation=90 if max(len(class_names[i]) for i in used) > 2 else 0)  # fmt: skip
        axis.set_yticks(np.arange(len(present)), [_short(class_names[i]) for i in present], fontsize=size)
        left_out = " (classes that are neither predicted nor present are left out)" if len(used) < len(class_names) else ""
        axis.set_xlabel(f"predicted{left_out}")
        axis.set_ylabel("true class")
        made.colorbar(image, ax=axis, label="% of the true class", ticks=[0, 0.05, 0.2, 0.5, 1], fraction=0.025,
                      pad=0.015, format=lambda share, _: f"{100 * share:.0f}")  # fmt: skip
        if len(used) <= 20:
            _write_shares(axis, shares)
        style.save(made, path)


def _write_shares(axis, shares):
    """Percent in the cells, light on dark and dark on light."""
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            colour = "white" if share > 0.35 else "black"
            axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)


def _summary(features, logits, probabilities, rows):
    """Table of accuracy (if known) and label-free scores."""
    lines = ["| measure | value |", "|---|---|", f"| target samples | {len(logits):,} |"]
    if rows is None:
        lines.append("| accuracy | unknown: the target has no labels |")
    else:
        overall, averaged = accuracy(rows)
        lines += [f"| accuracy | {100 * overall:.2f} % |", f"| class-averaged accuracy | {100 * averaged:.2f} % |"]
    lines += [f"| {name} (label-free) | {value:.4f} |" for name, value in score_all(features, logits).items()]
    lines.append(f"| mean confidence | {probabilities.max(axis=1).mean():.4f} |")
    return "\n".join(lines)


def _shared_section(weights, class_names, from_method, rows):
    """Which classes the model judged to be in the target, and by what."""
    shared = judged_shared(weights)
    order = [index for index in np.argsort(-weights, kind="stable") if shared[index]]
    names = ", ".join(f"{_plain(class_names[i])} ({weights[i]:.4f})" for i in order)
    origin = "the method's class weights" if from_method else (
        "the mean of its predictions over the target, as the method has no class weights"
    )  # fmt: skip
    lines = [
        "## Classes judged shared",
        f"{len(order)} of {len(class_names)} classes, by {origin}: {names}.",
        RULE,
    ]
    if rows is not None:
        present = np.array([row.count > 0 for row in rows])
        missed = [_plain(class_names[i]) for i in np.flatnonzero(present & ~shared)]
        extra = [_plain(class_names[i]) for i in np.flatnonzero(~present & shared)]
        lines.append(
            f"Against the target's labels: {int((present & shared).sum())} of {int(present.sum())} present classes "
            f"found; missed: {', '.join(missed) or 'none'}; taken although absent: {', '.join(extra) or 'none'}."
        )
    return "\n\n".join([*lines, "![class weights](class_weights.png)"])


def _class_section(rows, class_names, predictions, probabilities):
    """Per-class table with labels; counts of predictions without."""
    if rows is None:
        counts = np.bincount(predictions, minlength=len(class_names))
        entropy = entropies(probabilities)
        lines = ["## Predictions by class", "", "| class | predicted | mean entropy |", "|---|---:|---:|"]
        for index in np.argsort(-counts, kind="stable"):
            if counts[index]:
                mean = entropy[predictions == index].mean()
                lines.append(f"| {_plain(class_names[index])} | {counts[index]} | {mean:.3f} |")
        return "\n".join(lines)
    lines = [
        "## Classes",
        "",
        "| class | samples | accuracy | predicted | most often taken for |",
        "|---|---:|---:|---:|---|",
    ]
    for row in rows:
        if row.count or row.predicted:
            share = f"{100 * row.accuracy:.1f} %" if row.count else "not in the target"
            wrong = f"{_plain(row.mistaken_for)} ({row.mistakes})" if row.mistakes else ""
            lines.append(f"| {_plain(row.name)} | {row.count} | {share} | {row.predicted} | {wrong} |")
    return "\n".join([*lines, "", "## Confusion", "", "![confusion](confusion.png)"])


def _plain(text):
    """Text that Markdown shows as it is, in tables too. Underscores within words mean nothing to it and stay."""
    return re.sub(r"[\\|<>*`\[\]~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", " ".join(str(text).splitlines()))


def _short(name, limit=24):
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _label_size(count):
    return 8 if count <= 40 else 7


def _arrays(evaluation):
    """(features, logits) of an Evaluation or a dict."""
    get = evaluation.get if isinstance(evaluation, dict) else lambda name: getattr(evaluation, name)
    return np.asarray(get("features")), np.asarray(get("logits"))


def _check(logits, labels, class_names, class_weights):
    if logits.ndim != 2 or len(logits) == 0 or logits.shape[1] != len(class_names):
        raise ValueError(f"Expected logits (N >= 1, {len(class_names)}), one column a class; received {logits.shape}.")
    if labels is not None and len(labels) != len(logits):
        raise ValueError(f"Expected {len(logits)} labels; received {len(labels)}.")
    if class_weights is not None and len(class_weights) != len(class_names):
        raise ValueError(f"Expected {len(class_names)} class weights; received {len(class_weights)}.")
