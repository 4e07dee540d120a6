"""MobileNetV2 1.0 of `keras.applications`: input x / 127.5 - 1, (n, height, width, 3) -> (n, 1280).

Small enough for real photographs on a CPU. The weights were trained at 224 px and fit every size from 32 px on.
"""

import warnings

import keras

from isra_keras.backbones import preprocessing

DOWNLOADS = True
WIDTH = 1280  # of the pooled features


def create(image_shape, pretrained):
    """(normalisation layer, network without top and pooling)."""
    weights = "imagenet" if pretrained else None
    with warnings.catch_warnings():  # "weights for input shape (224, 224) will be loaded": they are the right ones
        warnings.simplefilter("ignore")
        base = keras.applications.MobileNetV2(
            include_top=False, weights=weights, input_shape=image_shape, name="mobilenet_v2"
        )
    return preprocessing.to_unit_range(), base
