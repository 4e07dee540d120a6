"""CDAN+E: conditional adversarial domain adaptation with entropy conditioning (Long et al., NeurIPS 2018)."""

import math

import keras
from keras import ops

from isra_keras.layers import DomainDiscriminator, dann_coefficient, reverse_gradient
from isra_keras.losses import cross_entropy, domain_cross_entropy, entropy, weighted_mean
from isra_keras.methods.dann import DANN
from isra_keras.objective import Objective


@keras.saving.register_keras_serializable("isra_keras")
class CDAN(Objective):
    """The discriminator sees features and class predictions multiplied with each other, so that domains are aligned
    class by class; rows with an uncertain prediction count less ("+E"). A closed-set method, here the baseline.

        (1) L_ce = mean CE over the source.
        (2) T_i = p_i (x) f_i, entry c d + j = p_ic f_ij; or (f_i R_f) * (p_i R_p) / sqrt(D) with normal R, never
            trained; p a constant.
        (3) H_i = -sum_c p_ic log(p_ic + 1e-5), its gradient reversed with c_e;  a_i = 1 + exp(-H_i).
        (4) w_i = a_i / sum of a over the row's domain, the sum a constant; plain CDAN: w_i = 1/n.
        (5) L_adv = sum_i w_i BCE(D(GRL(T_i)), d_i) / sum_i w_i, reversed with c_f;  L = L_ce + lambda L_adv.
        c_e = 2 / (1 + exp(-10 t / T)) - 1 at t = step, c_f the same at t = step + 1.

    As in the authors' code: the paper's equation 9 neither divides by the sum of weights nor reverses the entropy,
    and the paper randomises from d C > 4,096 on, the code only when told. Differs from the code: T is the run's
    length rather than 10,000 unless `ramp_iterations` says otherwise; above `full_map_limit` the map is randomised
    (the limit leaves Office-31 and Office-Home at the full map that the code uses there, with ISRA's 512-d features too,
    so that the switch changes the map of neither).

    Args:
        adversarial_weight: lambda.
        entropy_conditioning: False is CDAN without "+E".
        full_map_limit: largest d C of the full map; 0 always randomises.
        random_dim: D, width of the randomised map.
        ramp_iterations: T; None is the number of steps of the run. There is no clamp beyond it.
        discriminator_width, dropout: of the domain discriminator.

    Reference:
        https://arxiv.org/abs/1705.10667; https://github.com/thuml/CDAN.
    """

    network_options = {"bottleneck": "linear", "classifier": "dense"}
    multipliers = {"discriminator": (10.0, 2.0)}
    recipes = DANN.recipes  # the same code and settings; none are published for ImageNet-Caltech: PADA's rates

    def __init__(self, adversarial_weight=1.0, entropy_conditioning=True, full_map_limit=40000, random_dim=1024,
                 ramp_iterations=None, discriminator_width=1024, dropout=0.5, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        self.adversarial_weight, self.entropy_conditioning = adversarial_weight, entropy_conditioning
        self.full_map_limit, self.random_dim = full_map_limit, random_dim
        self.ramp_iterations = ramp_iterations
        self.discriminator_width, self.dropout = discriminator_width, dropout
        self.discriminator = DomainDiscriminator(discriminator_width, dropout, name="discriminator")
        self.feature_matrix = self.class_matrix = None

    def build_parts(self, feature_dim, num_classes, pooled_dim, sizes):
        width = feature_dim * num_classes
        if width > self.full_map_limit:
            width = self.random_dim
            self.feature_matrix = self._random_matrix(feature_dim, "feature_matrix")
            self.class_matrix = self._random_matrix(num_classes, "class_matrix")
        self.discriminator.build((None, width))

    def _random_matrix(self, rows, name):
        normal = keras.initializers.RandomNormal(0.0, 1.0)
        return self.add_weight(shape=(rows, self.random_dim), initializer=normal, trainable=False, name=name)

    def loss_terms(self, views, context):
        return {
            "classification": ops.mean(cross_entropy(views.source.logits, views.source.labels)),
            "adversarial": self.adversarial_weight * self.adversarial_loss(views, context),
        }

    def joint_map(self, features, logits):
        """(2) of features (n, d) and logits (n, C): (n, C d) or (n, D); no gradient reaches the logits."""
        probabilities = ops.stop_gradient(ops.softmax(logits, axis=-1))
        if self.feature_matrix is None:
            outer = probabilities[:, :, None] * features[:, None, :]
            return ops.reshape(outer, (-1, probabilities.shape[1] * features.shape[1]))
        product = ops.matmul(features, self.feature_matrix) * ops.matmul(probabilities, self.class_matrix)
        return product / math.sqrt(self.random_dim)

    def sample_weights(self, views, context):
        """(3), (4): (n,) weights of source and target rows; both domains sum to one."""
        # The authors' discriminator counts its calls before it reads the ramp; the entropy's ramp is one behind.
        coefficient = dann_coefficient(context.step, self.ramp_iterations or context.max_iterations)
        uncertainty = reverse_gradient(entropy(views.concatenate("logits"), 1e-5), coefficient)
        awareness = 1.0 + ops.exp(-uncertainty)
        source, target = awareness[: views.source.size], awareness[views.source.size :]
        return ops.concatenate([part / ops.stop_gradient(ops.sum(part)) for part in (source, target)])

    def adversarial_loss(self, views, context):
        """(5), without lambda: float32 scalar."""
        coefficient = dann_coefficient(context.step + 1, self.ramp_iterations or context.max_iterations)
        joint = self.joint_map(views.concatenate("features"), views.concatenate("logits"))
        domain_logits = self.discriminator(reverse_gradient(joint, coefficient), training=context.training)
        domain = ops.concatenate([ops.ones((views.source.size,)), ops.zeros((views.target.size,))])
        losses = domain_cross_entropy(domain_logits, domain)
        if not self.entropy_conditioning:
            return ops.mean(losses)
        return weighted_mean(losses, self.sample_weights(views, context), epsilon=0.0)

    def get_config(self):
        return super().get_config() | {
            "adversarial_weight": self.adversarial_weight,
            "entropy_conditioning": self.entropy_conditioning,
            "full_map_limit": self.full_map_limit,
            "random_dim": self.random_dim,
            "ramp_iterations": self.ramp_iterations,
            "discriminator_width": self.discriminator_width,
            "dropout": self.dropout,
        }
