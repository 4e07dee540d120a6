"""IWAN: importance weighted adversarial nets (Zhang et al., CVPR 2018)."""

from dataclasses import replace

import keras
from keras import ops

from isra_keras.initializers import TorchUniform
from isra_keras.layers import DomainDiscriminator, dann_coefficient, reverse_gradient
from isra_keras.losses import cross_entropy, domain_cross_entropy, masked_entropy, mean_entropy, safe
from isra_keras.methods.iwan_recipes import PARTS, RECIPES
from isra_keras.objective import Objective, Stage, Views


@keras.saving.register_keras_serializable("isra_keras")
class IWAN(Objective):
    """One discriminator D only estimates how source-like each source row is; a second one, D_0, plays the adversarial
    game with the source rows weighted by it, so that rows unlike anything in the target drop out.

        (1) L_ce = mean CE over the source.
        (2) L_D = (mean BCE(D(f_s), 1) + mean BCE(D(f_t), 0)) / 2, f stopped.
        (3) u = 1 - D(f_s);  w = u / (mean(u) + 1e-5), a constant.
        (4) L_0 = (mean_i w_i BCE(D_0(GRL(f_s)), 1) + mean BCE(D_0(GRL(f_t)), 0)) / 2.
        (5) H = mean target entropy;  L = L_ce + 1.5 a L_D + a L_0 + gamma H.
        The reversal's coefficient is c = 2 / (1 + exp(-10 t / T)) - 1, t = step.

    variant="tllib" is the above, TLLib's joint training. variant="paper" is the authors' Caffe code: (1) alone in
    stage "source"; stage "adapt" freezes the classifier and a copy of the network, which gives f_s, and trains the
    network that gives f_t with a (L_D + L_0) + gamma c H; no epsilon in (3), entries of p below 1e-3 left out of H,
    and c = 0.1 (2 / (1 + exp(-min(1, t / T))) - 1) ends at 0.046.

    Differs from TLLib: T is the run's length, not 10,000, unless told; from ImageNet the classifier starts fresh.
    Differs from the Caffe code: biases learn as fast as kernels (theirs twice as fast); `source_share` is ours; in stage
    "adapt" the source also passes the trained network, moving BN's statistics. Its (2) and (4) are means over all rows.

    Args:
        variant: "tllib" or "paper".
        adversarial_weight: a; None is 3 for "tllib" and 1 for "paper".
        entropy_weight: gamma.
        ramp_iterations: T; None is the number of steps of the stage.
        weight_dropout: dropout in (3), with a mask of its own, as in both originals; False steadies the weights.
        source_share: share of the steps that stage "source" of "paper" takes.
        discriminator_width, dropout: of both discriminators.

    Reference:
        https://arxiv.org/abs/1803.09210; https://github.com/thuml/Transfer-Learning-Library;
        https://github.com/hellojing89/weightedGANpartialDA.
    """

    network_options = {"bottleneck": "bn_relu", "bottleneck_initializer": "torch", "classifier_initializer": "torch"}
    joint_forward = True
    uses_images = True
    multipliers = {part: (10.0, 1.0) for part in PARTS}
    recipes = RECIPES

    def __init__(self, variant="tllib", adversarial_weight=None, entropy_weight=0.1, ramp_iterations=None,
                 weight_dropout=True, source_share=0.2, discriminator_width=1024, dropout=0.5, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        if variant not in ("tllib", "paper"):
            raise ValueError(f"Expected variant 'tllib' or 'paper'; received {variant!r}.")
        self.variant, self.adversarial_weight, self.entropy_weight = variant, adversarial_weight, entropy_weight
        self.ramp_iterations, self.weight_dropout, self.source_share = ramp_iterations, weight_dropout, source_share
        self.discriminator_width, self.dropout = discriminator_width, dropout
        if variant == "paper":
            self.network_options, self.joint_forward = {"bottleneck": "linear"}, False

    def stages(self):
        if self.variant == "tllib":
            return (Stage(),)
        source = Stage("source", self.source_share, source_only=True)
        return (source, Stage("adapt", 1.0 - self.source_share, frozen=("classifier",)))

    def attach(self, network):
        if self.variant == "paper":
            self.source_network = type(network).from_config(network.get_config() | {"name": "source_network"})
            self.source_network.trainable = False

    def on_stage_begin(self, stage, network):
        if self.variant == "paper" and stage.name == "adapt":
            self.source_network.set_weights(network.get_weights())

    def build_parts(self, feature_dim, num_classes, pooled_dim, sizes):
        width, biases = self.discriminator_width, "zeros"
        for name in PARTS:  # initialisers of their own: one gives the same values at every call
            kernels = [keras.initializers.RandomNormal(0.0, deviation) for deviation in (0.01, 0.01, 0.3)]
            if self.variant == "tllib":
                kernels, biases = TorchUniform(), [TorchUniform(fan_in) for fan_in in (feature_dim, width, width)]
            setattr(self, name, DomainDiscriminator(width, self.dropout, 1, kernels, biases, name=name))
            getattr(self, name).build((None, feature_dim))

    def loss_terms(self, views, context):
        classification = ops.mean(cross_entropy(views.source.logits, views.source.labels))
        if context.stage == "source":
            return {"classification": classification}
        tllib, coefficient, views = self.variant == "tllib", self.ramp(context), self.semantic_views(views, context)
        a = (3.0 if tllib else 1.0) if self.adversarial_weight is None else self.adversarial_weight
        weights = self.importance_weights(views.source.features, context)
        terms = {
            "weight_discriminator": (1.5 * a if tllib else a) * self.weight_discriminator_loss(views, context),
            "adversarial": a * self.adversarial_loss(views, weights, coefficient, context),
        }
        if tllib:
            entropy = self.entropy_weight * mean_entropy(views.target.logits, 1e-5)
            return {"classification": classification, **terms, "target_entropy": entropy}
        entropy = ops.mean(masked_entropy(views.target.logits, 1e-3))
        return terms | {"target_entropy": self.entropy_weight * coefficient * entropy}

    def ramp(self, context):
        """The reversal's coefficient c, float32 scalar."""
        length = self.ramp_iterations or context.max_iterations
        if self.variant == "tllib":
            return dann_coefficient(context.step, length)
        return dann_coefficient(ops.minimum(context.step, length), length, high=0.1, slope=1.0)

    def aligns_own_features(self):
        return self.variant == "tllib"

    def semantic_views(self, views, context):
        """Paper form, stage "adapt": the source as the frozen copy sees it, for the plug-in too."""
        if self.variant == "tllib" or context.stage == "source":
            return views
        outputs = self.source_network(ops.cast(views.source.images, "float32"), training=False)
        outputs = {name: ops.stop_gradient(value) for name, value in outputs.items()}
        return Views(replace(views.source, **outputs), views.target)

    def weight_discriminator_loss(self, views, context):
        """(2): float32 scalar."""
        domain_logits = self.discriminator_weight(ops.stop_gradient(views.concatenate("features")), training=context.training)
        return self._domain_loss(domain_logits, views.source.size)

    def importance_weights(self, source_features, context):
        """(3) of features (n, d): (n,), constant."""
        training = context.training and self.weight_dropout
        unlikely = ops.sigmoid(-self.discriminator_weight(ops.stop_gradient(source_features), training=training))
        return ops.stop_gradient(unlikely / safe(ops.mean(unlikely) + (1e-5 if self.variant == "tllib" else 0.0)))

    def adversarial_loss(self, views, weights, coefficient, context):
        """(4): float32 scalar."""
        features = reverse_gradient(views.concatenate("features"), coefficient)
        domain_logits = self.discriminator_adversarial(features, training=context.training)
        return self._domain_loss(domain_logits, views.source.size, weights)

    def _domain_loss(self, logits, rows, weights=1.0):  # (2), (4) of logits (n,), the source's the first `rows`
        losses = weights * domain_cross_entropy(logits[:rows], 1.0), domain_cross_entropy(logits[rows:], 0.0)
        return ops.mean(ops.concatenate(losses)) if self.variant == "paper" else 0.5 * sum(map(ops.mean, losses))

    def get_config(self):
        names = ("variant", "adversarial_weight", "entropy_weight", "ramp_iterations", "weight_dropout",
                 "source_share", "discriminator_width", "dropout")  # fmt: skip
        return super().get_config() | {name: getattr(self, name) for name in names}
