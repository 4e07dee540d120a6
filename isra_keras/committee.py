"""Several runs as one network: they vote, which is steadier than any one of them (RESULTS.md, "Models voting together")."""

import keras
from keras import ops

from isra_keras.errors import UserError
from isra_keras.run_folder import load_run, resized_to, run_folder

LEAD = 1e-6
"""Added to the class that leads, as two members that are sure of theirs have equal probabilities."""
ALIKE = ("class_names", "kind", "image_size", "crop_size")


class Committee(keras.Model):
    """Networks that vote on each row.

    The probability of a class is its part of the votes, the mean of the members' own probabilities counting as one
    more vote, which can't turn a majority. Of classes with equally many votes the one leads, and has the largest of their
    probabilities, that stands best with the members on the whole target, as in `selection.committee.vote`; where nothing
    is known of that, or where they stand alike, the most probable one. Where no class has more than a third of the votes,
    the class of the source-only member, if there is one, leads and is given the largest part.

    Args:
        members: list of networks of `load_run`, all with the same input and classes.
        standing: (C,) votes that each class has over the whole target, or None.
        steady: positions of the source-only members; of several the mean of their probabilities counts.

    Call arguments:
        images: (B, ...) float32, as each member takes them.

    Returns:
        {"features": (B, sum of the members' d), "logits": (B, C) float32, whose softmax are those probabilities}.
    """

    def __init__(self, members, standing=None, steady=(), **kwargs):
        super().__init__(**kwargs)
        self.members, self.steady = list(members), tuple(steady)
        self.standing = None if standing is None else [float(votes) for votes in standing]
        self.shape = tuple(self.members[0].input_shape)

    @property
    def input_shape(self):
        return self.shape

    def call(self, images):
        outputs = [member(images, training=False) for member in self.members]
        probabilities = ops.stack([ops.softmax(ops.cast(one["logits"], "float32")) for one in outputs])  # (M, B, C)
        votes = ops.one_hot(ops.argmax(probabilities, axis=-1), probabilities.shape[-1], dtype="float32")
        counts = ops.sum(votes, axis=0)
        shares = (counts + ops.mean(probabilities, axis=0)) / (len(outputs) + 1)
        if self.standing is not None:
            shares = _led_by_standing(shares, counts, ops.convert_to_tensor(self.standing, "float32"))
        if self.steady:
            at_odds = 3 * ops.max(counts, axis=-1, keepdims=True) <= len(outputs)
            stays = ops.argmax(sum(probabilities[number] for number in self.steady), axis=-1)
            shares = ops.where(at_odds, _led_by(shares, ops.one_hot(stays, shares.shape[-1], dtype="float32")), shares)
        features = ops.concatenate([ops.cast(one["features"], "float32") for one in outputs], axis=-1)
        return {"features": features, "logits": ops.log(ops.maximum(shares, keras.config.epsilon()))}


def _led_by_standing(shares, counts, standing):
    """Shares (B, C) of which, among the classes with most votes, the best standing one has swapped with the largest."""
    leads = counts == ops.max(counts, axis=-1, keepdims=True)
    first = ops.argmax(ops.where(leads, standing + 0.5 * shares, -1.0), axis=-1)
    return _led_by(shares, ops.one_hot(first, shares.shape[-1], dtype="float32"))


def _led_by(shares, given):
    """Shares (B, C) of which the class of a one-hot row of `given` (B, C) has swapped with the largest, and leads."""
    largest = ops.one_hot(ops.argmax(shares, axis=-1), shares.shape[-1], dtype="float32")
    gap = ops.sum((largest - given) * shares, axis=-1, keepdims=True)
    return shares + gap * (given - largest) + LEAD * given


def _standing(described, classes):
    """(C,) votes of all members over their target, from the counts in model.json; None where one has none."""
    counts = [info.get("predicted") or () for info in described]
    if any(len(one) != len(classes) for one in counts):
        return None
    return [sum(votes) for votes in zip(*counts)]


def load_committee(run_dirs):
    """The network and the description of several runs that vote.

    Args:
        run_dirs: run folders, the first one gives the description; a single one is `load_run`.

    Returns:
        (keras.Model: images -> {"features", "logits"}, dict of the first run's model.json, "method" naming all).

    Raises:
        UserError: as `load_run`; runs of different classes, images or inputs.
    """
    run_dirs = [str(one) for one in run_dirs]
    if len({run_folder(one).resolve() for one in run_dirs}) < len(run_dirs):  # however it is written
        raise UserError(f"Expected every run once; received {', '.join(run_dirs)}.")
    loaded = [load_run(one) for one in run_dirs]
    if len(loaded) == 1:
        return loaded[0]
    first, (network, info) = run_dirs[0], loaded[0]
    for other, (member, described) in zip(run_dirs[1:], loaded[1:]):
        if member.input_shape != network.input_shape:
            raise UserError(
                f"Expected runs that take the same input; '{first}' takes {network.input_shape[1:]}, '{other}' "
                f"{member.input_shape[1:]}."
            )
        for name in ALIKE:
            first_has, other_has = _compared(network, info, name), _compared(member, described, name)
            if first_has != other_has:
                one, another = _different(first_has, other_has)
                raise UserError(f"Expected runs of the same {name.replace('_', ' ')}; '{first}' has {_short(one)}, "
                                f"'{other}' {_short(another)}.")  # fmt: skip
    names = [str(described.get("method")) for _, described in loaded]
    standing = _standing([described for _, described in loaded], info["class_names"])
    steady = [number for number, (_, described) in enumerate(loaded) if described.get("method") == "source_only"]
    return Committee([member for member, _ in loaded], standing, steady), {**info, "method": " + ".join(names), "class_weights": None}


def _compared(network, info, name):
    """What a run has, with the size that its images are resized to where older ones hold none."""
    if name == "image_size" and info["kind"] == "images":
        return resized_to(info, network.input_shape[1:3])
    return info[name]


def _different(one, other):
    """Both values; lists from the first element on that differs, which a long list would hide."""
    if not (isinstance(one, list) and isinstance(other, list)):
        return one, other
    pairs = list(zip(one, other))
    at = next((number for number, (a, b) in enumerate(pairs) if a != b), len(pairs))
    return one[at:] or "no more", other[at:] or "no more"


def _short(value):
    text = ", ".join(value) if isinstance(value, list) and value and isinstance(value[0], str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
