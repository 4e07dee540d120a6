"""From a configuration to a compiled `AdaptationModel`."""

import inspect
import math
from numbers import Real

import keras

from isra_keras.backbones import build_network, check_backbone
from isra_keras.backbones.weights import find_file
from isra_keras.errors import UserError
from isra_keras.methods import get_method
from isra_keras.model import AdaptationModel
from isra_keras.semantic import SemanticAlignment
from isra_keras.training.optimizer import PartwiseSGD
from isra_keras.training.part_momentum import PartMomentumSGD
from isra_keras.training.schedules import InverseDecay

FEATURE_ROWS = 1024


def build_model(config, task, model_class=AdaptationModel):
    """Network, method, plug-in and optimiser of a run, compiled for the method's first stage.

    Args:
        config: `TrainConfig`.
        task: `Task`, for the number of classes, the shape of a sample and the sizes of both domains.
        model_class: `AdaptationModel` or a subclass.

    Returns:
        `AdaptationModel`.

    Raises:
        UserError: weights that can't be had, a method option that does not exist, a backbone that the data don't fit.
    """
    method = build_method(config)
    frozen = config.freeze_backbone  # the task then has features
    network = build_network(
        "features" if frozen else config.backbone, len(task.class_names), config.feature_dim,
        sample_shape(config, task), "none" if frozen else config.weights, seed=config.seed,
        batch_norm=config.batch_norm, **network_options(config, method),
    )  # fmt: skip
    model = model_class(
        network, method, build_semantic(config), max_iterations=config.iterations,
        eval_interval=config.eval_interval, seed=config.seed,
        sizes=task_sizes(task),
        warmup=config.warmup, weight_smoothing=config.weight_smoothing,
    )  # fmt: skip
    steps = stage_lengths(config.iterations, model.stages())[0]
    model.compile(make_optimizer(config, steps), jit_compile=config.jit_compile)
    return model


def check_parts(config):
    """Checks what a configuration names without building it: backbone, file of weights, options of the method.

    Raises:
        UserError: lists what there is.
    """
    check_backbone(config.backbone)
    if str(config.weights).lower() not in ("imagenet", "none"):
        find_file(config.weights)
    build_method(config)


def network_options(config, method=None):
    """Arguments of `build_network` that the method asks for, and over them those of the configuration."""
    return dict((method or build_method(config)).network_options) | config.network_options


def task_sizes(task):
    """{"source": N_s, "target": N_t}."""
    return {"source": len(task.source), "target": len(task.target)}


def build_method(config):
    """The method's object.

    Raises:
        UserError: an option that it does not have, or a value that it refuses.
    """
    cls = get_method(config.method)
    valid = _defaults(cls)
    unknown = sorted(set(config.method_options) - set(valid))
    if unknown:
        raise UserError(f"Expected --option of {config.method} to be one of {', '.join(valid)}; received {unknown[0]!r}.")
    options = dict(config.method_options)
    if "reference_quirks" in valid:
        options.setdefault("reference_quirks", config.reference_quirks)
    if "seed" in valid:
        options.setdefault("seed", config.seed)
    _check_values(config.method_options, valid)
    try:
        method = cls(**options)
        method.stages()  # refuses shares that are none
        return method
    except (TypeError, ValueError) as error:
        raise UserError(f"Expected options that {config.method} takes; received {config.method_options}: {error}") from error


def build_semantic(config):
    """`SemanticAlignment`, or None."""
    if not config.semantic:
        return None
    return SemanticAlignment(
        config.num_topics, config.class2vec_weight, config.alignment_weight, config.receptor_l1, config.receptor_width,
        variant=config.variant, normalisation=config.normalisation, reference_quirks=config.reference_quirks,
    )  # fmt: skip


def make_optimizer(config, steps):
    """The optimiser of a stage.

    Args:
        config: `TrainConfig`.
        steps: of the stage.
    """
    rate = make_schedule(config, steps)
    if config.optimizer == "adam":
        decay = config.weight_decay or None
        return keras.optimizers.Adam(rate, weight_decay=decay)
    options = {
        "momentum": config.momentum,
        "nesterov": config.nesterov,
        "weight_decay": config.weight_decay,
        "multipliers": config.multipliers,
    }
    if config.part_momentum:
        return PartMomentumSGD(rate, part_momentum=config.part_momentum, **options)
    return PartwiseSGD(rate, **options)


def make_schedule(config, steps):
    """Learning rate (float) or schedule of a stage of so many steps."""
    values = {"name": "inverse"} | config.schedule
    name = values.pop("name")
    if name == "constant":
        return config.learning_rate
    if name == "cosine":
        return keras.optimizers.schedules.CosineDecay(config.learning_rate, max(steps, 1))
    if "period" in values and values["period"] is None:
        values["period"] = float(max(steps, 1))
    return InverseDecay(config.learning_rate, **values)


def stage_lengths(iterations, stages):
    """Steps of each stage; they add up to `iterations`, each stage has at least one.

    Raises:
        UserError: fewer steps than stages.
    """
    if iterations < len(stages):
        raise UserError(f"Expected --iterations of at least {len(stages)}, the method's stages; received {iterations}.")
    lengths = [max(round(iterations * stage.share), 1) for stage in stages]
    lengths[-1] = max(iterations - sum(lengths[:-1]), 1)
    while sum(lengths) > iterations:
        lengths[lengths.index(max(lengths))] -= 1
    return lengths


def evaluation_rows(config, task):
    """Rows of a batch of an evaluation: features take little memory, and few large batches less time than many."""
    return max(FEATURE_ROWS if task.kind == "features" else 0, 2 * config.batch_size)


def sample_shape(config, task):
    """(height, width, 3) or (p,) of what the network receives.

    Raises:
        UserError: features for a backbone of images, or the reverse.
    """
    if (task.kind == "features") != (config.backbone == "features" or config.freeze_backbone):
        wish = "features" if task.kind == "features" else "one for images"
        raise UserError(f"Expected --backbone {wish} for the {task.kind} of '{task.name}'; received '{config.backbone}'.")
    if task.kind == "features":
        return (int(task.source.arrays.shape[1]),)
    size = config.crop_size or config.image_size or task.image_size
    if size is None:
        raise UserError("Expected --image-size and --crop-size for images of any size; received none.")
    return (int(size), int(size), 3)


def _defaults(cls):
    """{name: default} of a constructor's own arguments."""
    return {name: item.default for name, item in inspect.signature(cls.__init__).parameters.items()
            if name != "self" and item.kind == item.POSITIONAL_OR_KEYWORD}  # fmt: skip


def _check_values(options, defaults):
    """Refuses values that would be used at the first evaluation only, train to NaN, or fail deep within a layer.

    By the names that methods share, and else by the kind of the default.
    """
    for name, value in options.items():
        default = defaults[name]
        whole = isinstance(value, int) and not isinstance(value, bool)
        number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if value is None and default is None:
            continue
        if name in ("temperature", "ramp_iterations"):
            good, kind = number and value > 0, "a number above 0"
        elif name.endswith("_width"):
            good, kind = whole and value > 0, "a whole number above 0"
        elif name == "dropout":
            good, kind = number and 0 <= value < 1, "a share in [0, 1)"
        elif isinstance(default, bool):
            good, kind = isinstance(value, bool), "true or false"
        elif isinstance(default, Real):
            good, kind = number, "a number"
        else:
            continue
        if not good:
            raise UserError(f"Expected --option {name} as {kind}; received {value!r}. Its default is {default!r}.")
