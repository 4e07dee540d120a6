"""How alike shared and source-only classes are, and how far apart the domains lie."""

import numpy as np

from isra_keras.analysis import style


def class_means(features, labels, num_classes):
    """(C, d) means of unit rows, NaN for classes without samples."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    means = np.full((num_classes, features.shape[1]), np.nan)
    for label in np.unique(labels[labels >= 0]):
        means[label] = unit[labels == label].mean(axis=0)
    return means


def category_similarity(target_means, source_means):
    """Cosine of every target class with every source class, both around the source's mean: (C, C), NaN if missing.

    Without taking off the mean all ReLU features look alike.
    """
    centre = np.nanmean(source_means, axis=0)
    scaled = []
    for means in (target_means, source_means):
        moved = means - centre
        scaled.append(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12))
    return scaled[0] @ scaled[1].T


def plot_similarity(table, shared, class_names, path):
    """Rows: classes that the target has. Columns: shared classes, then source-only ones, with a line between.

    Args:
        table: (C, C) of `category_similarity`.
        shared: (C,) bool.
        class_names: C names.
        path: .png; an .svg is written beside it.
    """
    rows = np.flatnonzero(~np.isnan(table).all(axis=1))
    columns = np.concatenate([np.flatnonzero(shared), np.flatnonzero(~shared)])
    cell = 0.2 if len(columns) > 20 else 0.4
    size = (max(4.5, cell * len(columns) + 2.8), max(2.8, cell * len(rows) + 1.9))
    with style.figure(*size) as (made, axis):
        image = axis.imshow(table[np.ix_(rows, columns)], cmap="PuOr_r", vmin=-1, vmax=1)
        axis.axvline(shared.sum() - 0.5, color=style.DARK, linewidth=1.2)
        font = 8 if len(columns) <= 40 else 7
        names = [style.short(class_names[index]) for index in columns]
        axis.set_xticks(np.arange(len(columns)), names, fontsize=font, rotation=90 if max(map(len, names)) > 2 else 0)
        axis.set_yticks(np.arange(len(rows)), [style.short(class_names[index]) for index in rows], fontsize=font)
        axis.set_xlabel("source class: shared │ source only")
        axis.set_ylabel("target class")
        axis.grid(False)
        made.colorbar(image, ax=axis, label="cosine", fraction=0.025, pad=0.015)
        style.save_both(made, path)


def a_distance(source, target, seed=0, max_rows=2000):
    """Proxy A-distance 2 (1 - 2 e), e the held-out error of a linear classifier between domains: in [0, 2].

    0: the domains can't be told apart; 2: perfectly. In partial adaptation it can't be 0 for whole domains, since the
    source has classes that the target has not; compare the shared classes' samples.

    Args:
        source: (M, d), target: (N, d), at least four rows each.
        seed: of the split in halves.
        max_rows: of each.

    Reference:
        Ben-David et al., "Analysis of Representations for Domain Adaptation", NeurIPS 2006.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(seed)
    count = min(len(source), len(target), max_rows)
    parts = [rng.permutation(rows)[:count] for rows in (source, target)]
    half = count // 2
    train, test = (np.concatenate([part[where] for part in parts]) for where in (slice(half), slice(half, None)))
    labels = [np.repeat([0, 1], [half, half]), np.repeat([0, 1], [count - half, count - half])]
    scaler = StandardScaler().fit(train)
    model = LogisticRegression(C=0.1, max_iter=300).fit(scaler.transform(train), labels[0])
    error = 1 - model.score(scaler.transform(test), labels[1])
    return float(2 * (1 - 2 * min(error, 0.5)))
