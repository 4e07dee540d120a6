"""Two runs class by class, confused pairs, and the samples that are worth a look."""

import numpy as np

from isra_keras.analysis import style
from isra_keras.analysis.per_class import confusion, per_class


def improvement(labels, predictions, other, class_names):
    """Rows of the paper's Table 3: list of (class, samples, accuracy, other accuracy, difference), in [0, 1].

    Args:
        labels, predictions, other: (N,) int; other are another run's predictions for the same samples.
        class_names: C names.
    """
    first, second = per_class(labels, predictions, class_names), per_class(labels, other, class_names)
    return [
        (a.name, a.count, a.accuracy, b.accuracy, a.accuracy - b.accuracy) for a, b in zip(first, second) if a.count
    ]


def confused_pairs(labels, predictions, class_names, count=15):
    """[(true class, predicted class, samples, share of the true class)], the most frequent mistakes first."""
    table = confusion(labels, predictions, len(class_names))
    wrong = table - np.diag(np.diag(table))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    rows, columns = np.unravel_index(order, wrong.shape)
    return [
        (class_names[r], class_names[c], int(wrong[r, c]), float(wrong[r, c] / table[r].sum()))
        for r, c in zip(rows, columns) if wrong[r, c]
    ]  # fmt: skip


def noteworthy(labels, logits, count=24):
    """Rows of samples: {"uncertain": highest entropy, "confidently wrong": highest confidence in a wrong class}."""
    from isra_keras.selection.scores import entropies, softmax

    probabilities = softmax(logits)
    found = {"uncertain": np.argsort(-entropies(probabilities), kind="stable")[:count]}
    wrong = np.flatnonzero((labels >= 0) & (logits.argmax(axis=1) != labels))
    found["confidently wrong"] = wrong[np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")[:count]]
    return found


def plot_improvement(rows, names, path):
    """Accuracy of each class in both runs, joined by a line; largest gain on top.

    Args:
        rows: of `improvement`.
        names: (this run's, the other's).
        path: .png; an .svg is written beside it.
    """
    rows = sorted(rows, key=lambda row: row[4])
    places = np.arange(len(rows))
    here, there = (100 * np.array([row[column] for row in rows]) for column in (2, 3))
    with style.figure(6.0, max(2.2, 0.2 * len(rows) + 1.4)) as (made, axis):
        better = here >= there
        for rise, colour in ((better, style.BLUE), (~better, style.RED)):
            axis.hlines(places[rise], there[rise], here[rise], color=colour, linewidth=2)
        axis.plot(there, places, "o", color="white", markeredgecolor=style.DARK, markersize=5, label=names[1])
        axis.plot(here, places, "o", color=style.DARK, markersize=5, label=names[0])
        axis.set_yticks(places, [style.short(row[0]) for row in rows], fontsize=8 if len(rows) <= 40 else 7)
        axis.set_xlabel("accuracy of the class, %  (blue line: better, orange: worse)")
        axis.set_xlim(-3, 103)
        made.legend(loc="outside upper center", ncols=2, fontsize=8)
        style.save_both(made, path)


def contact_sheet(images, captions, path, columns=8, row_names=None, halves=None):
    """Images in a grid with a caption above each.

    Args:
        images: uint8 (n, h, w, 3), n >= 1.
        captions: n short texts.
        path: .png.
        columns: int.
        row_names: a name for each row, on its left, or None.
        halves: headings of the left and the right half of the columns, or None.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    with style.figure(1.15 * columns, 1.42 * rows, rows, columns, squeeze=False) as (made, axes):
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, image, caption in zip(axes.flat, images, captions):
            axis.imshow(image, interpolation="nearest" if image.shape[0] < 64 else "antialiased")
            axis.set_title(caption, fontsize=6.5, pad=2)
        for axis, name in zip(axes[:, 0], row_names or []):
            axis.text(-0.08, 0.5, name, transform=axis.transAxes, rotation=90, ha="right", va="center", fontsize=8)
        for place, name in zip((0.25, 0.75), halves or []):
            made.text(place, 1.0, name, ha="center", va="bottom", fontsize=9, fontweight="bold")
        style.save(made, path, dpi=130)
