"""SAN: selective adversarial network (Cao et al., CVPR 2018)."""

import keras
import numpy as np
from keras import ops

from isra_keras.layers import StackedDiscriminator, dann_coefficient, reverse_gradient
from isra_keras.losses import cross_entropy, domain_cross_entropy, masked_entropy, mean_entropy
from isra_keras.objective import Objective

# Hidden widths and initial deviations of the discriminators.
SIZES = {"large": ((1024, 1024), (0.01, 0.01, 0.3)), "small": ((256,), (0.01, 0.01)), "little": ((), (0.01,))}

_BASE = {
    "learning_rate": 3e-4,
    "schedule": {"gamma": 1e-3, "power": 0.75, "period": 1.0, "clamp": None},
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "batch_size": 36,
    "iterations": 5000,
    "eval_interval": 200,
    "multipliers": {p: (10.0, 1.0) for p in ("bottleneck", "classifier", "discriminator")} | {"backbone": (1.0, 1.0)},
    "options": {},
    "source_sampling": "shuffle",
}
_PAPER = _BASE | {"iterations": 50004, "options": {"ramp_iterations": 10000}}
_I_C = {"discriminator": "little", "entropy_weight": 1.0, "ramp_iterations": 10000}
_C_I = {"discriminator": "small", "entropy_weight": 0.1, "ramp_iterations": 10000}


