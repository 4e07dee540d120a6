"""What a cell predicts for its target, in a line: the predicted classes of its best sound evaluation, row by row.

They let models vote together (`selection.committee`) without a network at hand. Which of them are right is kept beside
them, so that a vote can be judged later: the class that wins was given by some voter, who knows whether it was right.
"""

import base64
import zlib

import numpy as np

from isra_keras.selection.collapse import class_signals

SOURCE_ONLY = ("source_only", "off")
ABSENT = 65535
"""Class of a row that was not predicted: an image that can't be read."""


def pack(step, classes, labels=None):
    """The part of a line.

    Args:
        step: steps done.
        classes: (N,) int, predicted, in the order of the target's rows.
        labels: (N,) int, the target's, -1 where unknown, or None.

    Returns:
        {"step": int, "classes": text, "correct": text or None}; None unless all labels are known.
    """
    classes = np.asarray(classes)
    known = labels is not None and len(labels) and np.all(np.asarray(labels) >= 0)
    return {
        "step": int(step),
        "classes": _text(classes.astype("<u2" if classes.max(initial=0) > 255 else "u1")),
        "correct": _text(np.packbits(classes == np.asarray(labels))) if known else None,
    }


def unpack(vote):
    """(N,) int64 predicted classes and (N,) bool whether they are right, or None, of what `pack` made.

    Raises:
        ValueError: text that is none of `pack`'s.
    """
    try:
        raw = _bytes(vote["classes"])
        correct = None if vote.get("correct") is None else np.frombuffer(_bytes(vote["correct"]), "u1")
    except (zlib.error, ValueError, TypeError) as error:
        raise ValueError(f"Expected a packed vote; received a broken one ({error}).") from error
    wide = raw[:1] == b"2"
    classes = np.frombuffer(raw[1:], "<u2" if wide else "u1").astype("int64")
    return classes, None if correct is None else np.unpackbits(correct[1:], count=len(classes)).astype(bool)


def beside_source_only(run, runs):
    """`class_signals` of a run's vote beside that of the source-only run among `runs`, of the same seed where there is one.

    For `BESIDE_LIMITS`: a model that is right everywhere agrees with it where it is right. Only for a network from nothing; {} for others, without votes, and for source only itself.
    """
    if run.can_collapse or run.cell.row == SOURCE_ONLY or not run.line.get("vote"):
        return {}
    known = [other for other in runs if other.cell.row == SOURCE_ONLY and other.line.get("vote")]
    if not known:
        return {}
    source = next((other for other in known if other.cell.seed == run.cell.seed), known[0])
    classes, reference = (unpack(one.line["vote"])[0] for one in (run, source))
    both = (classes != ABSENT) & (reference != ABSENT) if len(classes) == len(reference) else np.zeros(0, bool)
    return class_signals(classes[both], reference[both]) if len(both) else {}


def _text(array):
    head = str(array.dtype.itemsize).encode()
    return base64.b64encode(zlib.compress(head + array.tobytes(), 9)).decode()


def _bytes(text):
    return zlib.decompress(base64.b64decode(text, validate=True))
