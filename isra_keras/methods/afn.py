"""AFN: adaptive feature norm, stepwise or hard (Xu et al., "Larger Norm More Transferable", ICCV 2019)."""

import keras
from keras import ops

from isra_keras.losses import cross_entropy, masked_entropy
from isra_keras.objective import Objective, Stage

_BASE = {
    "learning_rate": 1e-3,
    "schedule": {"name": "constant"},
    "momentum": 0.9,
    "part_momentum": {"backbone": 0.0},
    "nesterov": False,
    "weight_decay": 5e-4,
    "feature_dim": 1000,
    "batch_size": 32,
    "iterations": 9000,
    "eval_interval": 500,
    "multipliers": {"backbone": (1.0, 1.0), "bottleneck": (1.0, 1.0), "classifier": (1.0, 1.0)},
    "options": {},
    "source_sampling": "shuffle",
}


@keras.saving.register_keras_serializable("isra_keras")
class AFN(Objective):
    """Pulls the norms of source and target features outwards, step by step or to a common radius, since features
    of small norm are the ones that transfer badly. No adversary and no class weights: classes only the source has
    are never aligned with anything.

        (1) L = mean CE(source) + lambda N(e_s) + lambda N(e_t) [+ epsilon H(target)],  e the bottleneck features.
        (2) SAFN: N(e) = mean_i (||e_i|| - (stop(||e_i||) + delta))^2; its value is always delta^2, so watch the
            diagnostics `source_norm` and `target_norm` instead.
        (3) HAFN: N(e) = (mean_i ||e_i|| - R)^2, after a first stage on the source alone.

    Differs from the authors' code: a row of zeros has norm 0 and no gradient (theirs: NaN); a run is counted in
    steps rather than epochs of the target, whose length depends on the task (the recipe's 9,000 steps are their 180
    epochs on an average Office-Home task); in HAFN's first stage the target also passes the network and moves the
    running BN statistics. The recipes of Office-31 and ImageNet-Caltech are ours: the authors give none.

    Args:
        variant: "safn" or "hafn".
        norm_weight: lambda.
        delta: how far a step pulls, SAFN.
        radius: R, HAFN.
        entropy_weight: epsilon, 0.1 in the authors' "SAFN+ENT".
        source_share: share of the steps that HAFN trains on the source alone.

    Reference:
        https://arxiv.org/abs/1811.07456, equations 5 (HAFN) and 7 (SAFN); the official repository.
    """

    network_options = {"bottleneck": "afn", "classifier": "dense"}
    recipes = {
        "default": _BASE,
        "office_home": _BASE,
        "office31": _BASE | {"iterations": 3000, "eval_interval": 300},
        "imagenet_caltech": _BASE | {"iterations": 50000, "eval_interval": 5000},
    }

    def __init__(self, variant="safn", norm_weight=0.05, delta=1.0, radius=25.0, entropy_weight=0.0,
                 source_share=1 / 3, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        if variant not in ("safn", "hafn"):
            raise ValueError(f"Expected variant 'safn' or 'hafn'; received {variant!r}.")
        self.variant, self.norm_weight, self.delta, self.radius = variant, norm_weight, delta, radius
        self.entropy_weight, self.source_share = entropy_weight, source_share

    def stages(self):
        """One stage; two for HAFN."""
        if self.variant == "safn":
            return (Stage(),)
        return (Stage("source", self.source_share, source_only=True), Stage("adapt", 1.0 - self.source_share))

    def loss_terms(self, views, context):
        norm_loss = self.stepwise_norm_loss if self.variant == "safn" else self.hard_norm_loss
        terms = {
            "classification": ops.mean(cross_entropy(views.source.logits, views.source.labels)),
            "norm_source": self.norm_weight * norm_loss(views.source.features),
        }
        if context.stage == "source":
            return terms
        terms["norm_target"] = self.norm_weight * norm_loss(views.target.features)
        if self.entropy_weight > 0:
            terms["target_entropy"] = self.entropy_weight * ops.mean(masked_entropy(views.target.logits, 1e-6))
        return terms

    def stepwise_norm_loss(self, features):
        """(2) of features (n, d): float32 scalar, always delta^2; the gradient is -2 delta / n e_i / ||e_i||."""
        norms = feature_norms(features)
        return ops.mean(ops.square(norms - ops.stop_gradient(norms) - self.delta))

    def hard_norm_loss(self, features):
        """(3) of features (n, d): float32 scalar."""
        return ops.square(ops.mean(feature_norms(features)) - self.radius)

    def diagnostics(self, views, context):
        """Mean feature norms, which grow while the method works."""
        return {
            "source_norm": ops.mean(feature_norms(views.source.features)),
            "target_norm": ops.mean(feature_norms(views.target.features)),
        }

    def get_config(self):
        return super().get_config() | {
            "variant": self.variant,
            "norm_weight": self.norm_weight,
            "delta": self.delta,
            "radius": self.radius,
            "entropy_weight": self.entropy_weight,
            "source_share": self.source_share,
        }


def feature_norms(features):
    """L2 norms (n,) float32 of features (n, d); 0 with zero gradient for a row of zeros."""
    squares = ops.sum(ops.square(ops.cast(features, "float32")), axis=-1)
    positive = squares > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, squares, 1.0)), 0.0)
