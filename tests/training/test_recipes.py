"""Recipes hold the values of the paper and of the authors' code: specifications of ISRA, BA3US and the methods."""

from pathlib import Path

import pytest

from isra_keras.errors import UserError
from isra_keras.methods import METHODS, get_method
from isra_keras.training.recipes import DATASETS, recipe, resolve

SGD_PARTS = {"backbone": [1, 2], "bottleneck": [10, 2], "classifier": [10, 2]}


def subset(config, expected):
    return {name: getattr(config, name) for name in expected}


@pytest.mark.parametrize(
    "given, expected",
    [
        (  # isra.md section 4, Office-Home: 8000 / 500, 256 topics, d 512, weights 1 and 1
            {"dataset": "office_home"},
            {"iterations": 8000, "eval_interval": 500, "num_topics": 256, "feature_dim": 512, "class2vec_weight": 1.0,
             "alignment_weight": 1.0, "receptor_l1": 0.5, "learning_rate": 1e-3, "variant": "reference"},
        ),
        (  # Office-31: 4000 / 200, 64 topics, weights 0.1 and 0.5, lr 1e-4, complement entropy 5
            {"dataset": "office31"},
            {"iterations": 4000, "eval_interval": 200, "num_topics": 64, "feature_dim": 256, "class2vec_weight": 0.1,
             "alignment_weight": 0.5, "learning_rate": 1e-4, "method_options": {"complement_weight": 5.0}},
        ),
        (  # ImageNet to Caltech: the code has 64 topics, the paper 16; C->I has 2048-d features
            {"dataset": "imagenet_caltech", "source": "I", "target": "C"},
            {"iterations": 40000, "eval_interval": 4000, "num_topics": 64, "feature_dim": 256},
        ),
        ({"dataset": "imagenet_caltech", "source": "I", "target": "C", "recipe": "paper"}, {"num_topics": 16}),
        ({"dataset": "imagenet_caltech", "source": "C", "target": "I"}, {"num_topics": 64, "feature_dim": 2048}),
        # BA3US alone: 5000 / 2000 / 40000, 256-d features
        ({"dataset": "office_home", "semantic": False}, {"iterations": 5000, "eval_interval": 500, "feature_dim": 256}),
        ({"dataset": "office31", "semantic": False}, {"iterations": 2000, "eval_interval": 200, "learning_rate": 1e-4}),
        ({"dataset": "imagenet_caltech", "semantic": False}, {"iterations": 40000, "eval_interval": 4000}),
        # The text gives 1e-3 for the new layers, on every data set; the backbone has a tenth of it.
        ({"dataset": "office_home", "recipe": "paper"}, {"learning_rate": 1e-4, "num_topics": 256}),
        ({"dataset": "office31", "recipe": "paper"}, {"learning_rate": 1e-4, "num_topics": 64, "iterations": 4000}),
        ({"dataset": "imagenet_caltech", "source": "C", "target": "I", "recipe": "paper"}, {"learning_rate": 1e-4}),
        # source_only.md recipe 1
        ({"dataset": "office_home", "method": "source_only", "semantic": False},
         {"iterations": 5000, "learning_rate": 1e-3, "feature_dim": 256}),
    ],
)  # fmt: skip
def test_values_of_paper_and_code(given, expected):
    assert subset(resolve(**given), expected) == expected


@pytest.mark.parametrize("dataset", ["office_home", "office31", "imagenet_caltech"])
def test_optimiser_and_data_of_the_paper(dataset):
    config = resolve(dataset=dataset)
    assert subset(config, ["batch_size", "momentum", "nesterov", "weight_decay", "optimizer"]) == {
        "batch_size": 36, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "optimizer": "sgd"}  # fmt: skip
    assert subset(config, ["image_size", "crop_size", "augment", "backbone", "weights"]) == {
        "image_size": 256, "crop_size": 224, "augment": True, "backbone": "resnet50", "weights": "imagenet"}  # fmt: skip
    assert config.schedule == {"name": "inverse", "gamma": 1e-3, "power": 0.75, "period": 1.0, "clamp": None}
    parts = SGD_PARTS | {"discriminator": [10, 2], "class2vec": [10, 2], "receptors": [1, 10]}
    assert {part: config.multipliers[part] for part in parts} == parts


