"""t-SNE of both domains' features, several runs side by side in one layout."""

import numpy as np

from isra_keras.analysis import style


def embed(features, start=None, seed=0, perplexity=30.0):
    """t-SNE of features.

    Args:
        features: (n, d), n >= 3; rows are scaled to unit length.
        start: (n, 2) layout to begin from, so that two runs can be compared; None for the first two components.
        seed: int.
        perplexity: lowered for few rows.

    Returns:
        (n, 2) float32; with `start`, turned and mirrored onto it.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    begin = "pca" if start is None else (start / max(float(np.std(start[:, 0])), 1e-12) * 1e-4).astype("float32")
    tsne = TSNE(2, perplexity=min(perplexity, (len(unit) - 1) / 3), init=begin, random_state=seed)
    with threadpool_limits(1):  # its threads wait for each other actively: on a busy machine two are slower than one
        points = tsne.fit_transform(unit.astype("float32"))
    return points if start is None else aligned(points, start)


def aligned(points, reference):
    """Points moved, turned or mirrored (never stretched) to lie as near as can be to a reference: (n, 2)."""
    moved, wanted = points - points.mean(axis=0), reference - reference.mean(axis=0)
    left, _, right = np.linalg.svd(moved.T @ wanted)
    return (moved @ left @ right).astype("float32")


def plot_embeddings(panels, shared, path):
    """One panel a run: grey source samples of classes not shared, blue of shared classes, orange target samples.

    Args:
        panels: list of (title, points (n, 2), is_target (n,) bool, labels (n,) of the source's samples).
        shared: (C,) bool.
        path: .png; an .svg is written beside it.
    """
    with style.figure(3.4 * len(panels), 3.6, 1, len(panels), squeeze=False) as (made, axes):
        for axis, (title, points, is_target, labels) in zip(axes.flat, panels):
            kinds = [
                (~is_target & ~shared[np.maximum(labels, 0)], style.GREY, "o", "source, class not shared"),
                (~is_target & shared[np.maximum(labels, 0)], style.BLUE, "o", "source, shared class"),
                (is_target, style.ORANGE, "x", "target"),
            ]
            for rows, colour, marker, name in kinds:
                axis.scatter(*points[rows].T, s=7, c=colour, marker=marker, linewidths=0.6, alpha=0.7, label=name,
                             rasterized=True)  # fmt: skip
            axis.set_title(title, loc="left")
            axis.set_xticks([]), axis.set_yticks([])
        handles, names = axes.flat[0].get_legend_handles_labels()
        made.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8, markerscale=2)
        style.save_both(made, path)


def separation(features, is_target, labels, shared):
    """Two numbers behind the picture.

    Args:
        features: (n, d). is_target: (n,) bool. labels: (n,) int source labels (any value for target rows).
        shared: (C,) bool.

    Returns:
        {"nearest_is_shared": share of the target's samples whose nearest source sample (cosine) is of a shared class,
        "silhouette": mean silhouette of the source's classes in [-1, 1]}.
    """
    from sklearn.metrics import silhouette_score

    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    source, known = unit[~is_target], labels[~is_target]
    nearest = known[(unit[is_target] @ source.T).argmax(axis=1)]
    few = len(np.unique(known)) < 2 or len(np.unique(known)) >= len(known)
    silhouette = float("nan") if few else float(silhouette_score(source, known))
    return {"nearest_is_shared": float(shared[nearest].mean()), "silhouette": silhouette}
