"""PADA: partial adversarial domain adaptation (Cao et al., ECCV 2018)."""

import keras
import numpy as np
from keras import ops

from isra_keras.layers import DomainDiscriminator, dann_coefficient, reverse_gradient
from isra_keras.losses import cross_entropy, domain_cross_entropy, safe, weighted_mean
from isra_keras.objective import Objective

_BASE = {
    "learning_rate": 3e-4,
    "schedule": {"gamma": 1e-3, "power": 0.75, "period": 1.0, "clamp": None},
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "batch_size": 36,
    "iterations": 5000,
    "eval_interval": 500,
    "multipliers": {p: (10.0, 1.0) for p in ("bottleneck", "classifier", "discriminator")} | {"backbone": (1.0, 1.0)},
    "options": {},
    "source_sampling": "shuffle",
}
_PAPER = _BASE | {"iterations": 12004, "options": {"ramp_iterations": 10000}}
_TLLIB = {"learning_rate": 2e-4, "weight_decay": 1e-3, "iterations": 30000, "eval_interval": 500}
_TLLIB_OPTIONS = {"variant": "tllib", "temperature": 0.01, "ramp_iterations": 10000}
_TLLIB_OFFICE31 = {"iterations": 20000, "options": _TLLIB_OPTIONS | {"temperature": 0.1}}
_TLLIB_CALTECH = {"learning_rate": 3e-4, "iterations": 40000, "eval_interval": 2000}


def _task(learning_rate, high=1.0, sharpness=1.0, eval_interval=500):
    """What the authors set for one task: lr0, upper bound of the reversal, sharpening, steps between weights."""
    options = {"high": high, "temperature": 1.0 / sharpness, "ramp_iterations": 10000}
    return {"learning_rate": learning_rate, "eval_interval": eval_interval, "options": options}


