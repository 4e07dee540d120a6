"""The search space as plain data, derived from the recipe of the base configuration; loads neither Keras nor KerasTuner.

What is not searched comes from the recipe, and what the user gives by hand is never searched.
"""

from dataclasses import asdict, dataclass

from isra_keras.errors import UserError

WEIGHTS = ("class2vec_weight", "alignment_weight")
SEMANTIC = (*WEIGHTS, "num_topics")
"""Searched by default where the plug-in is on: lambda, eta and the number of topics (d_e)."""
PLAIN = ("learning_rate", "backbone_multiplier")
"""Searched by default where it is off."""
NEEDS_SEMANTIC = (*SEMANTIC, "receptor_l1", "receptor_width", "variant")
NAMES = (*NEEDS_SEMANTIC, "feature_dim", "learning_rate", "backbone_multiplier")
REACH = 30.0
"""lambda and eta are searched over the recipe's value divided and multiplied by this."""
TOPICS = (8, 16, 32, 64, 128, 256)
WIDTHS = (32, 64, 128, 256)
DIMENSIONS = (64, 128, 256, 512)
L1_RANGE = (1e-5, 1.0)


@dataclass(frozen=True)
class Parameter:
    """One dimension: log-uniform between `low` and `high`, or one of `values`.

    Attributes:
        name: of `NAMES`.
        default: the recipe's value, always inside.
        low, high: floats of a log-uniform dimension, None otherwise.
        values: tuple of the choices in order, None for a log-uniform dimension.
    """

    name: str
    default: float | int | str
    low: float | None = None
    high: float | None = None
    values: tuple | None = None

    def declare(self, hp, grid=False):
        """Registers itself with KerasTuner's `HyperParameters` and returns the current value.

        Args:
            hp: `keras_tuner.HyperParameters`.
            grid: offer a few values instead of the continuous range, as a grid search needs.
        """
        if self.values is None and not grid:
            return hp.Float(self.name, self.low, self.high, sampling="log", default=self.default)
        values = self.values or self.grid_values()
        ordered = None if isinstance(values[0], str) else True
        return hp.Choice(self.name, list(values), default=self.default, ordered=ordered)

    def grid_values(self, points=5):
        """Log-spaced values from low to high; the one nearest to the default is replaced by it."""
        ratio = (self.high / self.low) ** (1 / (points - 1))
        values = [float(f"{self.low * ratio**k:.6g}") for k in range(points)]
        nearest = min(range(points), key=lambda k: abs(values[k] / self.default - 1))
        values[nearest] = self.default
        return tuple(sorted(set(values)))

    def text(self, grid=False):
        """ "0.0003 … 0.3 (log)" or "8, 16, 32", which a grid tries."""
        values = self.grid_values() if grid and self.values is None else self.values
        if values is not None:
            return ", ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in values)
        return f"{self.low:.3g} … {self.high:.3g} (log)"


def make_space(config, names=None, also=(), fixed=()):
    """The dimensions of a search.

    Args:
        config: `TrainConfig`, the base: its values are the defaults and the middle of the ranges.
        names: what to search; None for the three numbers of the plug-in, or rate and multiplier where it is off.
        also: searched beside them.
        fixed: names that the user gave by hand; left out of those three or two.

    Returns:
        tuple of `Parameter`.

    Raises:
        UserError: unknown names, dimensions without effect (of a plug-in that is off, of a backbone that learns
            nothing of its own), names to search that were given by hand too, nothing left to search, a weight of 0 to search
            around, a variant beside weights that were given by hand for one of the two, or a base that is distributed.
    """
    if config.distribute != "none" or config.sync_batch_norm:
        asked = "--sync-batch-norm" if config.distribute == "none" else f"'{config.distribute}'"
        raise UserError(
            f"Expected --distribute none in a search, whose trials take one device each; received {asked}. Spread the "
            "trials instead: --local-workers N, or tuning/cluster.md."
        )
    wanted = list(names if names is not None else SEMANTIC if config.semantic else PLAIN)
    inert = _no_multiplier(config)
    if names is None and inert:
        wanted = [name for name in wanted if name != "backbone_multiplier"]
    wanted += [name for name in also if name not in wanted]
    for name in wanted:
        if name not in NAMES:
            raise UserError(f"Expected names to search of {', '.join(NAMES)}; received '{name}'.")
        if name in NEEDS_SEMANTIC and not config.semantic:
            raise UserError(f"Expected --semantic to search '{name}', which belongs to the plug-in; it is off.")
        if name == "backbone_multiplier" and inert:
            raise UserError(f"Expected names that have an effect; 'backbone_multiplier' has none: {inert}. Leave it out.")
        if name in fixed and name in (*(names or ()), *also):
            raise UserError(f"Expected '{name}' to be searched or given by hand; received both. Leave one of them out.")
    by_hand = [name for name in wanted if name in fixed]
    wanted = [name for name in NAMES if name in wanted and name not in fixed]
    if not wanted:
        raise UserError(f"Expected something to search; all of it was given by hand ({', '.join(by_hand)}).")
    given = [name for name in WEIGHTS if name in fixed]
    if "variant" in wanted and given:
        raise UserError(
            f"Expected weights of the recipe where the variant is searched, as the two have other scales; received "
            f"{' and '.join(given)} by hand. Leave 'variant' or the weights out."
        )
    return tuple(_parameter(name, config, "variant" in wanted) for name in wanted)


