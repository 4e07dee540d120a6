"""DRCN: deep residual correction network (Li et al., TPAMI 2020), a reconstruction from the abstract."""

import keras
from keras import ops

from isra_keras.layers import dann_coefficient
from isra_keras.losses import cross_entropy, mean_entropy, safe, squared_distances, weighted_mean
from isra_keras.objective import Objective

_BASE = {
    "learning_rate": 1e-3,
    "schedule": {"gamma": 1e-3, "power": 0.75, "period": 1.0, "clamp": None},
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "feature_dim": 256,
    "batch_size": 36,
    "iterations": 5000,
    "eval_interval": 500,
    "multipliers": {
        "backbone": (1.0, 2.0),
        "bottleneck": (10.0, 2.0),
        "classifier": (10.0, 2.0),
        "residual": (10.0, 2.0),
    },
    "options": {},
    "source_sampling": "shuffle",
}


@keras.saving.register_keras_serializable("isra_keras")
class DRCN(Objective):
    """A residual block bends the source features, and only these, so that classes the target lacks stop mattering;
    a class-wise alignment, weighted by how likely the target holds each class, ties the two domains together.

    The authors published no code and only the abstract could be read: every formula below is this library's
    reconstruction, and none of the published numbers is claimed for it. In order:

        (1) g_s = f_s + R(f_s), R = Dense, ReLU, Dense (starts at zero); g_t = f_t; one classifier for both.
        (2) gamma_c = mean over the target of softmax_c, divided by its largest entry; all ones at first.
        (3) L_s = mean_i CE(g_s,i), or sum_i gamma_{y_i} CE_i / sum_i gamma_{y_i}.
        (4) L_w = sum_c gamma_c ||mean of g_s in c - mean of g_t weighted by p_c||^2 under a Gaussian kernel, or plain.
        (5) L_e = mean target entropy;  L = L_s + alpha(t) L_w + beta L_e, alpha(t) = alpha tanh(5 t).

    Prediction leaves the block out: the target never passes it.

    Args:
        alignment_weight: alpha, reached at the end of the ramp.
        entropy_weight: beta.
        kernel: "gaussian" or "linear"; unbounded, the latter wants an `alignment_weight` near 0.01 or diverges to NaN.
        weighted_classification: weights the classification loss by gamma.
        residual_width: hidden units of the block.

    Reference:
        https://arxiv.org/abs/2004.04914 (abstract); optimiser and schedule as in BA3US.
    """

    network_options = {"bottleneck": "linear", "classifier": "dense"}
    multipliers = {"residual": (10.0, 2.0)}
    recipes = {
        "default": _BASE,
        "office_home": _BASE,
        "office31": _BASE | {"learning_rate": 1e-4, "iterations": 2000, "eval_interval": 200},
        "imagenet_caltech": _BASE | {"iterations": 40000, "eval_interval": 4000},
    }

    def __init__(self, alignment_weight=1.0, entropy_weight=0.1, kernel="gaussian", weighted_classification=False,
                 residual_width=256, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        if kernel not in ("linear", "gaussian"):
            raise ValueError(f"Expected kernel 'linear' or 'gaussian'; received {kernel!r}.")
        self.alignment_weight, self.entropy_weight = alignment_weight, entropy_weight
        self.kernel, self.weighted_classification, self.residual_width = kernel, weighted_classification, residual_width

    def build_parts(self, feature_dim, num_classes, pooled_dim, sizes):
        dense1 = keras.layers.Dense(self.residual_width, "relu", name="dense1", dtype="float32")
        dense2 = keras.layers.Dense(feature_dim, kernel_initializer="zeros", name="dense2", dtype="float32")
        self.residual = keras.Sequential([dense1, dense2], name="residual")
        self.residual.build((None, feature_dim))

    def loss_terms(self, views, context):
        source, target, gamma = views.source, views.target, context.class_weights
        corrected = self.correct(source.features)
        logits = ops.cast(context.network.get_layer("classifier")(corrected), "float32")
        probabilities = ops.softmax(target.logits, axis=-1)
        ramp = self.alignment_weight * dann_coefficient(context.step, context.max_iterations)
        alignment = self.alignment(corrected, source.labels, target.features, probabilities, gamma)
        return {
            "classification": self.classification(logits, source.labels, gamma),
            "class_alignment": ramp * alignment,
            "target_entropy": self.entropy_weight * mean_entropy(target.logits, 1e-7),
        }

    def correct(self, features):
        """(1) g_s of the source features f_s (n, d): (n, d)."""
        return features + self.residual(features)

    def classification(self, logits, labels, gamma):
        """(3) Cross-entropy of the corrected source rows, plain or weighted by gamma: float32 scalar."""
        losses = cross_entropy(logits, labels)
        if not self.weighted_classification:
            return ops.mean(losses)
        return weighted_mean(losses, ops.take(gamma, labels, axis=0), epsilon=0.0)

    def alignment(self, source_features, labels, target_features, probabilities, gamma):
        """(4) Class-wise distance of corrected source features (n, d) and target features (m, d).

        Args:
            labels: (n,) int32; classes absent from them are left out.
            probabilities: (m, C) target softmax, taken as a constant; a class that is 0 in all rows is left out too.
            gamma: (C,) class weights.

        Returns:
            float32 scalar.
        """
        members = ops.one_hot(labels, probabilities.shape[-1], dtype="float32")
        counts = ops.sum(members, axis=0)
        mass = ops.sum(probabilities, axis=0)
        gamma = gamma * ops.cast((counts > 0) & (mass > 0), "float32")
        # a_ic = [y_i = c] / n_c and b_jc = p_jc / sum_j p_jc, one column a class.
        a = members / ops.maximum(counts, 1.0)
        b = ops.stop_gradient(probabilities / safe(mass))
        if self.kernel == "linear":
            gap = ops.matmul(ops.transpose(a), source_features) - ops.matmul(ops.transpose(b), target_features)
            return ops.sum(gamma * ops.sum(ops.square(gap), axis=-1))
        joint = ops.concatenate([source_features, target_features], axis=0)
        v = ops.concatenate([a, -b], axis=0)
        return ops.sum(gamma * ops.sum(v * ops.matmul(_gaussian_kernels(joint), v), axis=0))

    def class_weights(self, evaluation):
        """(2) gamma (C,) from the whole target set; its largest entry is one."""
        mean = ops.convert_to_numpy(ops.softmax(evaluation.logits, axis=-1)).mean(axis=0, dtype="float64")
        return (mean / mean.max()).astype("float32")

    def get_config(self):
        return super().get_config() | {
            "alignment_weight": self.alignment_weight,
            "entropy_weight": self.entropy_weight,
            "kernel": self.kernel,
            "weighted_classification": self.weighted_classification,
            "residual_width": self.residual_width,
        }


def _gaussian_kernels(x):
    """Sum of five Gaussian kernels of widths s/4 .. 4s, s the mean squared distance (constant): (N, N) of x (N, d)."""
    distances = squared_distances(x, x)
    rows = ops.cast(ops.shape(x)[0], "float32")
    scale = ops.stop_gradient(ops.maximum(ops.sum(distances) / (rows * rows - rows), 1e-20))
    return sum(ops.exp(-distances / (scale * 2.0**power)) for power in range(-2, 3))