@keras.saving.register_keras_serializable("isra_keras")
class SAN(Objective):
    """One discriminator for each source class, each row handed to them in proportion to its predicted classes, and
    the reversed gradient of a class scaled by how much of the target is predicted as that class: domains are aligned
    within classes, and hardly in those that the target lacks.

        (1) L_ce = mean CE over the source.
        (2) w = m / max m, m_c = mean over the target set of softmax_c; all ones before the first evaluation.
        (3) L_adv = sum_c mean_i BCE(D_c(GRL_c(p_ic f_i)), d_i) over the n rows of both domains, p a constant; the
            reversal's coefficient is w_c (2 / (1 + exp(-10 t / T)) - 1), t = step + 1.
        (4) H = mean over the n rows of the entropy, entries below 1e-6 left out;  L = L_ce + lambda L_adv + e H.

    variant="target" is the above (the authors' script with weights of the whole target); "batch" (their other one)
    takes m in (2) from the n rows of the batch. variant="paper": w_c is the mean of p_c over the target rows of the
    batch, L_adv = sum_c w_c mean_i p_ic BCE(D_c(GRL(f_i)), d_i), and (4) is over the target with e = 1 in the paper.

    Differs from the authors' code: class weights come from one centre crop rather than ten, renewed at every evaluation
    (the recipes' 200 steps are theirs, which begin one step earlier); T is the run's length rather than 10,000 unless
    told; the classifier has C outputs (one of their scripts has 1,000 on Office-31) and without a bottleneck starts
    fresh (ImageNet to Caltech: the authors keep the pretrained one). They have no setting for Office-Home.

    Args:
        variant: "target", "batch" or "paper".
        discriminator: "large" (Office-31), "small" (Caltech to ImageNet), "little" (ImageNet to Caltech), or a list
            of hidden widths.
        entropy_weight: e.
        adversarial_weight: lambda.
        ramp_iterations: T; None is the number of steps of the run.
        dropout: of the discriminators.

    Reference:
        https://arxiv.org/abs/1707.07901; https://github.com/thuml/SAN.
    """

    network_options = {
        "bottleneck": "linear",
        "bottleneck_initializer": [{"class_name": "RandomNormal", "config": {"stddev": 0.005}}, "zeros"],
        "classifier_initializer": [{"class_name": "RandomNormal", "config": {"stddev": 0.01}}, "zeros"],
    }
    joint_forward = True
    multipliers = {"discriminator": (10.0, 1.0)}
    recipes = {
        "default": _BASE,
        "office_home": _PAPER,
        "office31": _PAPER | {"options": {"discriminator": "large", "ramp_iterations": 10000}},
        "imagenet_caltech": _PAPER | {"tasks": {
            "I-C": {"options": _I_C, "network_options": {"bottleneck": "none"}},
            "C-I": {"options": _C_I, "learning_rate": 1e-3},
        }},
    }  # fmt: skip

    def __init__(self, variant="target", discriminator="small", entropy_weight=0.2, adversarial_weight=1.0,
                 ramp_iterations=None, dropout=0.5, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        if variant not in ("target", "batch", "paper"):
            raise ValueError(f"Expected variant 'target', 'batch' or 'paper'; received {variant!r}.")
        if isinstance(discriminator, str) and discriminator not in SIZES:
            raise ValueError(f"Expected discriminator {', '.join(SIZES)} or widths; received {discriminator!r}.")
        self.variant, self.discriminator_size = variant, discriminator
        self.entropy_weight, self.adversarial_weight = entropy_weight, adversarial_weight
        self.ramp_iterations, self.dropout = ramp_iterations, dropout

    def build_parts(self, feature_dim, num_classes, pooled_dim, sizes):
        size = self.discriminator_size
        widths, deviations = SIZES[size] if isinstance(size, str) else (size, None)
        self.discriminator = StackedDiscriminator(num_classes, widths, self.dropout, deviations, name="discriminator")
        self.discriminator.build((num_classes, None, feature_dim))

    def loss_terms(self, views, context):
        source, target = views.source, views.target
        if self.variant == "paper":
            uncertainty = mean_entropy(target.logits, 1e-20)
        else:
            uncertainty = ops.mean(masked_entropy(views.concatenate("logits"), 1e-6))
        return {
            "classification": ops.mean(cross_entropy(source.logits, source.labels)),
            "adversarial": self.adversarial_weight * self.adversarial_loss(views, context),
            "entropy": self.entropy_weight * uncertainty,
        }

    def selection(self, views, context):
        """(2) Class weights w (C,), constant."""
        if self.variant == "target":
            return context.sample_weights(ops.arange(views.source.logits.shape[-1]))
        rows = views.target.logits if self.variant == "paper" else views.concatenate("logits")
        mean = ops.stop_gradient(ops.mean(ops.softmax(rows, axis=-1), axis=0))
        return mean if self.variant == "paper" else mean / ops.max(mean)

    def adversarial_loss(self, views, context, coefficient=None):
        """(3), without lambda: float32 scalar. `coefficient` replaces the ramp's value."""
        if coefficient is None:
            coefficient = dann_coefficient(context.step + 1, self.ramp_iterations or context.max_iterations)
        weights = self.selection(views, context)
        probabilities = ops.stop_gradient(ops.transpose(ops.softmax(views.concatenate("logits"), axis=-1)))
        features = views.concatenate("features")
        domain = ops.concatenate([ops.ones((views.source.size,)), ops.zeros((views.target.size,))])
        if self.variant == "paper":
            domain_logits = self.discriminator(reverse_gradient(features, coefficient), training=context.training)
            losses = probabilities * domain_cross_entropy(domain_logits, domain)
            return ops.sum(weights * ops.mean(losses, axis=1))
        shares = probabilities[:, :, None] * features[None, :, :]  # (C, n, d)
        shares = reverse_gradient(shares, coefficient * weights[:, None, None])
        domain_logits = self.discriminator(shares, training=context.training)
        return ops.sum(ops.mean(domain_cross_entropy(domain_logits, domain), axis=1))

    def class_weights(self, evaluation):
        """(2) w (C,) from the whole target set, its largest entry one; None where the batch gives them."""
        if self.variant != "target":
            return None
        probabilities = ops.convert_to_numpy(ops.softmax(np.asarray(evaluation.logits, "float32"), axis=-1))
        mean = probabilities.mean(axis=0, dtype="float64")
        return (mean / mean.max()).astype("float32")

    def get_config(self):
        names = ("variant", "entropy_weight", "adversarial_weight", "ramp_iterations", "dropout")
        config = {name: getattr(self, name) for name in names}
        size = self.discriminator_size
        return super().get_config() | config | {"discriminator": size if isinstance(size, str) else list(size)}
