"""What a search optimises: a label-free score, or by name the accuracy that nobody without target labels knows."""

from dataclasses import dataclass

from isra_keras.errors import UserError

PREFIX = "sel:"
ORACLE = "oracle:accuracy"
DEFAULT = "sel:mean_entropy"


@dataclass(frozen=True)
class SearchObjective:
    """A name, a direction, and the score by which each run picks its evaluation.

    Attributes:
        name: "sel:<score>" or "oracle:accuracy".
        direction: "min" or "max".
        select: `TrainConfig.select` of every run; None leaves it as it is (the oracle judges runs that chose their
            evaluation without labels).
        is_oracle: whether it looks at target labels.
    """

    name: str
    direction: str
    select: str | None
    is_oracle: bool

    @property
    def title(self):
        """For people: "mean entropy (min)", "accuracy (ORACLE: target labels)"."""
        if self.is_oracle:
            return "accuracy (ORACLE: target labels)"
        return f"{self.name.removeprefix(PREFIX).replace('_', ' ')} ({self.direction})"


def parse_objective(name):
    """`SearchObjective` of "sel:snd", "snd", "oracle" or "oracle:accuracy".

    Raises:
        UserError: unknown name (lists the valid ones).
    """
    from isra_keras.selection import SCORES

    if name in ("oracle", ORACLE):
        return SearchObjective(ORACLE, "max", None, True)
    score = name.removeprefix(PREFIX)
    if score not in SCORES:
        valid = ", ".join(PREFIX + key for key in SCORES)
        raise UserError(f"Expected --objective to be one of {valid}, or oracle; received '{name}'.")
    return SearchObjective(PREFIX + score, SCORES[score][1], score, False)


def objective(name=DEFAULT):
    """The `keras_tuner.Objective` of a name, for a tuner of one's own; KerasTuner can't guess the direction.

    Args:
        name: "sel:<score>" with a name of `isra_keras.SCORES`, or "oracle".

    Raises:
        UserError: unknown name.
    """
    import keras_tuner

    parsed = parse_objective(name)
    return keras_tuner.Objective(parsed.name, parsed.direction)


def metrics_of(scores, accuracy):
    """{metric name: float} of the scores and the accuracy (None without labels) of an evaluation."""
    values = {PREFIX + name: float(value) for name, value in scores.items() if value is not None}
    if accuracy is not None:
        values[ORACLE] = float(accuracy)
    return values
