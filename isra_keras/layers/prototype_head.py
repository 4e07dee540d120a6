"""A classifier of class prototypes, its running centres, and its average with the network's own classifier (A2KT)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("isra_keras")
class PrototypeHead(keras.layers.Layer):
    """(features (n, d), logits (n, C)) -> log of the mean of softmax(logits) and the prototypes' softmax, (n, C).

    Prototypes are the running means of the source features of each class. Before the first of them exists, the
    result is log softmax(logits). Computes in float32.

    Args:
        num_classes: C.
        temperature: divides the cosines.
        momentum: share of a running centre that stays when its class is in a batch.
    """

    def __init__(self, num_classes, temperature=0.1, momentum=0.9, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.num_classes, self.temperature, self.momentum = num_classes, temperature, momentum

    def build(self, features_shape, logits_shape=None):
        shape = (self.num_classes, features_shape[-1])
        self.centers = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="centers")
        self.known = self.add_weight(
            shape=(self.num_classes,), initializer="zeros", trainable=False, name="known"
        )  # fmt: skip

    def call(self, features, logits):
        own, prototypes = ops.softmax(logits, axis=-1), self.probabilities(features)
        average = ops.where(ops.any(self.known > 0), 0.5 * (own + prototypes), own)
        return ops.log(ops.maximum(average, 1e-30))

    def compute_output_shape(self, features_shape, logits_shape=None):
        return (features_shape[0], self.num_classes)

    def probabilities(self, features):
        """Softmax of the prototypes (n, C); 0 for classes never seen."""
        logits = prototype_logits(features, self.centers, self.known, self.temperature)
        return ops.softmax(logits, axis=-1)

    def centers_for(self, features, members, training=True):
        """Centres of a source batch: means with gradient, running centres (constants) for classes it lacks.

        Args:
            features: (n, d) float32.
            members: (n, C) float32 one-hot labels.
            training: moves the running centres towards the batch's.

        Returns:
            ((C, d) centres, (C,) float32, 1 where there is one).
        """
        present = ops.any(members > 0, axis=0)
        means = class_means(features, members)
        running, known = ops.convert_to_tensor(self.centers), ops.convert_to_tensor(self.known)
        if training:
            moved = self.momentum * running + (1.0 - self.momentum) * ops.stop_gradient(means)
            moved = ops.where(known[:, None] > 0, moved, ops.stop_gradient(means))
            self.centers.assign(ops.where(present[:, None], moved, running))
            self.known.assign(ops.maximum(known, ops.cast(present, "float32")))
        return ops.where(present[:, None], means, running), ops.maximum(known, ops.cast(present, "float32"))

    def get_config(self):
        config = {"num_classes": self.num_classes, "temperature": self.temperature, "momentum": self.momentum}
        return super().get_config() | config


def one_hot_selected(labels, classes):
    """(n, C) float32 one-hot rows of int32 labels, zeros for -1."""
    chosen = ops.cast(labels >= 0, "float32")
    return chosen[:, None] * ops.one_hot(ops.maximum(labels, 0), classes, dtype="float32")


def class_means(features, members):
    """Mean of the rows of each class: features (n, d), members (n, C) of zeros and ones -> (C, d); 0 where empty."""
    counts = ops.sum(members, axis=0)
    return ops.matmul(ops.transpose(members), features) / ops.maximum(counts, 1.0)[:, None]


def prototype_logits(features, centers, known, temperature):
    """cos(features, centers) / temperature: (n, d), (C, d) -> (n, C); -1e4 where `known` (C,) is 0."""
    cosines = ops.matmul(_unit(features), ops.transpose(_unit(centers)))
    return ops.where(known > 0, cosines / temperature, -1e4)


def _unit(rows):
    return rows * ops.rsqrt(ops.maximum(ops.sum(ops.square(rows), axis=-1, keepdims=True), 1e-24))
