"""class2vec: the auto-encoder whose hidden units are the implicit semantic topics (Eq. 1)."""

import keras
from keras import ops

from isra_keras.initializers import TorchUniform


@keras.saving.register_keras_serializable("isra_keras")
class Class2Vec(keras.layers.Layer):
    """Encoder f and decoder h, one dense layer with ReLU each: (n, d) -> embeddings (n, J), reconstructions (n, d).

    The decoder's ReLU follows the authors' code: reconstructions are >= 0 although features are not, so the
    reconstruction loss has a floor made of the negative features. Always float32.

    Args:
        num_topics: J, d_e in the paper.
    """

    def __init__(self, num_topics, **kwargs):
        kwargs.setdefault("name", "class2vec")
        super().__init__(dtype="float32", **{k: v for k, v in kwargs.items() if k != "dtype"})
        self.num_topics = num_topics
        self.encoder = None
        self.decoder = None

    def build(self, input_shape):
        width = input_shape[-1]
        self.encoder = _dense(self.num_topics, width, "encoder")
        self.decoder = _dense(width, self.num_topics, "decoder")
        self.encoder.build((None, width))
        self.decoder.build((None, self.num_topics))
        self.built = True

    def call(self, features):
        embeddings = self.encoder(features)
        return embeddings, self.decoder(embeddings)

    def get_config(self):
        return super().get_config() | {"num_topics": self.num_topics}


def _dense(units, fan_in, name):
    """Dense + ReLU with PyTorch's default initialisation."""
    return keras.layers.Dense(
        units,
        activation="relu",
        kernel_initializer=TorchUniform(fan_in),
        bias_initializer=TorchUniform(fan_in),
        dtype="float32",
        name=name,
    )


def reconstruction_error(features, reconstructions):
    """Squared error per row, summed over the features: (n, d), (n, d) -> (n,) float32."""
    return ops.sum(ops.square(features - reconstructions), axis=-1)
