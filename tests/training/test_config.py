"""TrainConfig: round trip, and an error of one sentence for everything that is impossible."""

import json
import math

import pytest

from isra_keras.errors import UserError
from isra_keras.training.config import FORMAT_VERSION, TrainConfig


def changed(**values):
    return json.dumps(json.loads(TrainConfig().to_json()) | values)


def test_round_trip_keeps_every_value(tmp_path):
    config = TrainConfig(
        dataset=None, source_dir="a/b", target_dir="c", method="shot", method_options={"threshold": 0},
        multipliers={"backbone": (0.1, 2)}, schedule={"name": "cosine"}, part_momentum={"backbone": 0.0},
        learning_rate=3e-4, image_size=None, crop_size=None, seed=7, augment=False,
    ).validate()  # fmt: skip
    (tmp_path / "config.json").write_text(config.to_json())
    assert TrainConfig.load(tmp_path / "config.json") == config
    assert config.multipliers == {"backbone": [0.1, 2.0]}


def test_a_configuration_from_before_distribution_is_of_one_device():
    values = json.loads(TrainConfig().to_json())
    del values["distribute"], values["sync_batch_norm"]
    assert TrainConfig.from_json(json.dumps(values)) == TrainConfig() and TrainConfig().distribute == "none"


def test_whole_numbers_serve_as_numbers():
    config = TrainConfig.from_json(changed(learning_rate=1, alignment_weight=2))
    assert isinstance(config.learning_rate, float) and isinstance(config.alignment_weight, float)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"seed": 2**32}, "--seed below 4294967296"),
        ({"method": "magic"}, ["--method", "ba3us", "shot", "'magic'"]),
        ({"variant": "mine"}, ["--variant", "paper, reference", "'mine'"]),
        ({"distribute": "tpu"}, ["--distribute", "none, mirrored, multi_worker", "'tpu'"]),
        ({"precision": "float8"}, ["--precision", "mixed_bfloat16"]),
        ({"optimizer": "lion"}, ["--optimizer", "sgd, adam"]),
        ({"select": "accuracy"}, ["--select", "mean_entropy", "'accuracy'"]),
        ({"on_bad_image": "cry"}, ["--on-bad-image", "skip, error"]),
        ({"normalisation": "none"}, ["frobenius, row"]),
        ({"recipe": "cake"}, ["code, paper"]),
        ({"source_sampling": "odd"}, ["shuffle, balanced"]),
        ({"schedule": {"name": "linear"}}, ["inverse, cosine, constant", "'linear'"]),
        ({"iterations": 0}, ["--iterations", "at least 1", "received 0"]),
        ({"batch_size": -3}, ["--batch-size", "-3"]),
        ({"num_topics": 0}, ["--num-topics"]),
        ({"eval_interval": 0}, ["--eval-interval"]),
        ({"feature_dim": 0}, ["--feature-dim"]),
        ({"keep_checkpoints": 0}, ["--keep-checkpoints"]),
        ({"seed": -1}, ["--seed", "at least 0"]),
        ({"alignment_weight": -0.1}, ["--alignment-weight"]),
        ({"receptor_l1": math.nan}, ["--receptor-l1", "nan"]),
        ({"class2vec_weight": math.inf}, ["--class2vec-weight", "inf"]),
        ({"learning_rate": 0.0}, ["--learning-rate above 0"]),
        ({"learning_rate": math.nan}, ["--learning-rate", "nan"]),
        ({"momentum": 1.0}, ["momentum", "below 1"]),
        ({"part_momentum": {"backbone": -0.5}}, ["momentum", "backbone"]),
        ({"image_size": 4}, ["--image-size", "8 pixels"]),
        ({"image_size": 64, "crop_size": 65}, ["--crop-size of at most --image-size 64", "65"]),
        ({"multipliers": {"backbone": [1.0]}}, ["multipliers of 'backbone'"]),
        ({"multipliers": {"backbone": [1.0, -1.0]}}, ["multipliers of 'backbone'"]),
        ({"source_dir": "a"}, ["both --source-dir and --target-dir"]),
        ({"dataset": None}, ["--dataset, or --source-dir"]),
        ({"iterations": "many"}, ["iterations to be a whole number", "'many'"]),
        ({"iterations": True}, ["iterations to be a whole number"]),
        ({"iterations": 1.5}, ["iterations to be a whole number"]),
        ({"learning_rate": "fast"}, ["learning_rate to be a number"]),
        ({"method": 3}, ["method to be a text"]),
        ({"semantic": "yes"}, ["semantic to be true or false"]),
        ({"schedule": [1]}, ["schedule to be an object"]),
        ({"image_size": "256"}, ["image_size to be a whole number"]),
        ({"multipliers": {"backbone": "12"}}, ["multipliers of 'backbone'"]),
        ({"part_momentum": {"backbone": "none"}}, ["momentum", "'none'"]),
        ({"schedule": {"name": "inverse", "gama": 1.0}}, ["gamma, power, period, clamp", "'gama'"]),
        ({"schedule": {"name": "inverse", "gamma": "1"}}, ["gamma of the schedule", "'1'"]),
        ({"schedule": {"name": "inverse", "period": 0.0}}, ["period of the schedule above 0", "0.0"]),
        ({"schedule": {"name": "inverse", "gamma": -1.0}}, ["gamma of the schedule of at least 0"]),
        ({"schedule": {"name": "inverse", "clamp": -1}}, ["clamp of the schedule of at least 0"]),
        ({"schedule": {"name": ["inverse"]}}, ["inverse, cosine, constant"]),
    ],
)  # fmt: skip
def test_impossible_values(values, words):
    with pytest.raises(UserError) as caught:
        TrainConfig.from_json(changed(**values))
    message = str(caught.value)
    assert message.startswith("Expected") and "received" in message and "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"', '{"format_version": "one"}'])
def test_broken_text_is_named(text):
    with pytest.raises(UserError, match="'there.json'"):
        TrainConfig.from_json(text, "there.json")


def test_unknown_names_and_later_versions():
    with pytest.raises(UserError, match="only known names in 'x'; received colour, speed"):
        TrainConfig.from_json(changed(speed=1, colour=2), "x")
    with pytest.raises(UserError, match=f"{FORMAT_VERSION + 1}.*later version"):
        TrainConfig.from_json(changed(format_version=FORMAT_VERSION + 1))


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="none.json"):
        TrainConfig.load(tmp_path / "none.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="bytes.json"):
        TrainConfig.load(tmp_path / "bytes.json")


def test_task_name():
    assert TrainConfig(source="Art", target="Clipart").task_name == "Art-Clipart"
    assert TrainConfig(source_dir="x/shop/", target_dir="y/street").task_name == "shop-street"
