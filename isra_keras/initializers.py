"""Initialisers of the original PyTorch networks that Keras has under no name."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable("isra_keras")
class GlorotNormal(keras.initializers.RandomNormal):
    """Normal with standard deviation sqrt(2 / (fan_in + fan_out)), not truncated as Keras's own is.

    Args:
        seed: int, or None for a random one.
    """

    def __init__(self, seed=None):
        super().__init__(mean=0.0, stddev=1.0, seed=seed)

    def __call__(self, shape, dtype=None):
        fan_in, fan_out = _fans(shape)
        return super().__call__(shape, dtype) * ops.cast(math.sqrt(2.0 / (fan_in + fan_out)), dtype or "float32")

    def get_config(self):
        return {"seed": keras.saving.serialize_keras_object(self._init_seed)}


@keras.saving.register_keras_serializable("isra_keras")
class TorchUniform(keras.initializers.RandomUniform):
    """Uniform in +-1/sqrt(fan_in), what `torch.nn.Linear` gives to kernel and bias.

    Args:
        fan_in: int, number of inputs; None takes it from a kernel's shape (..., in, out). Needed for a bias,
            whose shape does not tell.
        seed: int, or None for a random one.
    """

    def __init__(self, fan_in=None, seed=None):
        super().__init__(minval=-1.0, maxval=1.0, seed=seed)
        self.fan_in = fan_in

    def __call__(self, shape, dtype=None):
        fan_in = self.fan_in or _fans(shape)[0]
        return super().__call__(shape, dtype) * ops.cast(1.0 / math.sqrt(fan_in), dtype or "float32")

    def get_config(self):
        return {"fan_in": self.fan_in, "seed": keras.saving.serialize_keras_object(self._init_seed)}


def _fans(shape):
    """(fan_in, fan_out) of a dense kernel (..., in, out)."""
    if len(shape) < 2:
        raise ValueError(f"Expected a kernel of shape (..., in, out); received shape {tuple(shape)}; pass fan_in.")
    return shape[-2], shape[-1]
