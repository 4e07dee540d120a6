"""`TrainConfig`: every value that decides a run, checked, and its JSON form."""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from isra_keras.data.image_list import is_list, list_name
from isra_keras.errors import UserError

FORMAT_VERSION = 1
SMALLEST = 8
"""Pixels of a side."""
VARIANTS = ("paper", "reference")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("inverse", "cosine", "constant")
SCHEDULE_VALUES = ("gamma", "power", "period", "clamp")
DISTRIBUTIONS = ("none", "mirrored", "multi_worker")
SAMPLINGS = ("shuffle", "balanced")
SELECTIONS = ("mean_entropy", "information_maximisation", "snd", "bnm", "dev", "source_accuracy", "source_risk", "last")


@dataclass
class TrainConfig:
    """All resolved values of one run; `isra_keras.training.recipes.resolve` makes one from the few that a user gives.

    Attributes:
        dataset: name of a protocol, None for two folders.
        source, target: domain names of the dataset.
        source_dir, target_dir: folders of class folders, the target's may be flat; or lists of images.
        data_dir: where the dataset lies, None for what its protocol looks for.
        allow_incomplete: train although images of the protocol are missing.
        on_bad_image: "skip" or "error".
        data_seed: of datasets made at run time (glyphs).
        method, method_options: a key of `METHODS` and its constructor's arguments.
        semantic: whether `SemanticAlignment` joins in; its arguments are `variant` ("paper" or "reference" equations),
            `num_topics` (J >= 1), `class2vec_weight` (lambda), `alignment_weight` (eta), `receptor_l1`,
            `receptor_width` and `normalisation` ("frobenius" or "row").
        recipe: "code" or "paper": whose hyperparameters the unset values were taken from.
        backbone, weights: network and its weights: "imagenet", "none" or a file.
        freeze_backbone: train on its features, computed once (`isra_keras.training.frozen`).
        feature_dim: d, width of the bottleneck.
        batch_norm: "batch" or "fixed", the statistics that the backbone's batch normalisation trains with.
        network_options: further arguments of `build_network`, over those that the method asks for.
        precision: Keras dtype policy.
        iterations: training steps in all, over all stages.
        warmup: share of them that trains on source labels alone, before the method's own stages.
        weight_smoothing: share of the class weights that an evaluation leaves as they were.
        eval_interval: steps between evaluations.
        batch_size: rows of source and of target in a step.
        optimizer: "sgd" (`PartwiseSGD`) or "adam".
        learning_rate: of a part whose multiplier is 1, at step 0.
        schedule: {"name": "inverse", "gamma", "power", "period" (None: the stage's steps), "clamp"}, {"name": "cosine"}
            or {"name": "constant"}.
        momentum, nesterov, weight_decay: of `PartwiseSGD`.
        part_momentum: {part: momentum} where it differs.
        multipliers: {part: [learning-rate multiplier, decay multiplier]}; Adam has none.
        source_sampling: "shuffle" or "balanced".
        image_size, crop_size: pixels; None leaves images as they are.
        augment: random crops and flips.
        seed: of weights, batches, crops and dropout.
        select: label-free score that picks the model ("last": none does).
        guard: an evaluation that looks collapsed (`selection.collapse`) is not picked before a sound one; if all do,
            the model from before adaptation is, where there is one. A network from nothing is judged once its stage on source
            labels has made it right on 70 % of the source.
        reference_quirks: repeat the oddities of the authors' code. ISRA's and BA3US's: one step more, evaluation mode in
            the step of an evaluation, the stale factor n'.
        jit_compile: whole step under XLA.
        deterministic: bit-equal repetition, also on GPUs (slower there).
        distribute: "none", "mirrored" (all devices of this machine) or "multi_worker" (the workers of TF_CONFIG).
        sync_batch_norm: under several replicas, batch normalisation by the statistics of the whole batch, not of each
            replica's rows.
        keep_checkpoints: newest ones kept.
        format_version: of this description.
    """

    dataset: str | None = "glyphs"
    source: str | None = None
    target: str | None = None
    source_dir: str | None = None
    target_dir: str | None = None
    data_dir: str | None = None
    allow_incomplete: bool = False
    on_bad_image: str = "skip"
    data_seed: int = 0
    method: str = "ba3us"
    method_options: dict = field(default_factory=dict)
    semantic: bool = True
    variant: str = "reference"
    num_topics: int = 256
    class2vec_weight: float = 1.0
    alignment_weight: float = 1.0
    receptor_l1: float = 0.5
    receptor_width: int = 128
    normalisation: str = "frobenius"
    recipe: str = "code"
    backbone: str = "resnet50"
    weights: str = "imagenet"
    freeze_backbone: bool = False
    feature_dim: int = 256
    batch_norm: str = "batch"
    network_options: dict = field(default_factory=dict)
    precision: str = "float32"
    iterations: int = 5000
    warmup: float = 0.0
    weight_smoothing: float = 0.0
    eval_interval: int = 500
    batch_size: int = 36
    optimizer: str = "sgd"
    learning_rate: float = 1e-3
    schedule: dict = field(default_factory=lambda: {"name": "inverse"})
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    part_momentum: dict = field(default_factory=dict)
    multipliers: dict = field(default_factory=dict)
    source_sampling: str = "shuffle"
    image_size: int | None = 256
    crop_size: int | None = 224
    augment: bool = True
    seed: int = 0
    select: str = "mean_entropy"
    guard: bool = True
    reference_quirks: bool = False
    jit_compile: bool = False
    deterministic: bool = True
    distribute: str = "none"
    sync_batch_norm: bool = False
    keep_checkpoints: int = 2
    format_version: int = FORMAT_VERSION

    def to_json(self):
        """Text of config.json; `from_json` gives the same configuration back."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text, where="config.json"):
        """The configuration of a JSON text.

        Args:
            text: str.
            where: named in errors.

        Raises:
            UserError: broken text, unknown or impossible values, or the format of a later version.
        """
        try:
            values = json.loads(text)
            version = int(values.get("format_version", 0))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"Expected a JSON object in '{where}'; received something else ({error}).") from error
        if version > FORMAT_VERSION:
            raise UserError(
                f"Expected format_version {FORMAT_VERSION} or lower in '{where}'; received {version}: "
                "a later version of isra_keras wrote it, update this one."
            )
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UserError(f"Expected only known names in '{where}'; received {', '.join(unknown)}.")
        return cls(**values).validate()

    @classmethod
    def load(cls, path):
        """`from_json` of a file.

        Raises:
            UserError: if it can't be read.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"Expected a configuration in '{path}'; it can't be read ({error.strerror}).") from error
        except UnicodeDecodeError as error:
            raise UserError(
                f"Expected a text in '{path}'; received bytes that are no UTF-8 ({error.reason})."
            ) from error
        return cls.from_json(text, path)

    def validate(self):
        """Returns itself.

        Raises:
            UserError: names the first impossible value and the valid ones.
        """
        check_types(self)
        _check_data(self)
        _check_names(self)
        _check_numbers(self)
        _check_tables(self)
        return self

    @property
    def task_name(self):
        """ "printed-handwritten", or the names of the two folders or lists."""
        if self.source_dir:
            ends = (Path(folder).resolve() for folder in (self.source_dir, self.target_dir))
            return "-".join(list_name(end) if is_list(end) else end.name for end in ends)
        return f"{self.source}-{self.target}"


