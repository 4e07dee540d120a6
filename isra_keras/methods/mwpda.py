"""MWPDA: multi-weight partial domain adaptation (Hu et al., BMVC 2019), a reconstruction from the abstract."""

import keras
import numpy as np
from keras import ops

from isra_keras.layers import DomainDiscriminator, dann_coefficient, reverse_gradient
from isra_keras.losses import cross_entropy, domain_cross_entropy, mean_entropy, safe
from isra_keras.objective import Objective

_HEADS = ("bottleneck", "classifier", "discriminator", "shared_classifier")
_BASE = {
    "learning_rate": 1e-3,
    "schedule": {"gamma": 1e-3, "power": 0.75, "period": 1.0, "clamp": None},
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "batch_size": 36,
    "iterations": 5000,
    "eval_interval": 500,
    "multipliers": {part: (10.0, 2.0) for part in _HEADS} | {"backbone": (1.0, 2.0)},
    "options": {},
    "source_sampling": "shuffle",
}


@keras.saving.register_keras_serializable("isra_keras")
class MWPDA(Objective):
    """Otsu's threshold splits the source classes into shared and outlier ones by their share of target predictions,
    and a second classifier learns to tell rows of the two apart; class weight times row weight goes to the source's
    cross-entropy and to its adversarial loss.

    The authors published no code and only the abstract could be read: every formula below is this library's
    reconstruction, and none of the published numbers is claimed for it.

        (1) gamma = mean over the target set of softmax;  s_c = 1 where gamma_c is above Otsu's threshold, else 0.
        (2) w = gamma / max gamma + s, divided by its mean over the classes; w and s all ones at first.
        (3) L_shared = mean BCE(S(stop(f_i)), s_{y_i}) over the source;  v_i = S(f_i), a constant.
        (4) u_i = w_{y_i} v_i divided by its mean over the batch, a constant.
        (5) L_cls = mean_i u_i CE_i;  L_adv = mean_i u_i BCE(D(GRL(f_s)), 1) + mean_j BCE(D(GRL(f_t)), 0), reversed
            with 2 / (1 + exp(-10 t)) - 1, t = step / steps;  L_ent = mean target entropy.
        (6) L = L_cls + L_adv + 0.1 L_ent + L_shared.

    Otsu always splits: where the groups of (1) differ by less than `separation` of the larger mean, s is all ones.

    Args:
        adversarial_weight, entropy_weight, shared_weight: of the terms of (6).
        separation: see above; 0 always splits.
        discriminator_width, dropout: of D and S.

    Reference:
        Hu et al., "Multi-Weight Partial Domain Adaptation", BMVC 2019 (abstract); Otsu, "A Threshold Selection
        Method from Gray-Level Histograms", 1979; optimiser and schedule as in BA3US.
    """

    network_options = {"bottleneck": "linear", "classifier": "dense"}
    multipliers = {"discriminator": (10.0, 2.0), "shared_classifier": (10.0, 2.0)}
    recipes = {
        "default": _BASE,
        "office_home": _BASE,
        "office31": _BASE | {"learning_rate": 1e-4, "iterations": 2000, "eval_interval": 200},
        "imagenet_caltech": _BASE | {"iterations": 40000, "eval_interval": 4000},
    }

    def __init__(self, adversarial_weight=1.0, entropy_weight=0.1, shared_weight=1.0, separation=0.5,
                 discriminator_width=1024, dropout=0.5, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        self.adversarial_weight, self.entropy_weight = adversarial_weight, entropy_weight
        self.shared_weight, self.separation = shared_weight, separation
        self.discriminator_width, self.dropout = discriminator_width, dropout
        self.discriminator = DomainDiscriminator(discriminator_width, dropout, name="discriminator")
        self.shared_classifier = DomainDiscriminator(discriminator_width, dropout, name="shared_classifier")

    def build_parts(self, feature_dim, num_classes, pooled_dim, sizes):
        self.discriminator.build((None, feature_dim))
        self.shared_classifier.build((None, feature_dim))
        self.shared_classes = self.add_weight((num_classes,), "ones", trainable=False, name="shared_classes")

    def loss_terms(self, views, context):
        source = views.source
        shared_logits = self.shared_classifier(ops.stop_gradient(source.features), training=context.training)
        shared = ops.take(ops.convert_to_tensor(self.shared_classes), source.labels, axis=0)
        weights = self.combined_weights(shared_logits, source.labels, context)
        return {
            "classification": ops.mean(weights * cross_entropy(source.logits, source.labels)),
            "adversarial": self.adversarial_weight * self.adversarial_loss(views, weights, context),
            "target_entropy": self.entropy_weight * mean_entropy(views.target.logits, 1e-7),
            "shared": self.shared_weight * ops.mean(domain_cross_entropy(shared_logits, shared)),
        }

    def combined_weights(self, shared_logits, labels, context):
        """(4) u (n,) of the source rows' logits of S (n,) and labels, constant."""
        weights = context.sample_weights(labels) * ops.sigmoid(shared_logits)
        return ops.stop_gradient(weights / safe(ops.mean(weights)))

    def adversarial_loss(self, views, weights, context, coefficient=None):
        """L_adv of (5): float32 scalar. `coefficient` replaces the ramp's value."""
        if coefficient is None:
            coefficient = dann_coefficient(context.step, context.max_iterations)
        features = reverse_gradient(views.concatenate("features"), coefficient)
        domain_logits = self.discriminator(features, training=context.training)
        source = domain_cross_entropy(domain_logits[: views.source.size], 1.0)
        target = domain_cross_entropy(domain_logits[views.source.size :], 0.0)
        return ops.mean(weights * source) + ops.mean(target)

    def class_weights(self, evaluation):
        """(2) w (C,) from the whole target set; mean one."""
        gamma = mean_prediction(evaluation)
        weights = gamma / gamma.max() + shared_classes(gamma, self.separation)
        return (weights / weights.mean()).astype("float32")

    def on_evaluation(self, evaluation):
        self.shared_classes.assign(shared_classes(mean_prediction(evaluation.seen()), self.separation).astype("float32"))

    def diagnostics(self, views, context):
        """Number of classes that count as shared."""
        return {"shared_classes": ops.sum(ops.convert_to_tensor(self.shared_classes))}

    def get_config(self):
        names = ("adversarial_weight", "entropy_weight", "shared_weight", "separation", "discriminator_width",
                 "dropout")  # fmt: skip
        return super().get_config() | {name: getattr(self, name) for name in names}


def mean_prediction(evaluation):
    """gamma of (1), float64 (C,)."""
    return ops.convert_to_numpy(ops.softmax(np.asarray(evaluation.logits, "float32"))).mean(axis=0, dtype="float64")


def otsu_threshold(values):
    """The cut of (C,) values with the largest w0 w1 (mu0 - mu1)^2, midway between neighbours; None if all are equal."""
    ordered = np.sort(np.asarray(values, "float64"))
    cuts = np.flatnonzero(np.diff(ordered) > 0) + 1  # sizes of the lower group
    if len(cuts) == 0:
        return None
    sums, count = np.cumsum(ordered), len(ordered)
    gaps = sums[cuts - 1] / cuts - (sums[-1] - sums[cuts - 1]) / (count - cuts)
    between = cuts * (count - cuts) * gaps**2
    best = cuts[np.argmax(between >= between.max() * (1.0 - 1e-12))]  # the first of equals, which differ by roundings
    return 0.5 * (ordered[best - 1] + ordered[best])


def shared_classes(gamma, separation=0.5):
    """s of (1), float64 (C,) of zeros and ones, all ones where the groups lie closer together than `separation`."""
    threshold = otsu_threshold(gamma)
    if threshold is None:
        return np.ones(len(gamma))
    shared = gamma > threshold
    low, high = gamma[~shared].mean(), gamma[shared].mean()
    return shared.astype("float64") if (high - low) / high >= separation else np.ones(len(gamma))