def _no_multiplier(config):
    """Why a backbone's rate can't be changed, "" where it can."""
    if config.backbone == "features" or config.freeze_backbone:
        return "frozen features have no backbone that could learn"
    if config.optimizer == "adam":
        return f"Adam, with which {config.method} trains here, has one rate for all parts"
    return ""


def describe(space):
    """{name: JSON values} of a space, to be compared with that of another search."""
    rows = {item.name: {k: v for k, v in asdict(item).items() if k != "name" and v is not None} for item in space}
    return {name: {k: list(v) if isinstance(v, tuple) else v for k, v in row.items()} for name, row in rows.items()}


def grid_text(space, trials):
    """The sentence on a grid of more combinations than trials, which tries the first ones; "" where it has no more.

    Args:
        space: tuple of `Parameter`; KerasTuner varies the last one fastest, and each from its default.
        trials: int.
    """
    size, still = 1, []
    for item in reversed(space):
        if size >= trials:
            still.insert(0, item.name)
        size *= len(item.values or item.grid_values())
    if size <= trials:
        return ""
    same = f": {' and '.join(still)} {'stay' if len(still) > 1 else 'stays'} as in the recipe" if still else ""
    return (f"the grid has {size} combinations, and --max-trials {trials} tries the first {trials} of them{same}. "
            f"--max-trials {size} tries all, --search NAME makes a smaller one.")  # fmt: skip


def apply(config, values):
    """The configuration with a trial's values; the recipe's other values stay those of the base, lambda and eta converted
    where the variant is another one.

    Args:
        config: `TrainConfig`; not changed.
        values: {name of `NAMES`: value}; other names, such as Hyperband's own, are passed over.

    Returns:
        a new `TrainConfig`.
    """
    from isra_keras.training.config import TrainConfig

    fresh = TrainConfig(**asdict(config))
    for name, value in values.items():
        if name == "backbone_multiplier":
            decay = fresh.multipliers.get("backbone", (1.0, 1.0))[1]
            fresh.multipliers = fresh.multipliers | {"backbone": [float(value), decay]}
        elif name in NAMES:
            setattr(fresh, name, value)
    for name in WEIGHTS:
        if fresh.variant != config.variant and name not in values:
            setattr(fresh, name, converted(name, getattr(fresh, name), _width(fresh), fresh.variant))
    return fresh.validate()


def _width(config):
    from isra_keras.training.recipes import aligned_width

    return aligned_width(config.method, "features" if config.freeze_backbone else config.backbone, config.feature_dim)


def converted(name, value, feature_dim, variant):
    """A weight of `WEIGHTS`, of the other variant, as it weighs alike in this one; `feature_dim` is of what is aligned.

    L_c2v = 2 d rc and L_a = (d/4) align at equal batches: both of the reference's weights are the larger ones.
    """
    factor = 2 * feature_dim if name == "class2vec_weight" else feature_dim / 4
    return value * factor if variant == "reference" else value / factor


def _parameter(name, config, both_variants):
    if name in WEIGHTS:
        return _weight(name, config, both_variants)
    if name == "backbone_multiplier":
        value = _above_zero(name, config.multipliers.get("backbone", (1.0, 1.0))[0])
        return Parameter(name, value, value / 10, value * 10)
    value = getattr(config, name)
    if name == "learning_rate":
        return Parameter(name, value, value / 10, value * 10)
    if name == "receptor_l1":
        value = value if value > 0 else L1_RANGE[0]
        return Parameter(name, value, min(L1_RANGE[0], value), max(L1_RANGE[1], value))
    if name == "variant":
        return Parameter(name, value, values=("paper", "reference"))
    choices = {"num_topics": TOPICS, "receptor_width": WIDTHS, "feature_dim": DIMENSIONS}[name]
    return Parameter(name, value, values=tuple(sorted({*choices, value})))


def _above_zero(name, value):
    """The value, of which a log-uniform range is made."""
    if value > 0:
        return value
    raise UserError(f"Expected {name} above 0 to search around it; received {value:g}. Leave it out of the search, or start from "
                    "another value.")  # fmt: skip


def _weight(name, config, both_variants):
    """lambda or eta; where the variant is searched too, the range covers the scales of both."""
    value = _above_zero(name, getattr(config, name))
    scales = [value]
    if both_variants:
        other = "paper" if config.variant == "reference" else "reference"
        scales.append(converted(name, value, _width(config), other))
    return Parameter(name, value, min(scales) / REACH, max(scales) * REACH)