def check_types(config):
    """A number for a number, a text for a text: a configuration may come from a file.

    Raises:
        UserError: names the first value of a wrong type.
    """
    kinds = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", dict: "an object"}
    for item in fields(config):
        value, names = getattr(config, item.name), str(getattr(item.type, "__name__", item.type))
        kind = next((kind for kind in kinds if names.split(" ")[0] == kind.__name__), None)
        if kind is None or (value is None and "None" in names):
            continue
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            setattr(config, item.name, float(value))
        elif not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UserError(f"Expected {item.name} to be {kinds[kind]}; received {value!r}.")


def _check_data(config):
    if bool(config.source_dir) != bool(config.target_dir):
        raise UserError("Expected both --source-dir and --target-dir; received one of them.")
    if not config.source_dir and not config.dataset:
        raise UserError("Expected --dataset, or --source-dir and --target-dir; received neither.")
    if config.freeze_backbone and config.distribute != "none":
        raise UserError(f"Expected --distribute none with --freeze-backbone; received '{config.distribute}'.")


def _check_names(config):
    from isra_keras.methods import METHODS  # loads no method

    choices = {
        "method": tuple(METHODS),
        "variant": VARIANTS,
        "precision": PRECISIONS,
        "optimizer": OPTIMIZERS,
        "source_sampling": SAMPLINGS,
        "distribute": DISTRIBUTIONS,
        "select": SELECTIONS,
        "on_bad_image": ("skip", "error"),
        "normalisation": ("frobenius", "row"),
        "recipe": ("code", "paper"),
        "batch_norm": ("batch", "fixed"),
    }
    for name, valid in choices.items():
        if getattr(config, name) not in valid:
            option = "--" + name.replace("_", "-")
            raise UserError(f"Expected {option} to be one of {', '.join(valid)}; received {getattr(config, name)!r}.")
    schedule = config.schedule.get("name", "inverse")
    if not isinstance(schedule, str) or schedule not in SCHEDULES:
        raise UserError(f"Expected the schedule to be one of {', '.join(SCHEDULES)}; received {schedule!r}.")


