"""The dropout of AFN, which keeps the expected squared norm instead of the expected value."""

import math

import keras


@keras.saving.register_keras_serializable("isra_keras")
class L2PreservingDropout(keras.layers.Layer):
    """Dropout whose kept entries are scaled by 1 / sqrt(1 - rate): E ||out||^2 = ||in||^2. Identity in evaluation.

    Args:
        rate: share of the entries that are dropped, in [0, 1).
        seed: int or None.

    Raises:
        ValueError: if rate is outside of [0, 1).

    Reference:
        Xu et al., "Larger Norm More Transferable", ICCV 2019 (code: ordinary dropout times sqrt(1 - p)).
    """

    def __init__(self, rate=0.5, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"Expected a rate in [0, 1); received {rate}.")
        self.rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        return keras.random.dropout(inputs, self.rate, seed=self.seed_generator) * math.sqrt(1.0 - self.rate)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
