"""Label-free scores of a model from its predictions on the target (and, for some, on the source).

Every function takes `(features, logits, source_features=None, source_logits=None, source_labels=None)` and returns a
Python float:

- features: (N, d) and logits: (N, C), the whole target set in evaluation mode;
- source_features: (M, d), source_logits: (M, C), source_labels: (M,) int in 0..C-1, better held-out than trained on.

None of them sees a target label. `SCORES` names them all with the direction in which they are better.
"""

import numpy as np

from isra_keras.selection.blas import one_blas_thread
from isra_keras.selection.logistic import domain_probability

MAX_ROWS = 4000  # pairwise and iterative scores look at this many evenly spaced rows
SND_BLOCK = 64  # rows of pairwise similarities at a time


def softmax(logits):
    """(N, C) float64 probabilities."""
    logits = np.asarray(logits, "float64")
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def entropies(probabilities):
    """(N,) entropy of each row in nats, -sum p log(p + 1e-7) as BA3US and ISRA compute it."""
    return -np.sum(probabilities * np.log(probabilities + 1e-7), axis=-1)


def mean_entropy(features, logits, source_features=None, source_logits=None, source_labels=None):
    """Mean entropy of the target's predictions, in [0, log C]; lower is better.

    What the authors of BA3US and ISRA select by. Falls for confident mistakes.

    Reference:
        Morerio et al., "Minimal-Entropy Correlation Alignment", ICLR 2018.
    """
    return float(entropies(softmax(logits)).mean())


def information_maximisation(features, logits, source_features=None, source_logits=None, source_labels=None):
    """Entropy of the mean prediction minus mean entropy, in [0, log C]; higher is better.

    Guards against everything in one class. In partial adaptation it rewards spreading over classes that are not
    there, so read it beside the others.

    Reference:
        Krause et al., "Discriminative Clustering by Regularized Information Maximization", NeurIPS 2010.
    """
    probabilities = softmax(logits)
    return float(entropies(probabilities.mean(axis=0)) - entropies(probabilities).mean())


@one_blas_thread
def soft_neighbourhood_density(
    features, logits, source_features=None, source_logits=None, source_labels=None, temperature=0.05, max_rows=MAX_ROWS
):
    """Mean entropy of each prediction's soft neighbourhood, in [0, log(N - 1)]; higher is better.

    Predictions are normalised to unit length, similarities to all other rows divided by `temperature` and put
    through a softmax: dense neighbourhoods have many neighbours, hence high entropy.

    Reference:
        Saito et al., "Tune it the Right Way: Unsupervised Validation of Domain Adaptation via Soft Neighborhood
        Density", ICCV 2021.
    """
    probabilities = softmax(_subsample(np.asarray(logits), max_rows)).astype("float32")
    if len(probabilities) < 2:
        return 0.0
    unit = probabilities / np.linalg.norm(probabilities, axis=1, keepdims=True)
    columns, total = np.ascontiguousarray(unit.T), 0.0
    # As many rows at a time as the processor's cache holds, twice over and in the same memory.
    similar, weights = (np.empty((SND_BLOCK, len(unit)), "float32") for _ in range(2))
    for start in range(0, len(unit), SND_BLOCK):
        rows = np.arange(len(unit[start : start + SND_BLOCK]))
        near, shares = similar[: len(rows)], weights[: len(rows)]
        np.matmul(unit[start : start + SND_BLOCK], columns, out=near)
        near -= 1.0
        near /= temperature  # at most 0: no overflow
        np.exp(near, out=shares)
        shares[rows, rows + start] = 0.0
        mass = shares.sum(axis=1)
        # -sum p log p with p = w / mass and log w = similar
        total += float(np.sum(np.log(mass) - np.einsum("ij,ij->i", shares, near) / mass, dtype="float64"))
    return total / len(unit)


def batch_nuclear_norm(features, logits, source_features=None, source_logits=None, source_labels=None):
    """Nuclear norm of the (N, C) prediction matrix over sqrt(N min(N, C)), in (0, 1]; higher is better.

    Large when predictions are both confident and diverse.

    Reference:
        Cui et al., "Towards Discriminability and Diversity: Batch Nuclear-norm Maximization", CVPR 2020.
    """
    probabilities = softmax(logits)
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(probabilities.T @ probabilities), 0.0))
    return float(singular.sum() / np.sqrt(len(probabilities) * min(probabilities.shape)))


