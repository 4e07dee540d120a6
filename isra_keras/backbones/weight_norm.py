"""The weight-normalised classifier of SHOT."""

import keras
from keras import ops

from isra_keras.initializers import TorchUniform


@keras.saving.register_keras_serializable("isra_keras")
class WeightNormDense(keras.layers.Layer):
    """(n, d) -> (n, C) with kernel column k = gain_k * direction_k / ||direction_k||_2, plus bias.

    Variables: `direction` (d, C), `gain` (C,), `bias` (C,). The gain starts as the norm of the direction, so that
    the first kernel is the direction itself; the direction starts as `torch.nn.Linear`'s weight.

    Args:
        units: C.
        direction_initializer: of the direction, U(+-1/sqrt(d)) if None.
        bias_initializer: "zeros" as in SHOT.

    Reference:
        Salimans & Kingma, "Weight Normalization", NeurIPS 2016; Liang et al., SHOT, ICML 2020.
    """

    def __init__(self, units, direction_initializer=None, bias_initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.direction_initializer = keras.initializers.get(direction_initializer) or TorchUniform()
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.direction = self.add_weight(shape=shape, initializer=self.direction_initializer, name="direction")
        self.gain = self.add_weight(shape=(self.units,), initializer=self._first_gain, name="gain")
        self.bias = self.add_weight(shape=(self.units,), initializer=self.bias_initializer, name="bias")

    def _first_gain(self, shape, dtype=None):
        return ops.cast(self._norm(ops.convert_to_tensor(self.direction)), dtype or "float32")

    @staticmethod
    def _norm(direction):
        return ops.sqrt(ops.maximum(ops.sum(ops.square(direction), axis=0), 1e-30))

    def kernel(self):
        """(d, C), what the inputs are multiplied with."""
        direction = ops.convert_to_tensor(self.direction)
        return ops.cast(self.gain, direction.dtype) * direction / self._norm(direction)

    def call(self, inputs):
        return ops.matmul(inputs, ops.cast(self.kernel(), inputs.dtype)) + ops.cast(self.bias, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        serialize = keras.initializers.serialize
        return {
            **super().get_config(),
            "units": self.units,
            "direction_initializer": serialize(self.direction_initializer),
            "bias_initializer": serialize(self.bias_initializer),
        }
