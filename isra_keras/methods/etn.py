"""ETN: example transfer network (Cao et al., CVPR 2019)."""

import math

import keras
from keras import ops

from isra_keras.initializers import TorchUniform
from isra_keras.layers import DomainDiscriminator, dann_coefficient, reverse_gradient
from isra_keras.losses import cross_entropy, domain_cross_entropy, log_add_exp, mean_entropy
from isra_keras.objective import Objective

_HEADS = ("bottleneck", "classifier", "discriminator", "auxiliary")
_BASE = {
    "learning_rate": 1e-4,  # of the backbone; the authors' lr 1e-3 is that of the heads
    "schedule": {"gamma": 10.0, "power": 0.75, "period": 10000.0, "clamp": 10000},
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "batch_size": 36,
    "iterations": 5000,
    "eval_interval": 500,
    "multipliers": {part: (10.0, 1.0) for part in _HEADS} | {"backbone": (1.0, 1.0)},
    "options": {},
    "source_sampling": "balanced",
}
_PAPER = _BASE | {"iterations": 20000, "options": {"ramp_iterations": 10000}}


@keras.saving.register_keras_serializable("isra_keras")
class ETN(Objective):
    """An auxiliary classifier, trained on detached features to name the class and to tell the domain at once, says
    how transferable each source row is; that weight goes to the row's cross-entropy and to its adversarial loss.

        (1) q_ic = exp(a_ic) / (C + sum_j exp(a_ij)) of the auxiliary logits a (leaky softmax), G_i = sum_c q_ic.
        (2) u_i = 1 - G_i on the source;  w_i = u_i / (mean(u) + 1e-10), a constant.
        (3) L_ce = mean_i w_i CE_i;  L_adv = mean_i w_i BCE(D(GRL(f_s)), 1) + mean_j BCE(D(GRL(f_t)), 0).
        (4) L_ent = mean target entropy.
        (5) L_auxce = -mean_i sum_c [y_ic log q_ic + (1 - y_ic) log(1 - q_ic)] over the source.
        (6) L_auxadv = mean BCE(G_s, 1) + mean BCE(G_t, 0); (5) and (6) train the auxiliary classifier alone.
        (7) L = L_ce + a_1 L_adv + a_2 L_ent + a_3 L_auxadv + a_4 L_auxce.
        The reversal's coefficient is 2 / (1 + exp(-10 t / T)) - 1 with t = 2 step on the source, 2 step + 1 on the
        target: the authors' discriminator counts its calls, of which a step makes two, so the ramp is done at T / 2.

    Differs from the authors' code: logarithms of (5) and (6) in closed form, where theirs lose all digits when G
    nears 1; T is the run's length rather than 10,000 unless told; their frozen batch normalisation in the first
    layer learns here. Their source sampler balances the classes: the recipe's "balanced". They publish settings for
    Office-Home; those of the other data sets are the same here.

    Args:
        adversarial_weight, entropy_weight, auxiliary_domain_weight, auxiliary_class_weight: a_1 to a_4.
        ramp_iterations: T; None is the number of steps of the run. There is no clamp beyond it.
        discriminator_width, dropout: of discriminator and auxiliary classifier.

    Reference:
        https://arxiv.org/abs/1903.12230; https://github.com/thuml/ETN.
    """

    network_options = {
        "bottleneck": "linear", "bottleneck_initializer": "torch", "classifier_initializer": "torch",
    }  # fmt: skip
    multipliers = {"discriminator": (10.0, 1.0), "auxiliary": (10.0, 1.0)}
    recipes = {"default": _BASE, "office_home": _PAPER, "office31": _PAPER, "imagenet_caltech": _PAPER}

    def __init__(self, adversarial_weight=1.0, entropy_weight=0.2, auxiliary_domain_weight=10.0,
                 auxiliary_class_weight=1.0, ramp_iterations=None, discriminator_width=1024, dropout=0.5,
                 **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        self.adversarial_weight, self.entropy_weight = adversarial_weight, entropy_weight
        self.auxiliary_domain_weight = auxiliary_domain_weight
        self.auxiliary_class_weight = auxiliary_class_weight
        self.ramp_iterations = ramp_iterations
        self.discriminator_width, self.dropout = discriminator_width, dropout

    def build_parts(self, feature_dim, num_classes, pooled_dim, sizes):
        width = self.discriminator_width
        for name, units in (("discriminator", 1), ("auxiliary", num_classes)):
            biases = [TorchUniform(fan_in) for fan_in in (feature_dim, width, width)]
            part = DomainDiscriminator(width, self.dropout, units, TorchUniform(), biases, name=name)
            part.build((None, feature_dim))
            setattr(self, name, part)

    def loss_terms(self, views, context):
        source, target = views.source, views.target
        auxiliary_source = self.auxiliary_logits(source.features, context)
        auxiliary_target = self.auxiliary_logits(target.features, context)
        weights = self.importance_weights(auxiliary_source)
        return {
            "classification": ops.mean(weights * cross_entropy(source.logits, source.labels)),
            "adversarial": self.adversarial_weight * self.adversarial_loss(views, weights, context),
            "target_entropy": self.entropy_weight * mean_entropy(target.logits, 1e-20),
            "auxiliary_domain": self.auxiliary_domain_weight
            * self.auxiliary_domain_loss(auxiliary_source, auxiliary_target),
            "auxiliary_class": self.auxiliary_class_weight * auxiliary_class_loss(auxiliary_source, source.labels),
        }

    def auxiliary_logits(self, features, context):
        """a (n, C) of features (n, d), which get no gradient."""
        logits = self.auxiliary(ops.stop_gradient(features), training=context.training)
        return logits if len(logits.shape) == 2 else logits[:, None]  # of one class the layer gives (n,)

    def importance_weights(self, auxiliary_source):
        """(2) w (n,) of the source rows' auxiliary logits, constant."""
        unlikely = ops.sigmoid(-auxiliary_domain_logits(ops.stop_gradient(auxiliary_source)))
        return unlikely / (ops.mean(unlikely) + 1e-10)

    def adversarial_loss(self, views, weights, context):
        """(3), without a_1: float32 scalar."""
        rows = []
        for number, view in enumerate((views.source, views.target)):
            ramp = dann_coefficient(2 * context.step + number, self.ramp_iterations or context.max_iterations)
            domain_logits = self.discriminator(reverse_gradient(view.features, ramp), training=context.training)
            rows.append(domain_cross_entropy(domain_logits, 1.0 - number))
        return ops.mean(weights * rows[0]) + ops.mean(rows[1])

    def auxiliary_domain_loss(self, auxiliary_source, auxiliary_target):
        """(6) of auxiliary logits: float32 scalar."""
        source = domain_cross_entropy(auxiliary_domain_logits(auxiliary_source), 1.0)
        target = domain_cross_entropy(auxiliary_domain_logits(auxiliary_target), 0.0)
        return ops.mean(source) + ops.mean(target)

    def get_config(self):
        names = ("adversarial_weight", "entropy_weight", "auxiliary_domain_weight", "auxiliary_class_weight",
                 "ramp_iterations", "discriminator_width", "dropout")  # fmt: skip
        return super().get_config() | {name: getattr(self, name) for name in names}


def auxiliary_domain_logits(logits):
    """log(G / (1 - G)) = log sum_c exp(a_c) - log C, (n,) of auxiliary logits (n, C): (1) in closed form."""
    return ops.logsumexp(logits, axis=-1) - math.log(logits.shape[-1])


def leaky_log_softmax(logits):
    """(1) log q and log(1 - q), both (n, C), of auxiliary logits (n, C)."""
    constant = math.log(logits.shape[-1])
    total = log_add_exp(ops.logsumexp(logits, axis=-1, keepdims=True), constant)
    log_q = logits - total
    # 1 - q of the largest class: the sum over the others, exact when q is near 1; the rest have q <= 1/2.
    largest = ops.one_hot(ops.argmax(logits, axis=-1), logits.shape[-1], dtype="float32") > 0
    others = ops.logsumexp(ops.where(largest, -1e30, logits), axis=-1, keepdims=True)
    small = ops.log1p(-ops.exp(ops.minimum(log_q, -0.5)))
    return log_q, ops.where(largest, log_add_exp(others, constant) - total, small)


def auxiliary_class_loss(logits, labels):
    """(5) of the source rows' auxiliary logits (n, C) and labels (n,): float32 scalar."""
    log_q, log_rest = leaky_log_softmax(logits)
    own = ops.one_hot(labels, logits.shape[-1], dtype="float32")
    return -ops.mean(ops.sum(own * log_q + (1.0 - own) * log_rest, axis=-1))
