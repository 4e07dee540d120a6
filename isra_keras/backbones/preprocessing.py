"""Normalisations as layers, so that a saved network takes images in 0..255 and nothing else is needed."""

import keras
from keras import ops

CAFFE_MEANS = (103.939, 116.779, 123.68)  # blue, green, red of ImageNet, 0..255
TORCH_MEANS = (0.485, 0.456, 0.406)  # red, green, blue of ImageNet, 0..1
TORCH_DEVIATIONS = (0.229, 0.224, 0.225)


@keras.saving.register_keras_serializable("isra_keras")
class CaffePreprocessing(keras.layers.Layer):
    """RGB in 0..255 -> BGR minus the ImageNet means, what `keras.applications.resnet` calls "caffe" mode."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.built = True

    def call(self, images):
        return ops.flip(images, axis=-1) - ops.convert_to_tensor(CAFFE_MEANS, dtype=images.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


def to_unit_range():
    """Layer: 0..255 -> -1..1, float32."""
    return keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="normalisation")


def caffe():
    """Layer: RGB 0..255 -> BGR minus the means, float32."""
    return CaffePreprocessing(dtype="float32", name="normalisation")


def torch():
    """Layer: RGB 0..255 -> (x / 255 - mean) / deviation, float32."""
    scale = [1 / (255 * d) for d in TORCH_DEVIATIONS]
    offset = [-m / d for m, d in zip(TORCH_MEANS, TORCH_DEVIATIONS)]
    return keras.layers.Rescaling(scale, offset=offset, dtype="float32", name="normalisation")
