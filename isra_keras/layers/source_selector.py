"""The selector of SLM: which source rows to keep."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("isra_keras")
class SourceSelector(keras.layers.Layer):
    """(images (n, ...), pooled features (n, p)) -> (n, 2) float32 scores of "reject" and "keep".

    Args:
        network: built layer on images (values 0..255) with two outputs, or None for Dense, ReLU, Dense on the pooled
            features, through which no gradient flows back.
        width: hidden units of the latter.

    Raises:
        ValueError: if `network` is no layer, or not built.
    """

    def __init__(self, network=None, width=512, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.on_images, self.width = network is not None, width
        if network is None:
            hidden = keras.layers.Dense(width, "relu", dtype="float32", name="hidden")
            network = keras.Sequential([hidden, keras.layers.Dense(2, dtype="float32", name="output")], name="network")
        elif not isinstance(network, keras.layers.Layer):
            raise ValueError(f"Expected the selector as a Keras model on images, made in Python, or None; received {network!r}.")
        elif not network.built:
            raise ValueError(f"Expected a selector that is built; received {network.name!r}: call it once on images.")
        self.network = network

    def build(self, images_shape, pooled_shape=None):
        if not self.on_images:
            self.network.build(pooled_shape)

    def call(self, images, pooled):
        inputs = ops.cast(images if self.on_images else ops.stop_gradient(pooled), "float32")
        return ops.cast(self.network(inputs), "float32")

    def get_config(self):
        network = keras.saving.serialize_keras_object(self.network) if self.on_images else None
        return super().get_config() | {"network": network, "width": self.width}

    @classmethod
    def from_config(cls, config):
        return cls(**config | {"network": keras.saving.deserialize_keras_object(config["network"])})


def hard_selection(scores, gumbel, temperature):
    """1 where class 1 ("keep") wins with Gumbel noise, else 0; gradient of the softmax (straight-through).

    Args:
        scores, gumbel: (n, 2) float32.
        temperature: float scalar > 0.

    Returns:
        (n,) float32 of exact zeros and ones.

    Reference:
        Jang et al., "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017.
    """
    soft = ops.softmax((scores + gumbel) / temperature, axis=-1)
    hard = ops.one_hot(ops.argmax(soft, axis=-1), 2, dtype=soft.dtype)
    return (hard + (soft - ops.stop_gradient(soft)))[:, 1]
