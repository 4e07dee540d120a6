"""keras-hub presets: normalisation of the preset, parts, saving. Runs where keras-hub is installed."""

import keras
import numpy as np
import pytest

from isra_keras.backbones import build_network
from isra_keras.errors import UserError


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A saved ResNet of two stages with its image converter."""
    keras_hub = pytest.importorskip("keras_hub")  # here, as its import takes seconds and every collection would pay
    folder = str(tmp_path_factory.mktemp("preset"))
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="bottleneck_block",
        image_shape=(None, None, 3),
    )
    backbone.save_to_preset(folder)
    keras_hub.layers.ResNetImageConverter(scale=[0.01, 0.02, 0.03], offset=[-1.0, -2.0, -3.0]).save_to_preset(folder)
    return folder, backbone


def test_preset_becomes_a_network(preset, tmp_path):
    folder, backbone = preset
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    network = build_network(f"hub:{folder}", 3, image_shape=(64, 64, 3))
    normalised = images * np.array([0.01, 0.02, 0.03]) + np.array([-1.0, -2.0, -3.0])
    expected = np.asarray(backbone(normalised)).mean(axis=(1, 2))
    assert np.allclose(network(images)["pooled"], expected, rtol=1e-4, atol=1e-4)
    assert all("/backbone/" in v.path for v in network.get_layer("backbone").weights)
    network.save(tmp_path / "n.keras")
    loaded = keras.models.load_model(tmp_path / "n.keras")
    assert np.array_equal(loaded(images)["logits"], network(images)["logits"])


def test_a_preset_that_does_not_say_how_images_are_scaled(preset, tmp_path):
    """They were scaled by ImageNet's means without a word."""
    folder, backbone = preset
    backbone.save_to_preset(str(tmp_path))
    with pytest.warns(UserWarning, match="does not say how its images are scaled; they are by ImageNet's means"):
        build_network(f"hub:{tmp_path}", 3, image_shape=(64, 64, 3))


def test_unknown_preset():
    pytest.importorskip("keras_hub")
    with pytest.raises(UserError, match="'no_such_preset' can't be loaded"):
        build_network("hub:no_such_preset", 3, image_shape=(64, 64, 3))
