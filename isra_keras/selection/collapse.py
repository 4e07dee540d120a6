"""Collapse, seen without target labels: the class weights run away to a few classes and the predictions follow.

`collapse_signals` measures an evaluation, `collapse_reasons` judges it by `LIMITS`, `CollapseWatch` does both during
training. None of them sees a target label. The reference is what source labels alone say of the target: the
predictions of `selection.probe.source_probe`, of a source-only model, or of the run's own first evaluation.
"""

import numpy as np

from isra_keras.selection.scores import softmax

CONFIDENT = 0.8
"""A row counts as confident in the reference from this probability on."""

FEWEST_CONFIDENT = 20
"""With fewer confident rows their agreement is not judged."""

LIMITS = {
    "classes_ratio": (
        "min",
        0.5,
        "the predictions keep to {value:.0%} of the classes that source labels alone suggest",
    ),
    "agreement": ("min", 0.5, "only {value:.0%} of the predictions agree with source labels alone"),
    "confident_agreement": (
        "min",
        0.7,
        "{value:.0%} of the rows that source labels alone are sure of kept their class",
    ),
    "marginal_drift": ("max", 0.5, "{value:.0%} of the predictions moved to other classes"),
    "weight_drift": ("max", 0.5, "{value:.0%} of the class weights moved to other classes"),
}
"""{signal: (bound from below "min" or from above "max", bound, sentence)}.

Halves, and for the confident rows a little less than the reference itself promises of them (0.8 each, 0.9 on average).
They were set while the first runs on the PACS and Office-Caltech10 features were known: those are no test of them.
"""



def _share_of_limits(share):
    """`LIMITS` of which only a share is asked."""
    return {
        name: (direction, share * bound if direction == "min" else 1 - share * (1 - bound), sentence)
        for name, (direction, bound, sentence) in LIMITS.items()
    }


FRESH_LIMITS = _share_of_limits(0.2)
"""For a network that starts from nothing, beside its own model from before adaptation: a sound adaptation leaves the predictions
of so weak a reference behind, so that only what has nothing left of them counts. At a half, set while the runs of BA3US, DANN and
DRCN on the embedded data were known, it threw out sound runs of IWAN and SAN; this share was set while all of seed 0 were known.
Where the reference shows ten classes or fewer, a tenth of it is left when all rows go to one of them: that can go unseen."""

BESIDE_LIMITS = _share_of_limits(0.5)
"""For a network that started from nothing, beside a source-only model that was trained to its end: a model that is right everywhere
agrees with it only where that one is right."""


