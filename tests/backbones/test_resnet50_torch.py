"""torchvision's layout: parameter count, state dict, padding and stride as PyTorch places them."""

import keras
import numpy as np
import pytest

from isra_keras.backbones import build_network, resnet50_torch
from isra_keras.errors import UserError


@pytest.fixture(scope="module")
def base():
    return resnet50_torch.create((64, 64, 3))[1]


def state_of(model):
    """The network's weights under torchvision's names and in PyTorch's axis order."""
    state = {"fc.weight": np.zeros((1000, 2048), "float32")}
    for layer in model.layers:
        arrays = layer.get_weights()
        if isinstance(layer, keras.layers.Conv2D):
            state[f"{layer.name}.weight"] = np.transpose(arrays[0], (3, 2, 0, 1))
        elif isinstance(layer, keras.layers.BatchNormalization):
            names = ("weight", "bias", "running_mean", "running_var")
            state |= {f"{layer.name}.{name}": value for name, value in zip(names, arrays)}
    return state


def test_parameters_and_shapes(base):
    trainable = sum(int(np.prod(v.shape)) for v in base.trainable_variables)
    assert trainable == 23_508_032  # torchvision's resnet50 without fc
    assert base.output_shape == (None, 2, 2, 2048)
    state = state_of(base)
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert state["layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert base.get_layer("layer2.0.conv2").strides == (2, 2) and base.get_layer("layer2.0.conv1").strides == (1, 1)


def test_state_dict_round_trip(base, tmp_path):
    np.savez(tmp_path / "tv.npz", **state_of(base))
    network = build_network("resnet50_torch", 3, image_shape=(64, 64, 3), weights=tmp_path / "tv.npz")
    loaded = network.get_layer("backbone").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(base.get_weights(), loaded))
    short = state_of(base)
    del short["layer3.5.bn2.running_var"]
    np.savez(tmp_path / "short.npz", **short)
    with pytest.raises(UserError, match="Expected weights of resnet50_torch"):
        build_network("resnet50_torch", 3, image_shape=(64, 64, 3), weights=tmp_path / "short.npz")


def test_first_convolution_pads_as_pytorch(base):
    """Output (0, 0) sees rows -3..3 of the input: with Keras's "same" it would see -2..4."""
    kernel = np.zeros((7, 7, 3, 64), "float32")
    kernel[3, 3, 0, 0] = 1.0  # centre tap: reads input (2 i, 2 j)
    front = keras.Model(base.input, base.get_layer("conv1").output)
    old = base.get_layer("conv1").get_weights()
    base.get_layer("conv1").set_weights([kernel])
    images = np.random.default_rng(0).uniform(size=(1, 64, 64, 3)).astype("float32")
    assert np.allclose(front(images)[0, :, :, 0], images[0, ::2, ::2, 0], atol=1e-6)
    base.get_layer("conv1").set_weights(old)
