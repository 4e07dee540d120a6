"""Recipes: what a dataset, a method and the plug-in are trained with where the user says nothing. Data, hardly any code.

Where the numbers of the paper and of the authors' code differ, `recipe="code"` (what produced the published tables)
and `recipe="paper"` (what the text says) both exist. A later layer overrides an earlier one:

    SGD -> the dataset's -> the method's own paper (class attribute `recipes`) -> what was tuned on the dataset
    -> the plug-in's -> the user's

A method's recipe for this very dataset counts in full. Its "default" (there is none for the dataset) gives the form
of its training (optimiser, schedule, multipliers, options); how long and in which batches stays the dataset's, with
evaluations as often in proportion as the method needs them.
"""

import copy
import importlib
from dataclasses import fields

from isra_keras.data.paths import whole_paths
from isra_keras.errors import UserError, did_you_mean
from isra_keras.training.config import SMALLEST, TrainConfig, check_parts, check_types

INVERSE = {"name": "inverse", "gamma": 1e-3, "power": 0.75, "period": 1.0, "clamp": None}

SGD = {
    "optimizer": "sgd",
    "learning_rate": 1e-3,
    "schedule": INVERSE,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "multipliers": {"backbone": (1.0, 2.0), "bottleneck": (10.0, 2.0), "classifier": (10.0, 2.0)},
    "batch_size": 36,
    "source_sampling": "shuffle",
}
"""The optimiser of BA3US and ISRA, from their official code."""

BN = {"network_options": {"bottleneck": "bn"}}
FROM_NOTHING = dict.fromkeys(("pada", "iwan"), {"learning_rate": 1e-3}) | dict.fromkeys(("drcn", "dann"), BN) | {
    "san": BN | {"learning_rate": 1e-3}, "etn": BN | {"learning_rate": 3e-4}, "mwpda": BN | {"learning_rate": 3.3e-4},
    "a2kt": {"learning_rate": 3.3e-4},
    "slm": BN | {"learning_rate": 3.3e-4, "warmup": 0.25, "multipliers": {
        "bottleneck": (10.0, 1.0), "classifier": (10.0, 1.0), "discriminator": (10.0, 1.0), "selector": (100.0, 2.0)}},
}  # fmt: skip
"""For a network from nothing: at their papers' fine-tuning rates some hardly learn the source, and with a linear bottleneck DRCN
and MWPDA end in NaN. Chosen without labels of three trials for each method (benchmarks/results/glyphs_tuning.md; four for those
two, glyphs_rates.md before), but for BA3US, which keeps what tuning/results/sweep.md has."""
PHOTOS = {"backbone": "resnet50", "weights": "imagenet", "image_size": 256, "crop_size": 224, "feature_dim": 256}
GENTLE = {"warmup": 0.2, "weight_smoothing": 0.5}
"""For data that no paper gives a recipe for: class weights that start in a warm-up, smoothed over its evaluations, and move
slowly. On PACS features BA3US otherwise runs away to classes that the target lacks."""

TUNED_ON_PACS = {
    "source_only": {"learning_rate": 3e-3},
    "dann": BN | {"learning_rate": 3e-3},
    "cdan": BN | {"learning_rate": 3e-3},
    "iwan": BN,
    "san": {"learning_rate": 1e-3},
    "pada": {"learning_rate": 1e-3},
    "mwpda": BN,
    "etn": BN | {"learning_rate": 3e-4},
    "drcn": BN,
    "afn": {"learning_rate": 3e-3},
    "ba3us": BN,
    "slm": BN | {"learning_rate": 1.5e-3},
    "a2kt": BN,
}
"""Frozen features are no paper's setting, and PACS is a wide shift. Six trials for every method, chosen without labels
by `benchmarks/equal_tuning.py` (benchmarks/results/pacs_tuning.md). A bottleneck that ends in batch normalisation keeps
the features bounded: without it gradient reversal blows them up, class weights run to one class, and MWPDA to NaN. On
Office-Caltech10 features, whose domains are near, it helps two of four methods and costs the others as much
(benchmarks/grids/office_caltech10_bottleneck.toml): they keep their methods' own settings, but for MWPDA, whose linear one
ended in NaN there as well (benchmarks/results/office_caltech10_mwpda.md)."""