def collapse_signals(logits, reference=None, class_weights=None):
    """Measures one evaluation.

    Args:
        logits: (N, C) of the target.
        reference: (N, C) probabilities of the target by source labels alone, or None.
        class_weights: (C,) non-negative weights of the method, or None.

    Returns:
        {name: float}. Always: "predicted_classes" in [1, C], the exponential of the entropy of the predicted classes;
        "largest_share" in (0, 1], share of the class predicted most. With a reference: "classes_ratio",
        predicted_classes over the reference's; "agreement" in [0, 1] of the predicted classes;
        "confident_agreement", the same over rows of which the reference is sure (left out if there are fewer than 20);
        "marginal_drift" in [0, 1], total variation between the mean predictions. With class weights: "weight_entropy"
        in [0, 1], over log C; and with both "weight_drift", total variation between the weights and the
        reference's mean prediction.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    logits = np.asarray(logits)
    rows, classes = logits.shape
    if rows == 0:
        raise ValueError("Expected at least one row; received none.")
    predictions, probabilities = logits.argmax(axis=1), softmax(logits)
    shares = np.bincount(predictions, minlength=classes) / rows
    signals = {"predicted_classes": _effective(shares), "largest_share": float(shares.max())}
    if reference is not None:
        reference = np.asarray(reference, "float64")
        if reference.shape != logits.shape:
            raise ValueError(f"Expected a reference of shape {logits.shape}; received {reference.shape}.")
        signals |= _against(reference, predictions, probabilities, signals["predicted_classes"])
    if class_weights is not None:
        weights = np.asarray(class_weights, "float64")
        if weights.shape != (classes,):
            raise ValueError(f"Expected {classes} class weights; received shape {weights.shape}.")
        weights = weights / weights.sum() if weights.sum() > 0 else np.full(classes, 1.0 / classes)
        signals["weight_entropy"] = float(np.log(_effective(weights)) / np.log(max(classes, 2)))
        if reference is not None:
            signals["weight_drift"] = _variation(weights, reference.mean(axis=0))
    return signals


def class_signals(classes, reference):
    """Those of `collapse_signals` that predicted classes alone tell.

    For a network that starts from nothing: its first evaluation knows too little to be held to, so that the reference is
    a source-only model that was trained to its end.

    Args:
        classes, reference: (N,) int >= 0, predicted classes of the same rows.

    Returns:
        {"classes_ratio", "agreement", "marginal_drift"}; {} without rows.
    """
    classes, reference = np.asarray(classes), np.asarray(reference)
    if not len(classes):
        return {}
    width = int(max(classes.max(), reference.max())) + 1
    shares, expected = (np.bincount(one, minlength=width) / len(one) for one in (classes, reference))
    return {
        "classes_ratio": _effective(shares) / _effective(expected),
        "agreement": float((classes == reference).mean()),
        "marginal_drift": _variation(shares, expected),
    }


def collapse_reasons(signals, limits=None):
    """Why an evaluation looks collapsed.

    Args:
        signals: of `collapse_signals`; missing or None ones are not judged.
        limits: as `LIMITS`, or None for these.

    Returns:
        Tuple of sentences, empty for a sound evaluation.

    Example:
        >>> collapse_reasons({"agreement": 0.1})
        ('only 10% of the predictions agree with source labels alone',)
    """
    reasons = []
    for name, (direction, bound, sentence) in (LIMITS if limits is None else limits).items():
        value = signals.get(name)
        if value is not None and (value < bound if direction == "min" else value > bound):
            reasons.append(sentence.format(value=value))
    return tuple(reasons)


def is_collapsed(signals, limits=None):
    """Whether `collapse_reasons` finds any."""
    return bool(collapse_reasons(signals, limits))


class CollapseWatch:
    """Signals and warnings of a run, evaluation by evaluation.

    Args:
        reference: (N, C) probabilities by source labels alone; None takes the first evaluation that is seen, so that
            only what happens after it is noticed.
        limits: as `LIMITS`, or None for these.
        warn: called with a sentence when a sound run becomes a collapsed one, or None.

    Attributes:
        signals: of the last evaluation.
        reasons: of the last evaluation.

    Example:
        >>> watch = CollapseWatch(reference, warn=print)
        >>> entry["signals"] = watch.check(entry["step"], evaluation.logits, weights)
    """

    def __init__(self, reference=None, warn=None, limits=None):
        self.reference, self.warn, self.limits = reference, warn, limits
        self.signals, self.reasons = {}, ()

    def check(self, step, logits, class_weights=None):
        """Signals of an evaluation; warns once when they turn bad.

        Args:
            step: steps done, for the sentence.
            logits: (N, C) of the target.
            class_weights: (C,) or None.

        Returns:
            dict of `collapse_signals`.
        """
        if self.reference is None:
            self.reference = softmax(logits)
        before = self.reasons
        self.signals = collapse_signals(logits, self.reference, class_weights)
        self.reasons = collapse_reasons(self.signals, self.limits)
        if self.reasons and not before and self.warn is not None:
            self.warn(
                f"step {step}: the adaptation may have collapsed: {'; '.join(self.reasons)}. Compare with --method "
                "source_only, or take an earlier checkpoint."
            )
        return self.signals


def _against(reference, predictions, probabilities, predicted_classes):
    """Signals that compare predicted classes (N,) and probabilities (N, C) with the reference."""
    expected = reference.argmax(axis=1)
    same = predictions == expected
    sure = reference.max(axis=1) >= CONFIDENT
    shares = np.bincount(expected, minlength=reference.shape[1]) / len(expected)
    signals = {
        "classes_ratio": predicted_classes / _effective(shares),
        "agreement": float(same.mean()),
        "marginal_drift": _variation(probabilities.mean(axis=0), reference.mean(axis=0)),
    }
    if sure.sum() >= FEWEST_CONFIDENT:
        signals["confident_agreement"] = float(same[sure].mean())
    return signals


def _effective(shares):
    """exp(entropy) of shares that sum to one: how many classes they amount to."""
    used = shares[shares > 0]
    return float(np.exp(-np.sum(used * np.log(used))))


def _variation(first, second):
    """Total variation distance of two distributions."""
    return float(0.5 * np.abs(first - second).sum())
