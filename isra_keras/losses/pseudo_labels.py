"""Pseudo-labels of a whole target set: nearest class centroid (SHOT), agreement of two classifiers (A2KT)."""

import numpy as np


def centroid_labels(features, logits, threshold=0, distance="cosine", rounds=2):
    """Label of each row by its nearest class centroid, NumPy only, outside of the compiled step.

    Round one weighs the centroids by softmax(logits), the later ones by the labels of the round before. Only
    classes that currently hold more than `threshold` rows may be chosen; they are counted anew in every round (the
    original's fix of June 2022). Where none passes, the threshold counts as 0 (the original fails).

    Args:
        features: (N, d) float32.
        logits: (N, C) float32.
        threshold: int >= 0.
        distance: "cosine" (a constant 1 is appended to the features first) or "euclidean".
        rounds: int >= 1.

    Returns:
        (N,) int32 labels in [0, C).

    Reference:
        Liang et al., "Do We Really Need to Access the Source Data?", ICML 2020, equations 4 to 6.
    """
    features, logits = np.asarray(features, "float64"), np.asarray(logits, "float64")
    classes = logits.shape[1]
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    labels = weights.argmax(axis=1)
    if distance == "cosine":
        features = _unit(np.concatenate([features, np.ones((len(features), 1))], axis=1))
    for _ in range(rounds):
        centroids = weights.T @ features / (1e-8 + weights.sum(axis=0)[:, None])
        counts = np.bincount(labels, minlength=classes)
        kept = np.flatnonzero(counts > threshold)
        if not len(kept):
            kept = np.flatnonzero(counts)
        labels = kept[_distances(features, centroids[kept], distance).argmin(axis=1)]
        weights = np.eye(classes)[labels]
    return labels.astype("int32")


def agreeing_labels(first, second, threshold, share=1.0):
    """Pseudo-label of each row that two classifiers agree on with enough confidence, -1 for the others (A2KT).

    Args:
        first, second: (N, C) NumPy probabilities of the two classifiers.
        threshold: least mean probability of the label.
        share: at most this share of the rows that a class is predicted for is kept, the most confident ones.

    Returns:
        (N,) int32.
    """
    average = 0.5 * (first + second)
    labels, confidence = average.argmax(axis=1), average.max(axis=1)
    order = np.lexsort((-confidence, labels))  # by class, the most confident first
    rank = np.empty(len(labels), "int64")
    rank[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    allowed = rank < np.ceil(share * np.bincount(labels, minlength=first.shape[1]))[labels]
    agree = first.argmax(axis=1) == second.argmax(axis=1)
    return np.where(agree & (confidence >= threshold) & allowed, labels, -1).astype("int32")


def _distances(features, centroids, distance):
    """(N, K) cosine distances of unit features, or squared Euclidean ones."""
    if distance == "cosine":
        return -features @ _unit(centroids).T
    return np.square(centroids).sum(axis=1)[None, :] - 2.0 * features @ centroids.T


def _unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