AS_THEY_ARE = {"image_size": None, "crop_size": None, "augment": False}
FEATURES = GENTLE | AS_THEY_ARE | {
    "backbone": "features",
    "weights": "none",
    "feature_dim": 256,
    "iterations": 600,
    "eval_interval": 60,
    "semantic_options": {"num_topics": 32},
}

DATASETS = {
    "glyphs": AS_THEY_ARE
    | {
        "backbone": "small_cnn",
        "weights": "none",
        "feature_dim": 128,
        "iterations": 2000,
        # From scratch, the first class weights would come from an untrained classifier and pick classes at random; photographed
        # characters are learned slowly (benchmarks/results/glyphs_warmup.md).
        "warmup": 0.25,
        "tasks": {"Ph-Pr": {"warmup": 0.75}, "Ph-Ha": {"warmup": 0.75}},
        "eval_interval": 200,
        "variant": "paper",
        # lambda and eta: the best of their curves; 8 to 128 topics differ by less than the seeds do:
        # tuning/results/sweep.md.
        "semantic_options": {"num_topics": 32, "receptor_width": 64},
        "semantic_paper": {"class2vec_weight": 0.01, "alignment_weight": 0.01},
        "tuned": FROM_NOTHING,
    },
    "office_home": PHOTOS
    | {
        "iterations": 5000,
        "eval_interval": 500,
        # ISRA trains 8,000 iterations on 512-d features (the authors' script).
        "semantic_dataset": {"iterations": 8000, "feature_dim": 512},
        "semantic_options": {"num_topics": 256},
    },
    "office31": PHOTOS
    | {
        "learning_rate": 1e-4,
        "iterations": 2000,
        "eval_interval": 200,
        "ba3us_options": {"complement_weight": 5.0},
        "semantic_dataset": {"iterations": 4000},
        "semantic_options": {"num_topics": 64, "class2vec_weight": 0.1, "alignment_weight": 0.5},
    },
    "imagenet_caltech": PHOTOS
    | {
        "iterations": 40000,
        "eval_interval": 4000,
        "semantic_options": {"num_topics": 64},
        "semantic_paper_options": {"num_topics": 16},
        "semantic_tasks": {"C-I": {"feature_dim": 2048}},
    },
    "office_caltech10": PHOTOS
    | GENTLE
    | {
        "backbone": "mobilenet_v2",
        "batch_norm": "fixed",
        "learning_rate": 1e-4,  # as on Office-31; ten times as much unlearns MobileNetV2
        "iterations": 400,
        "eval_interval": 50,
        "semantic_options": {"num_topics": 32},
    },
    # The alignment's weight: six trials, chosen without labels (benchmarks/results/office_caltech10_isra_tuning.md).
    "office_caltech10_features": FEATURES | {"semantic_options": {"num_topics": 32, "alignment_weight": 0.01}, "tuned": {"mwpda": BN}},
    # With ISRA linear ones end in batch normalisation: on features without bounds class2vec turns NaN at the tuned rates
    # (benchmarks/results/pacs_isra_linear). Its weight: six trials, too (benchmarks/results/pacs_isra_tuning.md), and
    # the curve of eta in tuning/results/sweep.md, measured around 1.
    "pacs_features": FEATURES
    | {
        "tuned": TUNED_ON_PACS,
        "semantic_tuned": BN,
        "semantic_options": {"num_topics": 32, "alignment_weight": 0.1},
    },
    "folders": PHOTOS
    | GENTLE
    | {
        "backbone": "mobilenet_v2",
        "batch_norm": "fixed",
        "learning_rate": 1e-4,  # as on Office-31; ten times as much unlearns MobileNetV2
        "iterations": 2000,
        "eval_interval": 200,
        "semantic_options": {"num_topics": 64},
    },
}
"""What the paper, or we, train a dataset with. "folders" are two folders of a user's own."""

