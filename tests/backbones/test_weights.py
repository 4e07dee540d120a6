"""Weights: files that fit, files that don't, downloads that fail."""

import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from isra_keras.backbones import build_network
from isra_keras.backbones.weights import find_file
from isra_keras.errors import UserError

TEST_DATA = os.environ.get("ISRA_TEST_DATA")
MOBILENET = Path(TEST_DATA or ".") / "weights" / "mobilenetv2_1.0_224_imagenet_notop.weights.h5"


def small(weights="none", seed=0):
    return build_network("small_cnn", 3, 8, (32, 32, 3), weights, seed=seed)


def backbone_weights(network):
    return network.get_layer("backbone").get_weights()


def base_of(network):
    return next(layer for layer in network.get_layer("backbone").layers if layer.weights)


@pytest.mark.parametrize("kind", ["network.keras", "backbone.keras", "base.weights.h5"])
def test_file_round_trip(kind, tmp_path):
    network = small(seed=1)
    part = {"network.keras": network, "backbone.keras": base_of(network), "base.weights.h5": base_of(network)}[kind]
    part.save_weights(tmp_path / kind) if kind.endswith("h5") else part.save(tmp_path / kind)
    loaded = small(tmp_path / kind, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(backbone_weights(network), backbone_weights(loaded)))
    assert not np.array_equal(network.get_weights()[-2], loaded.get_weights()[-2])  # the head stays fresh


def test_a_file_below_the_home(tmp_path, monkeypatch):
    """A shell leaves the ~ of --weights=~/mine.h5 as it is, and a notebook has no shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.weights.h5").touch()
    assert find_file("~/mine.weights.h5") == tmp_path / "mine.weights.h5"


def test_a_relative_file_is_looked_for_below_the_data_folder(tmp_path, monkeypatch):
    network = small(seed=1)
    (tmp_path / "data" / "weights").mkdir(parents=True)
    base_of(network).save_weights(tmp_path / "data" / "weights" / "mine.weights.h5")
    with pytest.raises(UserError, match="not there"):
        small("weights/mine.weights.h5")
    monkeypatch.setenv("ISRA_DATA", str(tmp_path / "data"))
    loaded = small("weights/mine.weights.h5", seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(backbone_weights(network), backbone_weights(loaded)))


def test_wrong_files(tmp_path):
    (tmp_path / "page.weights.h5").write_text("<html>404</html>")
    (tmp_path / "page.keras").write_text("<html>404</html>")
    (tmp_path / "weights.pth").write_bytes(b"x")
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other.save(tmp_path / "other.keras")
    other.save_weights(tmp_path / "other.weights.h5")
    expected = {
        "page.weights.h5": "6 arrays.*can't be read",
        "page.keras": "6 arrays.*no Keras archive",
        "weights.pth": "ending in .weights.h5.*weights.pth",
        "other.keras": r"small_cnn: 6 arrays, 93,248 numbers.*2 arrays, 15 numbers, the first \(4, 3\)",
        "other.weights.h5": "6 arrays.*2 arrays, 15 numbers",
        "nowhere.h5": "'imagenet', 'none' or an existing file.*not there",
    }
    for name, words in expected.items():
        with pytest.raises(UserError, match=words) as caught:
            small(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_failed_download_names_three_ways_out(monkeypatch):
    def offline(*args, **kwargs):
        raise Exception("URL fetch failure on https://example.org: None -- name not known")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", offline)
    with pytest.raises(
        UserError, match=r"(?s)URL fetch failure.*\(1\) pass --weights FILE.*\(2\).*none.*\(3\).*hub:hf://"
    ):
        build_network("mobilenet_v2", 3, image_shape=(64, 64, 3))
    with pytest.raises(UserError, match=r"torchvision.*\(1\)"):
        build_network("resnet50_torch", 3, image_shape=(64, 64, 3))


def test_hub_without_keras_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[hub\]'"):
        build_network("hub:hf://timm/resnet50.tv_in1k", 3)


@pytest.mark.skipif(not MOBILENET.is_file(), reason="ISRA_TEST_DATA does not hold the MobileNetV2 weights")
def test_mobilenet_weights_fit_other_sizes():
    fresh = build_network("mobilenet_v2", 3, image_shape=(96, 96, 3), weights="none")
    network = build_network("mobilenet_v2", 3, image_shape=(96, 96, 3), weights=MOBILENET)
    assert not np.array_equal(backbone_weights(network)[0], backbone_weights(fresh)[0])
    grey = np.full((1, 96, 96, 3), 127.5, "float32")
    reference = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(224, 224, 3), pooling="avg"
    )
    reference.load_weights(MOBILENET)
    direct = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(96, 96, 3), pooling="avg")
    direct.set_weights(reference.get_weights())
    assert np.allclose(network(grey)["pooled"], direct(grey / 127.5 - 1), atol=1e-4)
    with pytest.raises(UserError, match="resnet50: 318 arrays.*260 arrays"):
        build_network("resnet50", 3, image_shape=(64, 64, 3), weights=MOBILENET)