@keras.saving.register_keras_serializable("isra_keras")
class PADA(Objective):
    """DANN with class weights: source classes that the network hardly ever predicts on the target count little, both
    for the classifier and for the discriminator, so that they stop pulling target features towards them.

        (1) gamma = mean over the target set of softmax(z / temperature), divided by its mean; ones at first.
        (2) L_ce = sum_i gamma_{y_i} CE_i / sum_i gamma_{y_i}.
        (3) v_i = gamma_{y_i} / max of gamma_y over the batch on the source, 1 on the target.
        (4) L_adv = (1/n) sum over both domains of v_i BCE(D(GRL(f_i)), d_i);  L = L_ce + lambda L_adv.
            The reversal's coefficient is high (2 / (1 + exp(-10 t / T)) - 1), t = step + 1.

    variant="tllib", the port in TLLib: (1) is divided by its maximum; (4) is (mean_s gamma_y BCE + mean(gamma_y)
    mean_t BCE) / 2 with t = step; bottleneck and discriminator have batch normalisation, the latter no dropout.

    As in the authors' code; the paper divides gamma by its maximum and by the number of rows instead. Differs from
    the code: class weights come from one centre crop rather than ten crops (TLLib: random crops of training), one step
    later; T is the run's length rather than 10,000 unless told; source rows whose gamma are all 0 weigh 0 (theirs:
    NaN); without a bottleneck the classifier starts fresh (ImageNet to Caltech: the authors keep the pretrained one).

    Args:
        variant: "official" or "tllib".
        temperature: of the softmax in (1); 0.1 for most of the authors' Office-Home tasks and TLLib's Office-31.
        high: upper bound of the reversal's coefficient.
        adversarial_weight: lambda.
        ramp_iterations: T; None is the number of steps of the run.
        discriminator_width, dropout: of the domain discriminator.

    Reference:
        https://arxiv.org/abs/1808.04205; https://github.com/thuml/PADA.
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
        "office_home": _PAPER | {"tasks": {
            "Rw-Ar": _task(3e-4), "Rw-Cl": _task(1e-3, 1.0, 10), "Rw-Pr": _task(1e-3, 1.0, 10),
            "Ar-Cl": _task(3e-4, 0.5, 10), "Ar-Pr": _task(3e-4, 0.5, 10), "Ar-Rw": _task(3e-4, 0.25, 10),
            "Pr-Ar": _task(3e-4, 0.5, 10), "Pr-Cl": _task(3e-4, 0.5, 10), "Pr-Rw": _task(3e-4, 0.3, 10),
            "Cl-Ar": _task(3e-4, 0.5, 10), "Cl-Pr": _task(3e-4, 0.5, 10), "Cl-Rw": _task(3e-4, 0.5, 10, 1000),
        }},
        "office31": _PAPER | {"learning_rate": 1e-3, "tasks": {"D-A": _task(3e-4), "W-A": _task(3e-4)}},
        "imagenet_caltech": _PAPER | {"tasks": {
            "I-C": _task(3e-4, eval_interval=2000) | {"network_options": {"bottleneck": "none"}}, "C-I": _task(1e-3),
        }},
        "tllib": _PAPER | _TLLIB | {"options": _TLLIB_OPTIONS, "tasks": {
            **dict.fromkeys(("A-D", "A-W", "D-A", "D-W", "W-A", "W-D"), _TLLIB_OFFICE31),
            **dict.fromkeys(("I-C", "C-I"), _TLLIB_CALTECH),
        }},
    }  # fmt: skip

    def __init__(self, variant="official", temperature=1.0, high=1.0, adversarial_weight=1.0, ramp_iterations=None,
                 discriminator_width=1024, dropout=0.5, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        if variant not in ("official", "tllib"):
            raise ValueError(f"Expected variant 'official' or 'tllib'; received {variant!r}.")
        self.variant, self.temperature, self.high = variant, temperature, high
        self.adversarial_weight, self.ramp_iterations = adversarial_weight, ramp_iterations
        self.discriminator_width, self.dropout = discriminator_width, dropout
        tllib = variant == "tllib"
        if tllib:
            initializers = {"bottleneck_initializer": "torch", "classifier_initializer": "torch"}
            self.network_options = {"bottleneck": "bn_relu"} | initializers
        normals = [keras.initializers.RandomNormal(0.0, deviation) for deviation in (0.01, 0.01, 0.3)]
        self.discriminator = DomainDiscriminator(
            discriminator_width, 0.0 if tllib else dropout, 1, normals, batch_norm=tllib, name="discriminator"
        )

    def build_parts(self, feature_dim, num_classes, pooled_dim, sizes):
        self.discriminator.build((None, feature_dim))

    def loss_terms(self, views, context):
        gamma = context.sample_weights(views.source.labels)
        losses = cross_entropy(views.source.logits, views.source.labels)
        return {
            "classification": weighted_mean(losses, gamma, epsilon=0.0),
            "adversarial": self.adversarial_weight * self.adversarial_loss(views, context),
        }

    def row_weights(self, labels, context):
        """(3): weights v of source rows (n_s,) and of every target row, a scalar."""
        gamma = context.sample_weights(labels)
        if self.variant == "tllib":
            return gamma, ops.mean(gamma)
        return gamma / safe(ops.max(gamma)), 1.0

    def adversarial_loss(self, views, context):
        """(4), without lambda: float32 scalar."""
        step = context.step if self.variant == "tllib" else context.step + 1
        coefficient = dann_coefficient(step, self.ramp_iterations or context.max_iterations, self.high)
        features = reverse_gradient(views.concatenate("features"), coefficient)
        domain_logits = self.discriminator(features, training=context.training)
        source_weights, target_weight = self.row_weights(views.source.labels, context)
        source = source_weights * domain_cross_entropy(domain_logits[: views.source.size], 1.0)
        target = target_weight * domain_cross_entropy(domain_logits[views.source.size :], 0.0)
        if self.variant == "tllib":
            return 0.5 * (ops.mean(source) + ops.mean(target))
        return ops.mean(ops.concatenate([source, target]))

    def class_weights(self, evaluation):
        """(1) gamma (C,) from the whole target set; mean one (tllib: maximum one)."""
        probabilities = ops.softmax(np.asarray(evaluation.logits, "float32") / self.temperature, axis=-1)
        mean = ops.convert_to_numpy(probabilities).mean(axis=0, dtype="float64")
        return (mean / (mean.max() if self.variant == "tllib" else mean.mean())).astype("float32")

    def get_config(self):
        names = ("variant", "temperature", "high", "adversarial_weight", "ramp_iterations", "discriminator_width",
                 "dropout")  # fmt: skip
        return super().get_config() | {name: getattr(self, name) for name in names}