SEMANTIC = {
    "num_topics": 64,
    "class2vec_weight": 1.0,  # lambda and eta in the scale of the authors' code, whose losses are means
    "alignment_weight": 1.0,
    # Starves the receptors, and no other value aligns better: tuning/results/sweep.md. 0.1 is for topics to look at.
    "receptor_l1": 0.5,
    "receptor_width": 128,
    "normalisation": "frobenius",
}
SEMANTIC_MULTIPLIERS = {"class2vec": (10.0, 2.0), "receptors": (1.0, 10.0)}

PAPER_RATE = 1e-4
"""The text gives 1e-3 for the new layers of all its data sets and a tenth of it for the backbone; the code has ten times
both, but on Office-31."""

BUDGET = ("iterations", "eval_interval", "batch_size")
DEFAULT_VARIANT = "reference"
MAX_EVALUATIONS = 70  # bound on what a method's default may ask of a dataset that it has no recipe for


def recipe(dataset, method, semantic=True, variant=None, task=None, source="code", feature_dim=None,
           method_variant=None, backbone=None, optimizer=None):  # fmt: skip
    """Values for `TrainConfig`, by name, for everything that a recipe decides.

    Args:
        dataset: key of `DATASETS`, or None for a user's own folders.
        method: key of `isra_keras.methods.METHODS`.
        semantic: whether the plug-in joins in.
        variant: "paper", "reference" or None for the dataset's.
        task: short name such as "Ar-Cl", for recipes that differ between tasks.
        source: "code" or "paper", whose hyperparameters.
        feature_dim: width that the user asked for; the paper's weights depend on it.
        method_variant: the method's option "variant", if it is given: "tllib" of PADA has a recipe of its own.
        backbone: the one that the user asked for, "features" where it is frozen: ISRA on SHOT aligns its features.
        optimizer: the one that the user asked for; Adam takes no multipliers.

    Returns:
        dict.

    Raises:
        UserError: unknown dataset or method.
    """
    from isra_keras.methods import get_method

    data = _dataset(dataset)
    cls = get_method(method)
    values = SGD | {k: v for k, v in data.items() if not _is_nested(k)}
    if semantic:
        values |= data.get("semantic_dataset", {}) | data.get("semantic_tasks", {}).get(task, {})
    own = getattr(cls, "recipes", {})
    values, options, network = _with_method(values, own, dataset, task, method_variant)
    if cls.starts_on_source:
        values.pop("warmup", None)
    values["method_options"] = data.get(f"{method}_options", {}) | options
    values["network_options"] = network
    if source == "paper" and values["optimizer"] == "sgd" and not own:
        values["learning_rate"] = PAPER_RATE
    tuned = data.get("tuned", {}).get(method, {})
    if semantic and _is_unbounded(tuned.get("network_options", {}) or network or cls.network_options):
        tuned = tuned | data.get("semantic_tuned", {})
    values["network_options"] = values["network_options"] | tuned.get("network_options", {})
    values |= {name: value for name, value in tuned.items() if name != "network_options"}
    values |= {name: value for name, value in data.get("tasks", {}).get(task, {}).items() if name in values}
    values |= _of_parts(values, cls, semantic, optimizer or values["optimizer"])
    values |= {"variant": variant or data.get("variant", DEFAULT_VARIANT), "feature_dim": feature_dim or values["feature_dim"]}
    width = aligned_width(method, backbone or values["backbone"], values["feature_dim"])
    return values | _semantic_values(data, values["variant"], source, width)