def test_weights_of_the_paper_variant_are_converted():
    """L_c2v = 2 d rc and L_a = (d/4) align: specification of ISRA, section 2."""
    config = resolve(dataset="office_home", variant="paper")
    assert config.class2vec_weight == pytest.approx(1 / 1024)
    assert config.alignment_weight == pytest.approx(4 / 512)
    narrow = resolve(dataset="office_home", variant="paper", feature_dim=64)
    assert narrow.class2vec_weight == pytest.approx(1 / 128) and narrow.alignment_weight == pytest.approx(4 / 64)


@pytest.mark.parametrize("given, width", [
    ({}, 2048), ({"backbone": "MobileNetV2"}, 1280), ({"freeze_backbone": True}, 256), ({"backbone": "hub:x"}, 256),
])  # fmt: skip
def test_weights_of_the_paper_variant_follow_what_isra_aligns(given, width):
    """On SHOT it aligns pooled features, unless the backbone is frozen."""
    config = resolve(dataset="office_home", method="shot", variant="paper", **given)
    assert config.class2vec_weight == pytest.approx(1 / (2 * width))
    assert config.alignment_weight == pytest.approx(4 / width)


def test_methods_with_recipes_of_their_own():
    afn = resolve(dataset="office_home", method="afn", semantic=False)
    assert afn.feature_dim == 1000 and afn.part_momentum == {"backbone": 0.0}
    shot = resolve(dataset="office31", method="shot", semantic=False)
    assert shot.method_options["threshold"] == 0 and shot.schedule["period"] is None
    assert shot.schedule["gamma"] == 10 and shot.batch_size == 64
    home = resolve(dataset="office_home", method="shot", semantic=False)
    assert home.method_options["threshold"] == 10


@pytest.mark.parametrize("method, variant, values", [
    ("pada", "tllib", {"learning_rate": 2e-4, "weight_decay": 1e-3, "temperature": 0.01}),
    ("iwan", "paper", {"learning_rate": 3e-4, "weight_decay": 0.0, "batch_size": 64, "nesterov": False}),
])  # fmt: skip
def test_a_variant_brings_its_recipe_to_the_papers_data_sets(method, variant, values):
    config = resolve(dataset="office_home", method=method, method_options={"variant": variant}, semantic=False)
    found = vars(config) | config.method_options
    assert {name: found[name] for name in values} == values and config.method_options["variant"] == variant
    plain = resolve(dataset="office_home", method=method, semantic=False)
    assert plain.learning_rate != config.learning_rate
    other = resolve(dataset="pacs_features", method=method, method_options={"variant": variant}, semantic=False)
    assert other.iterations == resolve(dataset="pacs_features", method=method, semantic=False).iterations


@pytest.mark.parametrize("dataset, source, target, values", [
    ("office_home", "Ar", "Cl", (2e-4, 30000, 500, 0.01)),
    ("office31", "A", "W", (2e-4, 20000, 500, 0.1)),
    ("office31", "W", "D", (2e-4, 20000, 500, 0.1)),
    ("imagenet_caltech", "I", "C", (3e-4, 40000, 2000, 0.01)),
    ("imagenet_caltech", "C", "I", (3e-4, 40000, 2000, 0.01)),
])  # fmt: skip
def test_tllibs_pada_differs_between_data_sets(dataset, source, target, values):
    """Specification of PADA, section on TLLib: lr .002 (I/C .003), T .1 (.01 on OH and I/C), epochs x iterations."""
    config = resolve(dataset=dataset, source=source, target=target, method="pada", semantic=False,
                     method_options={"variant": "tllib"})  # fmt: skip
    found = (config.learning_rate, config.iterations, config.eval_interval, config.method_options["temperature"])
    assert found == values and config.weight_decay == 1e-3
    assert config.method_options["variant"] == "tllib" and config.method_options["ramp_iterations"] == 10000


@pytest.mark.parametrize("dataset", [name for name in DATASETS if name != "folders"])
@pytest.mark.parametrize("method", list(METHODS))
def test_every_pair_resolves(dataset, method):
    for semantic in (True, False):
        config = resolve(dataset=dataset, method=method, semantic=semantic)
        assert config.method == method and config.eval_interval <= config.iterations
        get_method(method)