def source_accuracy(features, logits, source_features=None, source_logits=None, source_labels=None):
    """Accuracy on the given source samples, in [0, 1]; higher is better, but it says nothing of the target."""
    _require_source("source_accuracy", source_logits, source_labels)
    return float(np.mean(np.argmax(source_logits, axis=-1) == np.asarray(source_labels)))


def source_risk(features, logits, source_features=None, source_logits=None, source_labels=None):
    """Mean cross-entropy on the given source samples, >= 0; lower is better."""
    _require_source("source_risk", source_logits, source_labels)
    return float(_cross_entropy(source_logits, source_labels).mean())


def deep_embedded_validation(
    features, logits, source_features=None, source_logits=None, source_labels=None, max_rows=MAX_ROWS
):
    """Source error weighted by how target-like each source sample's features are; lower is better.

    w = (M / N) p(target | f) / p(source | f) from a logistic regression between the domains, and
    DEV = mean(w l) + eta (mean(w) - 1), eta = -cov(w l, w) / var(w), with l the 0/1 error: an unbiased estimate
    of the target error, with a control variate, if the two domains share their labels. In partial adaptation the
    weights of classes that are not in the target go towards zero.

    Reference:
        You et al., "Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation", ICML 2019.
    """
    _require_source("dev", source_features, source_logits, source_labels)
    keep = _rows(len(source_labels), max_rows)
    source, target = np.asarray(source_features)[keep], _subsample(np.asarray(features), max_rows)
    errors = (np.argmax(source_logits, axis=-1) != np.asarray(source_labels))[keep].astype("float64")
    probability = np.clip(domain_probability(source, target), 1e-6, 1 - 1e-6)
    weights = len(source) / len(target) * probability / (1 - probability)
    weighted = weights * errors
    spread = np.var(weights)
    eta = -np.cov(weighted, weights, bias=True)[0, 1] / spread if spread > 1e-12 else 0.0
    return float(weighted.mean() + eta * (weights.mean() - 1.0))


SCORES = {
    "mean_entropy": (mean_entropy, "min"),
    "information_maximisation": (information_maximisation, "max"),
    "snd": (soft_neighbourhood_density, "max"),
    "bnm": (batch_nuclear_norm, "max"),
    "dev": (deep_embedded_validation, "min"),
    "source_accuracy": (source_accuracy, "max"),
    "source_risk": (source_risk, "min"),
}
"""{name: (function, "min" or "max")}: every label-free score and the direction in which it is better."""

NEEDS_SOURCE = frozenset({"dev", "source_accuracy", "source_risk"})


def score_all(features, logits, source_features=None, source_logits=None, source_labels=None):
    """{name: float} of all scores that the given arrays allow; without source arrays, those of `NEEDS_SOURCE` miss.

    Args:
        features, logits, source_features, source_logits, source_labels: as every score takes them.

    Raises:
        ValueError: if the arrays are empty or their lengths differ.

    Example:
        >>> score_all(evaluation.features, evaluation.logits)["mean_entropy"]
    """
    if len(logits) == 0 or len(features) != len(logits):
        raise ValueError(f"Expected as many features as logits, at least one; received {len(features)}, {len(logits)}.")
    source = (source_features, source_logits, source_labels)
    complete = all(part is not None for part in source)
    names = [name for name in SCORES if complete or name not in NEEDS_SOURCE]
    return {name: SCORES[name][0](features, logits, *source) for name in names}


def _rows(count, limit):
    """Indices of at most `limit` evenly spaced rows; always the same."""
    return np.arange(count) if count <= limit else np.linspace(0, count - 1, limit).astype(int)


def _subsample(array, limit):
    return array[_rows(len(array), limit)]


def _cross_entropy(logits, labels):
    logits = np.asarray(logits, "float64")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    picked = np.take_along_axis(shifted, np.asarray(labels)[:, None].astype(int), axis=1)[:, 0]
    return np.log(np.exp(shifted).sum(axis=-1)) - picked


def _require_source(name, *arrays):
    if any(array is None for array in arrays):
        raise ValueError(f"Expected source features, logits and labels for the score '{name}'; received none.")
