"""BA3US: balanced and uncertainty-aware partial domain adaptation (Liang et al., ECCV 2020)."""

import keras
import numpy as np
from keras import ops

from isra_keras.layers import DomainDiscriminator, dann_coefficient, reverse_gradient
from isra_keras.losses import (
    complement_entropy,
    cross_entropy,
    domain_cross_entropy,
    entropy,
    mean_entropy,
    safe,
    weighted_mean,
)
from isra_keras.objective import Objective
from isra_keras.training.schedules import shrinking_middle_size


@keras.saving.register_keras_serializable("isra_keras")
class BA3US(Objective):
    """DANN made partial: extra source rows balance the target batch, class weights come from target predictions,
    uncertain rows count less in the adversarial loss, and wrong classes are kept flat on the source.

    Differs from the authors' code where it breaks: where the class weights of a batch's labels sum to exactly 0
    (underflow) they skip the step; here the source's weighted terms are 0 and all others train on, the adversarial one
    on the target's rows. With two classes the complement entropy is 0 (theirs: NaN).

    Args:
        mu: the middle batch starts at batch_size // mu rows and shrinks to 0; 0 is none, < 0 is constant.
        entropy_weight: of the target entropy.
        complement_weight: of the complement entropy ("cot"); 1 on Office-Home, 5 on Office-31.
        alpha: exponent of the row weight in the complement entropy.
        discriminator_width, dropout: of the domain discriminator.

    Reference:
        https://arxiv.org/abs/2003.02541, equations as in section 3; the official repository's loss file.
    """

    network_options = {"bottleneck": "linear", "classifier": "dense"}
    multipliers = {"discriminator": (10.0, 2.0)}
    quirky_loop = True

    def __init__(self, mu=4, entropy_weight=0.1, complement_weight=1.0, alpha=1.0,
                 discriminator_width=1024, dropout=0.5, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        self.mu, self.entropy_weight, self.complement_weight, self.alpha = mu, entropy_weight, complement_weight, alpha
        self.discriminator_width, self.dropout = discriminator_width, dropout
        self.discriminator = DomainDiscriminator(discriminator_width, dropout, name="discriminator")

    def build_parts(self, feature_dim, num_classes, pooled_dim, sizes):
        self.discriminator.build((None, feature_dim))

    def loss_terms(self, views, context):
        source, target = views.source, views.target
        weights = context.sample_weights(source.labels)
        terms = {
            "classification": weighted_mean(cross_entropy(source.logits, source.labels), weights, epsilon=1e-8),
            "adversarial": self.transfer_loss(views, context),
            "target_entropy": self.entropy_weight * mean_entropy(target.logits, 1e-7),
        }
        if self.complement_weight > 0:
            cot = complement_entropy(source.logits, source.labels, weights, self.alpha)
            terms["complement_entropy"] = self.complement_weight * cot
        return terms

    def transfer_loss(self, views, context, coefficient_features=None, coefficient_entropy=None):
        """Entropy-aware adversarial loss over source, target and middle rows: float32 scalar.

        Both reversals follow the ramp of `dann_coefficient`, the features' one step ahead (the original's
        discriminator counts its calls from 1), unless coefficients are given.
        """
        if coefficient_features is None:
            coefficient_features = dann_coefficient(context.step + 1, context.max_iterations)
        if coefficient_entropy is None:
            coefficient_entropy = dann_coefficient(context.step, context.max_iterations)
        features = reverse_gradient(views.concatenate("features"), coefficient_features)
        domain_logits = self.discriminator(features, training=context.training)
        # a_i = 1 + exp(-H_i), where H carries a second reversal.
        uncertainty = reverse_gradient(entropy(views.concatenate("logits"), 1e-7), coefficient_entropy)
        awareness = 1.0 + ops.exp(-uncertainty)

        source, target, middle = views.source, views.target, views.middle
        class_weights = [context.sample_weights(source.labels), ops.ones((target.size,))]
        # Middle rows are labelled "target" but share the normaliser of the source rows.
        domain = [ops.ones((source.size,)), ops.zeros((target.size,))]
        is_target = [ops.zeros((source.size,)), ops.ones((target.size,))]
        share = 0.0
        if middle is not None:
            class_weights.append(context.sample_weights(middle.labels))
            domain.append(ops.zeros((middle.size,)))
            is_target.append(ops.zeros((middle.size,)))
            share = ops.cast(middle.size, "float32") / source.size
        balanced = awareness * ops.concatenate(class_weights)
        is_target = ops.concatenate(is_target)
        source_sum = ops.stop_gradient(ops.sum((1.0 - is_target) * balanced))
        target_sum = ops.stop_gradient(ops.sum(is_target * balanced))
        row_weights = balanced * (
            (1.0 - is_target) * (1.0 + share) / safe(source_sum) + is_target / target_sum
        )
        return weighted_mean(domain_cross_entropy(domain_logits, ops.concatenate(domain)), row_weights, 1e-8)

    def middle_size(self, step, batch_size, max_iterations, eval_interval):
        return shrinking_middle_size(step, batch_size, self.mu, max_iterations, eval_interval)

    def class_weights(self, evaluation):
        """Mean target probability per class; sums to one."""
        logits = np.asarray(evaluation.logits, "float64")
        probabilities = np.exp(logits - logits.max(-1, keepdims=True))
        probabilities /= probabilities.sum(-1, keepdims=True)
        return (probabilities.sum(0) / probabilities.sum()).astype("float32")

    def get_config(self):
        return super().get_config() | {
            "mu": self.mu,
            "entropy_weight": self.entropy_weight,
            "complement_weight": self.complement_weight,
            "alpha": self.alpha,
            "discriminator_width": self.discriminator_width,
            "dropout": self.dropout,
        }
