"""The domain discriminator that DANN and its descendants share."""

import keras
from keras import ops

from isra_keras.initializers import GlorotNormal


@keras.saving.register_keras_serializable("isra_keras")
class DomainDiscriminator(keras.layers.Layer):
    """Dense, ReLU, dropout, Dense, ReLU, dropout, Dense 1: (n, d) -> (n,) logit of "this row is source".

    The sub-layers are named dense1, dense2, dense3. It computes in float32 under every precision policy.

    Args:
        width: units of the two hidden layers; 1024 in CDAN, BA3US, PADA, ETN.
        dropout: rate after each hidden layer.
        units: outputs; 1 gives shape (n,), more gives (n, units).
        kernel_initializer: one initialiser, or three for the three layers; untruncated Glorot normal if None.
        bias_initializer: likewise, "zeros" if None.
        batch_norm: batch normalisation before each ReLU, sub-layers norm1 and norm2 (TLLib's discriminators).
    """

    def __init__(self, width=1024, dropout=0.5, units=1, kernel_initializer=None, bias_initializer=None,
                 batch_norm=False, **kwargs):  # fmt: skip
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.width, self.dropout, self.units = width, dropout, units
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer
        self.batch_norm = batch_norm
        kernels = _three(kernel_initializer, lambda: GlorotNormal())
        biases = _three(bias_initializer, lambda: "zeros")
        for index, size in enumerate((width, width, units)):
            dense = keras.layers.Dense(
                size, name=f"dense{index + 1}", dtype="float32",
                kernel_initializer=kernels[index], bias_initializer=biases[index],
            )  # fmt: skip
            setattr(self, f"dense{index + 1}", dense)
        if batch_norm:
            options = {"momentum": 0.9, "epsilon": 1e-5, "dtype": "float32"}
            self.norm1 = keras.layers.BatchNormalization(name="norm1", **options)
            self.norm2 = keras.layers.BatchNormalization(name="norm2", **options)
        self.dropout1 = keras.layers.Dropout(dropout, dtype="float32")
        self.dropout2 = keras.layers.Dropout(dropout, dtype="float32")

    def build(self, input_shape):
        self.dense1.build(input_shape)
        self.dense2.build((None, self.width))
        self.dense3.build((None, self.width))
        if self.batch_norm:
            self.norm1.build((None, self.width))
            self.norm2.build((None, self.width))
        self.dropout1.build((None, self.width))
        self.dropout2.build((None, self.width))
        self.built = True

    def call(self, features, training=None):
        hidden = self.dense1(features)
        hidden = ops.relu(self.norm1(hidden, training=training) if self.batch_norm else hidden)
        hidden = self.dense2(self.dropout1(hidden, training=training))
        hidden = ops.relu(self.norm2(hidden, training=training) if self.batch_norm else hidden)
        hidden = self.dropout2(hidden, training=training)
        logits = self.dense3(hidden)
        return logits[:, 0] if self.units == 1 else logits

    def get_config(self):
        config = super().get_config()
        serialize = keras.saving.serialize_keras_object
        config.update(
            width=self.width,
            dropout=self.dropout,
            units=self.units,
            kernel_initializer=serialize(self.kernel_initializer),
            bias_initializer=serialize(self.bias_initializer),
            batch_norm=self.batch_norm,
        )
        return config


def _three(initializer, default):
    """One initialiser for each of three layers: a list or tuple as it is, one thing cloned, None the default."""
    if isinstance(initializer, (list, tuple)):
        return [keras.initializers.get(i) for i in initializer]
    if initializer is None:
        return [default() for _ in range(3)]
    one = keras.initializers.get(initializer)
    return [one.__class__.from_config(one.get_config()) for _ in range(3)]
