"""Precomputed feature vectors in place of images: (n, p) -> (n, p), nothing to learn."""

import keras

DOWNLOADS = False


def create(image_shape, pretrained=False):
    """(None, identity network)."""
    inputs = keras.Input(image_shape)
    return None, keras.Model(
        inputs, keras.layers.Identity(dtype="float32", name="identity")(inputs), name="precomputed"
    )