def resolve(**given):
    """The complete configuration of a run from the values that a user gave; None means "not given".

    Args:
        **given: values of `TrainConfig` by name; paths as str or `os.PathLike`.

    Returns:
        `TrainConfig`, checked; the paths of data are absolute.

    Raises:
        UserError: unknown names (lists the valid ones), values of a wrong type, impossible values.

    Example:
        >>> resolve(dataset="office_home", source="Ar", target="Cl", num_topics=64).iterations
        8000
    """
    from isra_keras.data.tasks import task_name

    given = whole_paths({name: value for name, value in given.items() if value is not None})
    _check_names_and_types(given)
    given = _canonical(given)
    names = ("method", "variant", "recipe", "dataset", "source", "target", "source_dir", "target_dir")
    TrainConfig(**{name: given[name] for name in names if name in given}).validate()
    dataset = given["dataset"]
    task = task_name(dataset, given["source"], given["target"]) if dataset else None
    values = recipe(
        dataset, given.get("method", TrainConfig.method), given.get("semantic", TrainConfig.semantic),
        given.get("variant"), task, given.get("recipe", TrainConfig.recipe), given.get("feature_dim"),
        given.get("method_options", {}).get("variant"),
        "features" if given.get("freeze_backbone") else given.get("backbone"), given.get("optimizer"),
    )  # fmt: skip
    check_parts(given, given.get("optimizer", values["optimizer"]))
    if "name" not in given.get("schedule", {"name": ""}) and values["schedule"]["name"] == "inverse":
        given["schedule"] = values["schedule"] | given["schedule"]
    if "iterations" in given and "eval_interval" not in given:  # a shortened run keeps its number of evaluations
        share = given["iterations"] / values["iterations"]
        given["eval_interval"] = max(1, round(values["eval_interval"] * share)) if share < 1 else values["eval_interval"]
    given = _other_size(given, values)
    asked = given.get("multipliers", {})
    given |= {k: values.get(k, {}) | given.get(k, {}) for k in ("method_options", "network_options", "multipliers")}
    if is_fresh(given.get("backbone", values["backbone"]), given.get("weights", values["weights"])):
        given["multipliers"] = _fresh_backbone(given["multipliers"]) | asked
        given.setdefault("batch_norm", "batch")  # fresh weights have no statistics yet
    if given.get("backbone") == "features" or given.get("freeze_backbone"):
        given = {"augment": False} | given
    if given.get("backbone") == "features":
        given = {"image_size": None, "crop_size": None, "augment": False} | given
    values |= given
    if values["backbone"] == "small_cnn" and values["weights"] == "imagenet":
        values["weights"] = "none"  # there are none for it, whatever the recipe of the data set takes
    return TrainConfig(**copy.deepcopy(values)).validate()  # recipes are shared, configurations are not


def _check_names_and_types(given):
    valid = [item.name for item in fields(TrainConfig)]
    for name in given:
        if name not in valid:
            raise UserError(f"Expected names of {', '.join(valid)}; received {name!r}." + did_you_mean(name, valid))
    check_types(TrainConfig(**given))


def _other_size(given, values):
    """Where only one of the two sizes is given and the recipe's other does not go with it, that one keeps its share."""
    image, crop = values.get("image_size"), values.get("crop_size")
    if not image or not crop:
        return given
    wanted_image, wanted_crop = given.get("image_size"), given.get("crop_size")
    if wanted_image and not wanted_crop and crop > wanted_image > 0:
        return given | {"crop_size": max(min(SMALLEST, wanted_image), round(wanted_image * crop / image))}
    if wanted_crop and not wanted_image and wanted_crop > image:
        return given | {"image_size": round(wanted_crop * image / crop)}
    return given


def _canonical(given):
    """The same values with full names of dataset and domains, the dataset's defaults where there are none."""
    from isra_keras.data.tasks import protocol_of, resolve_domain

    if given.get("source_dir") or given.get("target_dir"):
        return given | {"dataset": None}
    protocol = protocol_of(given.get("dataset", TrainConfig.dataset))
    pair = [resolve_domain(protocol.name, given.get(side) or default)
            for side, default in zip(("source", "target"), protocol.default)]  # fmt: skip
    if pair[0] == pair[1]:
        raise UserError(f"Expected two different domains; received '{pair[0]}' twice. Name --source and --target.")
    return given | {"dataset": protocol.name, "source": pair[0], "target": pair[1]}


