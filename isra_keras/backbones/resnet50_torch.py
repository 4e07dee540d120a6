"""ResNet-50 in torchvision's layout, the paper's network: (n, height, width, 3) -> (n, 2048).

Stride on the 3x3 convolution, no convolution biases, batch normalisation with epsilon 1e-5 and momentum 0.9, RGB
minus ImageNet's means over its deviations. Weights come from a file: `.weights.h5`/`.keras` of this network, or an
`.npz` of torchvision's state dict: `np.savez(path, **{k: v.numpy() for k, v in model.state_dict().items()})`.
"""

import keras
import numpy as np
from keras import layers

from isra_keras.backbones import preprocessing

DOWNLOADS = False
WIDTH = 2048
BLOCKS = (3, 4, 6, 3)


def create(image_shape, pretrained=False):
    """(normalisation layer, network without top and pooling)."""
    inputs = keras.Input(image_shape)
    outputs = _convolution(inputs, 64, 7, 2, "conv1", "bn1")
    outputs = layers.ReLU(name="relu")(outputs)
    outputs = layers.ZeroPadding2D(1, name="maxpool.pad")(outputs)  # zeros: they follow a ReLU
    outputs = layers.MaxPooling2D(3, 2, name="maxpool")(outputs)
    for stage, blocks in enumerate(BLOCKS):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            outputs = _bottleneck_block(outputs, 64 * 2**stage, stride, f"layer{stage + 1}.{block}", not block)
    return preprocessing.torch(), keras.Model(inputs, outputs, name="resnet50_torch")


def _bottleneck_block(inputs, width, stride, name, projection):
    """1x1, 3x3 (with the stride), 1x1, plus the shortcut."""
    outputs = layers.ReLU(name=f"{name}.relu1")(_convolution(inputs, width, 1, 1, f"{name}.conv1", f"{name}.bn1"))
    outputs = _convolution(outputs, width, 3, stride, f"{name}.conv2", f"{name}.bn2")
    outputs = layers.ReLU(name=f"{name}.relu2")(outputs)
    outputs = _convolution(outputs, 4 * width, 1, 1, f"{name}.conv3", f"{name}.bn3")
    if projection:
        inputs = _convolution(inputs, 4 * width, 1, stride, f"{name}.downsample.0", f"{name}.downsample.1")
    return layers.ReLU(name=f"{name}.relu3")(layers.Add(name=f"{name}.add")([inputs, outputs]))


def _convolution(inputs, filters, size, stride, name, norm_name):
    """Convolution without bias, padded as PyTorch pads (alike on both sides), and batch normalisation."""
    if size > 1:
        inputs = layers.ZeroPadding2D(size // 2, name=f"{name}.pad")(inputs)
    kernel = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    outputs = layers.Conv2D(filters, size, stride, use_bias=False, kernel_initializer=kernel, name=name)(inputs)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm_name)(outputs)


def from_state_dict(model, state):
    """Copies torchvision's arrays into the network.

    Args:
        model: of `create`.
        state: {"conv1.weight": (out, in, h, w), "bn1.weight": …, "layer1.0.conv1.weight": …}; `fc.*` and
            `num_batches_tracked` are ignored.

    Raises:
        KeyError: names an array that is missing.
        ValueError: names the layer whose shape differs.
    """
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            layer.set_weights([np.transpose(state[f"{layer.name}.weight"], (2, 3, 1, 0))])
        elif isinstance(layer, layers.BatchNormalization):
            names = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([state[f"{layer.name}.{n}"] for n in names])
