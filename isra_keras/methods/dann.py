"""DANN: domain-adversarial training (Ganin et al., JMLR 2016)."""

import keras
from keras import ops

from isra_keras.layers import DomainDiscriminator, dann_coefficient, reverse_gradient
from isra_keras.losses import cross_entropy, domain_cross_entropy
from isra_keras.objective import Objective

_BASE = {
    "learning_rate": 1e-3,
    "schedule": {"gamma": 1e-3, "power": 0.75, "period": 1.0, "clamp": None},
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "batch_size": 36,
    "iterations": 5000,
    "eval_interval": 500,
    "multipliers": {
        "backbone": (1.0, 2.0),
        "bottleneck": (10.0, 2.0),
        "classifier": (10.0, 2.0),
        "discriminator": (10.0, 2.0),
    },
    "options": {},
    "source_sampling": "shuffle",
}
_CDAN = _BASE | {"iterations": 100004, "options": {"ramp_iterations": 10000}}


@keras.saving.register_keras_serializable("isra_keras")
class DANN(Objective):
    """A discriminator learns to tell source features from target features and the network learns to fool it. The
    closed-set ancestor of most methods here: it aligns all source classes, so it may end up below source only.

        (1) L_ce = mean CE over the source.
        (2) L_adv = mean over the n rows of both domains of BCE(D(GRL(f_i)), d_i), d = 1 on the source.
        (3) L = L_ce + lambda L_adv; the reversal's coefficient is 2 / (1 + exp(-10 t / T)) - 1, t = step + 1.

    The form of the CDAN authors' code, with their optimiser, not the digit networks of the paper. There T is 10,000
    whatever the length of the run; here it is the run's own length unless `ramp_iterations` says otherwise.

    Args:
        adversarial_weight: lambda.
        ramp_iterations: T; None is the number of steps of the run. There is no clamp beyond it.
        discriminator_width, dropout: of the domain discriminator.

    Reference:
        https://arxiv.org/abs/1505.07818; https://github.com/thuml/CDAN (its option DANN).
    """

    network_options = {"bottleneck": "linear", "classifier": "dense"}
    multipliers = {"discriminator": (10.0, 2.0)}
    recipes = {
        "default": _BASE,
        "office_home": _CDAN | {"eval_interval": 2000},
        "office31": _CDAN | {"tasks": {"A-D": {"learning_rate": 3e-4}, "D-W": {"learning_rate": 3e-4}}},
        "imagenet_caltech": _CDAN | {"tasks": {"I-C": {"learning_rate": 3e-4}}},
    }

    def __init__(self, adversarial_weight=1.0, ramp_iterations=None, discriminator_width=1024, dropout=0.5, **kwargs):
        super().__init__(**kwargs)
        self.adversarial_weight, self.ramp_iterations = adversarial_weight, ramp_iterations
        self.discriminator_width, self.dropout = discriminator_width, dropout
        self.discriminator = DomainDiscriminator(discriminator_width, dropout, name="discriminator")

    def build_parts(self, feature_dim, num_classes, pooled_dim, sizes):
        self.discriminator.build((None, feature_dim))

    def loss_terms(self, views, context):
        return {
            "classification": ops.mean(cross_entropy(views.source.logits, views.source.labels)),
            "adversarial": self.adversarial_weight * self.adversarial_loss(views, context),
        }

    def adversarial_loss(self, views, context):
        """(2), without lambda: float32 scalar."""
        coefficient = dann_coefficient(context.step + 1, self.ramp_iterations or context.max_iterations)
        features = reverse_gradient(views.concatenate("features"), coefficient)
        domain = ops.concatenate([ops.ones((views.source.size,)), ops.zeros((views.target.size,))])
        domain_logits = self.discriminator(features, training=context.training)
        return ops.mean(domain_cross_entropy(domain_logits, domain))

    def get_config(self):
        return super().get_config() | {
            "adversarial_weight": self.adversarial_weight,
            "ramp_iterations": self.ramp_iterations,
            "discriminator_width": self.discriminator_width,
            "dropout": self.dropout,
        }
