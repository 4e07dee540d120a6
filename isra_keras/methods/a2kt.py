"""A2KT: adaptively-accumulated knowledge transfer (Jing et al., ACM MM 2020), a reconstruction from the abstract."""

import keras
import numpy as np
from keras import ops

from isra_keras.layers.prototype_head import PrototypeHead, class_means, one_hot_selected, prototype_logits
from isra_keras.losses import cross_entropy, squared_distances
from isra_keras.losses.pseudo_labels import agreeing_labels
from isra_keras.objective import Objective

_BASE = {
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "schedule": {"name": "constant"},
    "weight_decay": 0.0,
    "feature_dim": 512,
    "batch_size": 128,
    "iterations": 2000,
    "eval_interval": 100,
    "multipliers": {},
    "options": {},
    "source_sampling": "shuffle",
}


@keras.saving.register_keras_serializable("isra_keras")
class A2KT(Objective):
    """Adds confident target samples on which two classifiers agree (an MLP and one of class prototypes) bit by bit, and
    keeps of the source only their classes; same-class features of both domains are pulled together, the centres of
    different classes pushed apart. Meant for precomputed features (backbone "features").

    The authors published no code and only the abstract could be read: every formula below is this library's
    reconstruction, and none of the published numbers is claimed for it. In order:

        (1) g = bottleneck "a2kt"; mu_c = mean of source g of class c; MLP z(g); prototypes cos(g, mu) / tau.
        (2) p = (p_mlp + p_proto) / 2. A target sample is selected if both classifiers agree, max p >= theta and it is
            among the most confident share t of its class; theta falls from 0.9 to 0.5, t = progress grows to 1.
        (3) L_cls = mean over source rows of active classes (those with a selected sample) of CE(mlp) + CE(proto).
        (4) L_t = the same over selected target rows with their pseudo-labels.
        (5) L_center = mean_c ||mu_s^c - mu_t^c||^2 + mean_{a != b} relu(m - ||mu_s^a - mu_t^b||^2).
        (6) L_sample = mean_c mean ||g_i - g_j||^2 over source i and selected target j of class c.
        (7) L = L_cls + L_t + lambda_1 L_center + lambda_2 L_sample; with nothing selected, L_cls over all rows.

    The selection is renewed over the whole target at every evaluation. Prototypes are batch means with gradient;
    a class absent from the batch has its running mean. Prediction is the averaged p, as log p (`target_logits`).

    Args:
        center_weight, sample_weight: lambda_1, lambda_2.
        margin: m, in squared feature distance.
        temperature: tau.
        first_threshold, last_threshold: theta at the start and at the end.

    Reference:
        https://arxiv.org/abs/2008.11873 (abstract).
    """

    network_options = {"bottleneck": "a2kt", "classifier": "dense"}
    recipes = {
        "default": _BASE,
        "office_home": _BASE,
        "office31": _BASE,
        "imagenet_caltech": _BASE | {"iterations": 10000, "eval_interval": 500},
    }

    def __init__(self, center_weight=0.1, sample_weight=0.1, margin=10.0, temperature=0.1, first_threshold=0.9,
                 last_threshold=0.5, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        self.center_weight, self.sample_weight, self.margin = center_weight, sample_weight, margin
        self.temperature, self.first_threshold, self.last_threshold = temperature, first_threshold, last_threshold

    def build_parts(self, feature_dim, num_classes, pooled_dim, sizes):
        self.head = PrototypeHead(num_classes, self.temperature, name="prototypes")
        self.head.build((None, feature_dim))
        self.selected_labels = self.add_target_labels("selected_labels", sizes)  # -1 where not selected
        self.active = self.add_weight(shape=(num_classes,), initializer="zeros", trainable=False, name="active")

    def loss_terms(self, views, context):
        source, target, classes = views.source, views.target, self.active.shape[0]
        pseudo_labels = self.labels_at(self.selected_labels, target.indices)
        active = ops.convert_to_tensor(self.active)
        active = ops.where(ops.any(active > 0), active, ops.ones_like(active))
        members = ops.one_hot(source.labels, classes, dtype="float32")
        selected = one_hot_selected(pseudo_labels, classes)
        centers, known = self.head.centers_for(source.features, members, training=context.training)
        prototypes = [prototype_logits(v.features, centers, known, self.temperature) for v in (source, target)]
        members, selected = members * active, selected * known
        return {
            "classification": self.two_classifiers(source.logits, prototypes[0], members),
            "target_pseudo": self.two_classifiers(target.logits, prototypes[1], selected),
            "center": self.center_weight * self.center_loss(source.features, members, target.features, selected),
            "sample": self.sample_weight * self.sample_loss(source.features, members, target.features, selected),
        }

    def two_classifiers(self, logits, prototypes, members):
        """(3), (4): mean of CE(mlp) + CE(proto) over the rows that have a class in `members` (n, C); 0 without any."""
        labels, weights = ops.argmax(members, axis=-1), ops.sum(members, axis=-1)
        losses = cross_entropy(logits, labels) + cross_entropy(prototypes, labels)
        return ops.sum(weights * losses) / ops.maximum(ops.sum(weights), 1.0)

    def center_loss(self, source, members, target, selected):
        """(5) of features (n, d), (m, d) and their one-hot classes, zero rows where left out: float32 scalar."""
        centre = ops.stop_gradient(ops.mean(target, axis=0))  # near the zeros that stand for absent classes: keeps digits
        distances = squared_distances(class_means(source - centre, members), class_means(target - centre, selected))
        shared = shared_classes(members, selected)
        pairs = shared[:, None] * shared[None, :] * (1.0 - ops.eye(shared.shape[0]))
        pull = ops.sum(shared * ops.diagonal(distances)) / ops.maximum(ops.sum(shared), 1.0)
        return pull + ops.sum(pairs * ops.relu(self.margin - distances)) / ops.maximum(ops.sum(pairs), 1.0)

    def sample_loss(self, source, members, target, selected):
        """(6): float32 scalar."""
        shared = shared_classes(members, selected)
        sums = ops.sum(members * ops.matmul(squared_distances(source, target), selected), axis=0)
        pairs = ops.sum(members, axis=0) * ops.sum(selected, axis=0)
        return ops.sum(sums / ops.maximum(pairs, 1.0)) / ops.maximum(ops.sum(shared), 1.0)

    def target_logits(self, outputs, training=False):
        """log of the averaged probabilities (n, C); the MLP's alone before a prototype exists."""
        return self.head(outputs["features"], outputs["logits"])

    def on_evaluation(self, evaluation):
        """(2) over the whole target; the evaluation's logits are log p of `target_logits`."""
        if not np.any(self.head.known.numpy() > 0):
            return
        progress, seen = float(evaluation.context.progress), evaluation.seen()
        threshold = self.first_threshold + (self.last_threshold - self.first_threshold) * progress
        average = ops.convert_to_numpy(ops.softmax(seen.logits)).astype("float64")
        prototypes = self.head.probabilities(ops.convert_to_tensor(seen.features))
        prototypes = ops.convert_to_numpy(prototypes).astype("float64")
        # p = (p_mlp + p_proto) / 2, so the MLP's are 2 p - p_proto.
        labels = agreeing_labels(2.0 * average - prototypes, prototypes, threshold, min(progress, 1.0))
        self.keep_labels(self.selected_labels, evaluation.in_place(labels))
        self.active.assign(np.bincount(labels[labels >= 0], minlength=average.shape[1]) > 0)

    def get_config(self):
        return super().get_config() | {
            "center_weight": self.center_weight,
            "sample_weight": self.sample_weight,
            "margin": self.margin,
            "temperature": self.temperature,
            "first_threshold": self.first_threshold,
            "last_threshold": self.last_threshold,
        }


def shared_classes(members, selected):
    """(C,) float32, 1 for classes with a row in both one-hot matrices."""
    return ops.cast(ops.any(members > 0, axis=0) & ops.any(selected > 0, axis=0), "float32")
