"""A small convolutional network for glyphs of 32 x 32 pixels: (n, 32, 32, 3) -> (n, 128), trained from scratch."""

import keras
from keras import layers

from isra_keras.backbones import preprocessing

DOWNLOADS = False
WIDTHS = (32, 64, 128)
WIDTH = WIDTHS[-1]  # of the pooled features


def create(image_shape, pretrained=False):
    """(normalisation layer, three blocks of convolution and ReLU).

    The first block strides, as its input holds no more than 8 x 8 samples; the others take the maximum of 2 x 2.
    No batch normalisation: source, target and middle rows are forwarded apart, so that its moving statistics would be
    a mixture that fits none of them.
    """
    inputs = outputs = keras.Input(image_shape)
    for index, width in enumerate(WIDTHS):
        outputs = layers.Conv2D(width, 3, strides=1 if index else 2, padding="same", kernel_initializer="he_normal",
                                name=f"conv{index + 1}")(outputs)  # fmt: skip
        outputs = layers.ReLU(name=f"relu{index + 1}")(outputs)
        if index:
            outputs = layers.MaxPooling2D(name=f"pool{index + 1}")(outputs)
    return preprocessing.to_unit_range(), keras.Model(inputs, outputs, name="small_cnn")