def _dataset(name):
    key = "folders" if name is None else str(name).lower().replace("-", "_")
    if key not in DATASETS or key == "folders" and name is not None:
        valid = ", ".join(k for k in DATASETS if k != "folders")
        raise UserError(f"Expected --dataset to be one of {valid}; received {name!r}." + did_you_mean(name, DATASETS))
    return DATASETS[key]


def _is_unbounded(network_options):
    """Whether a bottleneck ends without batch normalisation."""
    return network_options.get("bottleneck", "linear") in ("linear", "none")


def _is_nested(name):
    return name.startswith("semantic_") or name.endswith("_options") or name in ("tuned", "tasks")


def _with_method(values, recipes, dataset, task, variant=None):
    """(values with the method's own, its options, its network options); a variant may have its own for the papers' data sets."""
    exact = recipes.get(variant if dataset in recipes and variant in recipes else dataset)
    own = dict(exact if exact is not None else recipes.get("default", {}))
    own |= own.pop("tasks", {}).get(task, {})
    options, network = own.pop("options", {}), own.pop("network_options", {})
    if exact is None:
        _fit_to_dataset(own, values)
    if "schedule" in own:
        own["schedule"] = {"name": "inverse"} | own["schedule"]
    return values | own, dict(options), dict(network)


def _fit_to_dataset(own, values):
    """Takes the budget out of a method's default and keeps its share of evaluations."""
    share = own.get("eval_interval", 1) / own.get("iterations", 1) if "iterations" in own else None
    for name in BUDGET:
        own.pop(name, None)
    if share is not None:
        wished = round(values["iterations"] * max(share, 1 / MAX_EVALUATIONS))
        own["eval_interval"] = max(1, min(values["eval_interval"], wished))


def _of_parts(values, cls, semantic, optimizer):
    """Multipliers and momenta of the parts; Adam has one rate for all."""
    if optimizer == "adam":
        return {"multipliers": {}, "part_momentum": {}}
    return {"multipliers": SGD["multipliers"] | cls.multipliers | values["multipliers"] | (SEMANTIC_MULTIPLIERS if semantic else {})}


def is_fresh(backbone, weights):
    """Whether the backbone starts from random weights."""
    return backbone == "small_cnn" and weights in ("none", "imagenet") or weights == "none"


def _fresh_backbone(multipliers):
    """A backbone that starts from scratch learns as fast as the other new layers."""
    known = {"backbone", "classifier"} <= set(multipliers)
    return multipliers | ({"backbone": (multipliers["classifier"][0], multipliers["backbone"][1])} if known else {})


def aligned_width(method, backbone, feature_dim):
    """Width of the features that ISRA aligns on a method; `backbone` is "features" where it is frozen."""
    from isra_keras.methods import get_method
    return (_pooled_width(backbone) if get_method(method).aligned == "pooled" else None) or feature_dim


def _pooled_width(backbone):
    """Width of a backbone's pooled features; None where only its weights know it, or nothing learns them."""
    from isra_keras.backbones.network import check_backbone
    name = check_backbone(backbone)
    return None if name == "features" or name.startswith("hub:") else importlib.import_module(f"isra_keras.backbones.{name}").WIDTH


def _semantic_values(data, variant, source, feature_dim):
    """Options of the plug-in; the weights of the paper's equations are the code's, converted, or the dataset's own."""
    values = SEMANTIC | data.get("semantic_options", {})
    if source == "paper":
        values |= data.get("semantic_paper_options", {})
    if variant == "paper":
        # L_c2v = 2 d rc and L_a = (d/4) align at equal batches.
        values["class2vec_weight"] /= 2 * feature_dim
        values["alignment_weight"] *= 4 / feature_dim
        values |= data.get("semantic_paper", {})
    return values
