"""A functional model whose variables keep their part's name in their paths, also after loading."""

import keras


@keras.saving.register_keras_serializable("isra_keras")
class NetworkPart(keras.Model):
    """`keras.Model(inputs, outputs, name=…)` that rebuilds itself under its own name scope.

    A plain functional model loses the scope when it is loaded: "network/backbone/conv1/kernel" would become
    "conv1/kernel", and whoever picks variables by path would find none.

    Example:
        >>> with keras.name_scope("network"), keras.name_scope("backbone"):
        ...     inputs = keras.Input((4,))
        ...     part = NetworkPart(inputs, keras.layers.Dense(2)(inputs), name="backbone")
    """

    @classmethod
    def from_config(cls, config, custom_objects=None):
        with keras.name_scope(config["name"]):
            return super().from_config(config, custom_objects=custom_objects)


@keras.saving.register_keras_serializable("isra_keras")
class FixedStatisticsPart(NetworkPart):
    """A `NetworkPart` that always runs in evaluation mode: its batch normalisation neither uses nor renews the
    statistics of a batch. All weights learn, the scales and offsets of the normalisation too."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)
