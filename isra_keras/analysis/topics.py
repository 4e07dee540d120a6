"""What the topics are: which classes they respond to, in which domains, and how attention lies over a mini-batch."""

import numpy as np

from isra_keras.analysis import style


def topic_class_matrix(responses, labels, num_classes):
    """(J, C) mean response of each topic to each class, in standard deviations of the topic; NaN without samples."""
    spread = responses.std(axis=0)
    scaled = (responses - responses.mean(axis=0)) / np.where(spread > 1e-8, spread, np.inf)
    matrix = np.full((responses.shape[1], num_classes), np.nan)
    for label in np.unique(labels[labels >= 0]):
        matrix[:, label] = scaled[labels == label].mean(axis=0)
    return matrix


def topic_table(source, target, source_labels, num_classes):
    """One dict a topic.

    Args:
        source: (M, J), target: (N, J) responses.
        source_labels: (M,) int.
        num_classes: C.

    Returns:
        list of {"topic", "source_mean", "target_mean", "explained": share of the response's variance on the source
        that classes explain, in [0, 1] (epsilon squared: without what noise would, which is (C - 1) / (N - 1) of it on
        average, and 0 where there is no more), "classes": the three labels with the highest mean response, "active":
        whether the response varies at all}.
    """
    matrix = topic_class_matrix(source, source_labels, num_classes)
    counts = np.bincount(source_labels[source_labels >= 0], minlength=num_classes)
    total, classes, rows = counts.sum(), (counts > 0).sum(), []
    for topic in range(source.shape[1]):
        active = bool(source[:, topic].std() > 1e-8)
        between = np.nansum(counts * np.nan_to_num(matrix[topic]) ** 2) / max(total, 1)
        explained = 1 - (1 - between) * (total - 1) / max(total - classes, 1)
        best = np.argsort(-np.nan_to_num(matrix[topic], nan=-np.inf), kind="stable")[:3]
        rows.append({
            "topic": topic, "source_mean": float(source[:, topic].mean()), "target_mean": float(target[:, topic].mean()),
            "explained": max(float(explained), 0.0) if active and total > classes else 0.0, "classes": [int(c) for c in best], "active": active,
        })  # fmt: skip
    return rows


def plot_topic_classes(matrix, shared, class_names, path, count=24):
    """Heat map of the topics that tell classes apart best: rows topics, columns shared, then source-only classes."""
    score = np.nan_to_num(matrix).max(axis=1)
    topics = np.argsort(-score, kind="stable")[:count]
    columns = np.concatenate([np.flatnonzero(shared), np.flatnonzero(~shared)])
    limit = max(float(np.nanmax(np.abs(matrix[topics]))), 1e-6)
    cell = 0.2 if len(columns) > 20 else 0.4
    with style.figure(max(4.5, cell * len(columns) + 2.2), 0.2 * len(topics) + 1.9) as (made, axis):
        image = axis.imshow(matrix[np.ix_(topics, columns)], cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
        axis.axvline(shared.sum() - 0.5, color=style.DARK, linewidth=1.2)
        names = [style.short(class_names[index]) for index in columns]
        font = 8 if len(columns) <= 40 else 7
        axis.set_xticks(np.arange(len(columns)), names, fontsize=font, rotation=90 if max(map(len, names)) > 2 else 0)
        axis.set_yticks(np.arange(len(topics)), [str(topic) for topic in topics], fontsize=7)
        axis.set_xlabel("source class: shared │ source only")
        axis.set_ylabel("topic")
        axis.grid(False)
        made.colorbar(image, ax=axis, label="mean response (deviations)", fraction=0.03, pad=0.015)
        style.save_both(made, path)


def plot_topic_domains(rows, path):
    """Mean response on the source against the target, one dot a topic; on the line a topic is shared alike."""
    source, target = (np.array([row[name] for row in rows]) for name in ("source_mean", "target_mean"))
    with style.figure(4.2, 4.0) as (made, axis):
        low, high = min(source.min(), target.min()), max(source.max(), target.max())
        axis.plot([low, high], [low, high], color=style.GREY, linewidth=1, linestyle="--")
        axis.plot(source, target, "o", color=style.BLUE, markersize=4)
        far = np.argsort(-np.abs(source - target), kind="stable")[:5]
        placed, apart = [], 0.06 * max(high - low, 1e-9)
        for topic in far:
            here = np.array([source[topic], target[topic]])
            if all(np.abs(here - other).max() > apart for other in placed):  # numbers that would overlap are left out
                axis.annotate(str(topic), here, xytext=(4, 3), textcoords="offset points", fontsize=7)
                placed.append(here)
        axis.locator_params(nbins=5)  # of more, the numbers below the axis run into each other
        axis.set_xlabel("mean response, source")
        axis.set_ylabel("mean response, target")
        style.save_both(made, path)


def plot_batch_attention(attention, labels, count_source, class_names, path, topic=None):
    """Attention over a mini-batch as the paper's Figure 3: |dg/dx| of the samples, for all topics and for one.

    Args:
        attention: (n, J, d) >= 0, source rows first, each domain sorted by class.
        labels: (n,) int, -1 where unknown.
        count_source: rows of the source.
        class_names: C names.
        path: .png; an .svg is written beside it.
        topic: the one of the right panel; None for the one with most attention.
    """
    norms = np.sqrt((attention**2).sum(axis=2))
    norms = norms / np.maximum(np.sqrt((norms**2).sum(axis=0, keepdims=True)), 1e-20)
    topic = int(attention.sum(axis=(0, 2)).argmax()) if topic is None else topic
    with style.figure(7.2, 4.2, 1, 2) as (made, axes):
        titles = ("norm of each topic's attention", f"topic {topic}: attention to each feature")
        for axis, values, title in zip(axes, (norms, attention[:, topic]), titles):
            image = axis.imshow(values, cmap=style.SEQUENTIAL, aspect="auto", interpolation="nearest")
            axis.axhline(count_source - 0.5, color=style.RED, linewidth=1.2)
            axis.set_title(title, loc="left")
            axis.grid(False)
            made.colorbar(image, ax=axis, fraction=0.04, pad=0.02)
        axes[0].set_xlabel("topic"), axes[1].set_xlabel("feature")
        names = [style.short(class_names[label], 12) if label >= 0 else "?" for label in labels]
        axes[0].set_yticks(np.arange(len(labels)), names, fontsize=5 if len(labels) > 30 else 7)
        axes[1].set_yticks([])
        axes[0].set_ylabel("source above the line, target below")
        style.save_both(made, path)