def _check_numbers(config):
    """Ranges; NaN is in none of them."""
    at_least_one = ("num_topics", "receptor_width", "feature_dim", "iterations", "eval_interval", "batch_size",
                    "keep_checkpoints")  # fmt: skip
    not_negative = ("class2vec_weight", "alignment_weight", "receptor_l1", "weight_decay", "seed", "data_seed")
    for name in (*at_least_one, *not_negative):
        value, least = getattr(config, name), int(name in at_least_one)
        if not (value >= least and math.isfinite(value)):
            raise UserError(f"Expected --{name.replace('_', '-')} of at least {least}; received {value}.")
    if config.seed >= 2**32:
        raise UserError(f"Expected --seed below {2**32}; received {config.seed}.")
    if not (config.learning_rate > 0 and math.isfinite(config.learning_rate)):
        raise UserError(f"Expected --learning-rate above 0; received {config.learning_rate}.")
    for name, value in {"momentum": config.momentum, **config.part_momentum}.items():
        if not (_is_number(value) and 0 <= value < 1):
            raise UserError(f"Expected momentum of at least 0 and below 1; received {value!r} ({name}).")
    for name in ("warmup", "weight_smoothing"):
        if not 0 <= getattr(config, name) < 1:
            option = name.replace("_", "-")
            raise UserError(f"Expected --{option} of at least 0 and below 1; received {getattr(config, name)}.")
    for name in ("image_size", "crop_size"):
        value = getattr(config, name)
        if value is not None and value < SMALLEST:
            raise UserError(f"Expected --{name.replace('_', '-')} of at least {SMALLEST} pixels; received {value}.")
    if config.crop_size and config.image_size and config.crop_size > config.image_size:
        raise UserError(
            f"Expected --crop-size of at most --image-size {config.image_size}; received {config.crop_size}."
        )


def check_parts(given, optimizer):
    """Refuses what Adam would pass over in silence."""
    for name in ("multipliers", "part_momentum"):
        if optimizer == "adam" and given.get(name):
            raise UserError(f"Expected no {name} with the optimizer adam, which has one rate for all parts; received "
                            f"{given[name]}. Leave them out, or take the optimizer sgd.")  # fmt: skip


def _check_tables(config):
    for part, pair in config.multipliers.items():
        numbers = isinstance(pair, (list, tuple)) and len(pair) == 2
        if not numbers or not all(_is_number(value) and value >= 0 for value in pair):
            raise UserError(
                f"Expected multipliers of '{part}' as [learning rate, decay], both at least 0; received {pair!r}."
            )
    config.multipliers = {part: [float(value) for value in pair] for part, pair in config.multipliers.items()}
    for name, value in config.schedule.items():
        if name not in ("name", *SCHEDULE_VALUES):
            raise UserError(f"Expected a schedule of name, {', '.join(SCHEDULE_VALUES)}; received {name!r}.")
        if name != "name" and not (_is_number(value) or value is None and name in ("period", "clamp")):
            raise UserError(f"Expected {name} of the schedule to be a number; received {value!r}.")
        if name in ("gamma", "clamp", "period") and value is not None and not (value > 0 or value == 0 and name != "period"):
            least = "above 0" if name == "period" else "of at least 0"
            raise UserError(f"Expected {name} of the schedule {least}; received {value!r}.")


def _is_number(value):
    """Whether it is a finite number, and neither true nor false."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