def test_what_the_user_gives_wins():
    config = resolve(dataset="office_home", source="Ar", target="rw", iterations=80, num_topics=3, batch_size=4,
                     learning_rate=0.5, multipliers={"backbone": [0, 0]}, method_options={"mu": 2})  # fmt: skip
    assert (config.source, config.target) == ("Art", "RealWorld")
    assert (config.num_topics, config.batch_size, config.learning_rate) == (3, 4, 0.5)
    assert config.multipliers["backbone"] == [0, 0] and config.multipliers["classifier"] == [10, 2]
    assert config.method_options["mu"] == 2


def test_an_optimizer_of_the_users_own_has_what_goes_with_it():
    """SGD over a recipe with Adam had no multipliers; Adam was shown multipliers that it does not have."""
    place = {"dataset": "office_home", "source": "Ar", "target": "Cl"}
    assert resolve(method="a2kt", **place).optimizer == "adam" and resolve(method="a2kt", **place).multipliers == {}
    parts = resolve(method="a2kt", optimizer="sgd", **place).multipliers
    assert parts["bottleneck"][0] > parts["backbone"][0] and parts["receptors"][1] == 10
    config = resolve(method="ba3us", optimizer="adam", **place)
    assert config.multipliers == {} and config.part_momentum == {}
    for name, value in (("multipliers", {"backbone": [0.1, 1]}), ("part_momentum", {"backbone": 0.0})):
        with pytest.raises(UserError, match=f"no {name} with the optimizer adam"):
            resolve(method="ba3us", optimizer="adam", **place, **{name: value})


def test_of_a_schedule_only_what_is_given_changes():
    place = {"dataset": "office_home", "source": "Ar", "target": "Cl", "method": "etn"}
    recipe = resolve(**place).schedule
    assert recipe["clamp"] and resolve(schedule={"gamma": 2.0}, **place).schedule == recipe | {"gamma": 2.0}
    assert resolve(schedule={"name": "inverse", "gamma": 2.0}, **place).schedule == {"name": "inverse", "gamma": 2.0}


def test_a_shortened_run_keeps_its_number_of_evaluations():
    assert resolve(dataset="office_home", iterations=80).eval_interval == 5
    assert resolve(dataset="office_home", iterations=80, eval_interval=40).eval_interval == 40
    assert resolve(dataset="office_home", iterations=16000).eval_interval == 500
    assert resolve(dataset="office_home", iterations=1).eval_interval == 1


@pytest.mark.parametrize("given, sizes", [
    ({}, (256, 224)), ({"image_size": 32}, (32, 28)), ({"image_size": 300}, (300, 224)), ({"crop_size": 299}, (342, 299)),
    ({"image_size": 64, "crop_size": 64}, (64, 64)),
])  # fmt: skip
def test_one_size_brings_the_other_along(given, sizes):
    config = resolve(source_dir="a", target_dir="b", **given)
    assert (config.image_size, config.crop_size) == sizes


def test_a_fresh_backbone_learns_like_the_other_new_layers():
    assert resolve(dataset="glyphs").multipliers["backbone"] == [10, 2]
    assert resolve(dataset="office_home", weights="none").multipliers["backbone"] == [10, 2]
    asked = resolve(dataset="glyphs", multipliers={"backbone": [2, 1]}).multipliers
    assert asked["backbone"] == [2, 1] and asked["classifier"] == [10, 2], "the classifier's took the place of what was asked for"
    assert resolve(dataset="office_home").multipliers["backbone"] == [1, 2]


def test_folders():
    config = resolve(source_dir="a", target_dir="b")
    assert config.dataset is None and config.backbone == "mobilenet_v2"


def test_paths_of_data_hold_in_every_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolve(source_dir=Path("shop/"), target_dir="../street", data_dir=Path("data"))
    assert config.source_dir == str(tmp_path / "shop") and config.target_dir == str(tmp_path.parent / "street")
    assert config.data_dir == str(tmp_path / "data") and config.task_name == "shop-street"


def test_what_is_stored_is_what_is_trained():
    """There are no weights for small_cnn, and no crop below the smallest one that a run takes."""
    assert resolve(source_dir="a", target_dir="b", backbone="small_cnn").weights == "none"
    assert resolve(source_dir="a", target_dir="b").weights == "imagenet"
    assert resolve(source_dir="a", target_dir="b", backbone="small_cnn", weights="w.h5").weights == "w.h5"
    small = resolve(source_dir="a", target_dir="b", image_size=8)
    assert (small.image_size, small.crop_size) == (8, 8)
    with pytest.raises(UserError, match="--image-size of at least 8"):
        resolve(source_dir="a", target_dir="b", image_size=7)


def test_recipes_do_not_leak_into_each_other():
    first = resolve(dataset="office31")
    first.method_options["complement_weight"], first.schedule["gamma"] = 99, 99
    first.multipliers["backbone"][0] = 99
    second = resolve(dataset="office31")
    assert second.method_options["complement_weight"] == 5 and second.schedule["gamma"] == 1e-3
    assert second.multipliers["backbone"][0] == 1


@pytest.mark.parametrize(
    "given, words",
    [
        ({"dataset": "office-house"}, ["office_home", "glyphs"]),
        ({"method": "ba4us"}, ["ba3us", "shot"]),
        ({"dataset": "office_home", "source": "Cubism"}, ["Art", "Clipart"]),
        ({"dataset": "office_home", "source": "Ar", "target": "Art"}, ["different"]),
        ({"source_dir": "a"}, ["--target-dir"]),
        ({"methd": "shot"}, ["num_topics", "'methd'", "Did you mean 'method'?"]),
        ({"iterations": "5"}, ["iterations to be a whole number", "'5'"]),
        ({"feature_dim": 2.5}, ["feature_dim to be a whole number"]),
        ({"method_options": 3}, ["method_options to be an object", "3"]),
        ({"dataset": 7}, ["dataset to be a text"]),
        ({"source_dir": 1, "target_dir": 2}, ["source_dir to be a text"]),
    ],
)
def test_wrong_names_list_the_valid_ones(given, words):
    with pytest.raises(UserError) as caught:
        resolve(**given)
    for word in words:
        assert word in str(caught.value)


def test_recipe_alone():
    values = recipe("office_home", "ba3us", semantic=False)
    assert values["iterations"] == 5000 and "semantic_options" not in values
    with pytest.raises(UserError, match="office_home"):
        recipe("folders", "ba3us")


def test_what_was_tuned_on_a_dataset_comes_after_the_methods_recipe_and_before_the_user():
    tuned = resolve(dataset="pacs_features", method="etn")
    assert tuned.network_options["bottleneck"] == "bn" and tuned.learning_rate == 3e-4
    assert tuned.method_options == resolve(dataset="glyphs", method="etn").method_options
    assert resolve(dataset="glyphs", method="cdan").network_options.get("bottleneck") is None
    bounded = {method: resolve(dataset="pacs_features", method=method).network_options for method in ("afn", "san")}
    assert bounded == {"afn": {}, "san": {"bottleneck": "bn"}}, "with ISRA, where the method's own is not bounded"
    assert resolve(dataset="pacs_features", method="san", semantic=False).network_options == {}
    own = resolve(dataset="pacs_features", method="etn", learning_rate=0.1, network_options={"bottleneck": "linear"})
    assert own.network_options["bottleneck"] == "linear" and own.learning_rate == 0.1


@pytest.mark.parametrize("method", ["pada", "san", "iwan", "etn", "slm", "ba3us"])
def test_on_glyphs_new_layers_learn_from_nothing(method):
    """A rate that only moves a trained network leaves one that starts from random weights as it was."""
    config = resolve(dataset="glyphs", method=method, semantic=False)
    rates = [config.learning_rate * config.multipliers[part][0] for part in ("backbone", "bottleneck", "classifier")]
    assert min(rates) >= 0.999 * 3e-3 and config.warmup == 0.25


def test_photographed_glyphs_are_learned_longer_before_adaptation():
    """A quarter of the run, and a sixth of them is recognised: there is nothing to adapt."""
    given = {"dataset": "glyphs", "source": "photo", "target": "printed"}
    assert {resolve(**given, method=name).warmup for name in ("ba3us", "dann", "slm")} == {0.75}
    assert resolve(**given, method="source_only").warmup == resolve(**given, method="shot").warmup == 0.0
    assert resolve(**given, warmup=0.5).warmup == 0.5 and resolve(dataset="glyphs").warmup == 0.25
