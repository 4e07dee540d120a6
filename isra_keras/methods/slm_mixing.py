"""The losses of SLM that mixtures of images go through, and the three cross-entropies they are made of."""

from keras import ops

from isra_keras.layers import reverse_gradient
from isra_keras.layers.mixing import mix, reorder
from isra_keras.losses.soft_labels import smoothed_cross_entropy, soft_cross_entropy
from isra_keras.objective import Objective


class MixedLosses(Objective):
    """Base of `SLM`, whose `discriminator` and `reference_quirks` it uses; the equations are numbered there.

    In all signatures: x_s, x_t images (n, ...) float32; labels (n,) int32 of the source; a (n,) the selection; mask
    (n,) and soft (n, C) the target's pseudo-labels; lam the reversal's coefficient; draws the step's `MixingDraws`.
    """

    def across_terms(self, x_s, x_t, labels, a, mask, soft, lam, draws, context):
        """(5) and the rest of (2): mixtures of images (n, ...) of both domains, pairs by position."""
        r, kept, keep = draws.ratio, ops.stop_gradient(a), reverse_gradient(a, lam)
        (f_s, z_s), (f_t, z_t) = self.forward_both(mix(x_s, x_t, r), context)
        return {
            "adv_mix_source": ops.mean(self.domain_loss(f_s, 0, lam) * r * keep),
            "adv_mix_target": ops.mean(self.domain_loss(f_t, 1, lam) * (1.0 - r) * keep),
            "mix_cls_source": ops.mean(self.label_loss(z_s, labels) * r * kept),
            "mix_cls_target": ops.mean(self.soft_loss(z_t, soft * (1.0 - r)) * kept * mask),
        }

    def within_terms(self, x_s, x_t, labels, a, mask, soft, lam, draws, context):
        """(4): mixtures of each domain's images with themselves in another order."""
        l_s, l_t, order_s, order_t = draws.source_ratio, draws.target_ratio, draws.source_order, draws.target_order
        f_s, z_s = self.pass_through(mix(x_s, ops.take(x_s, order_s, axis=0), l_s), 0, context)
        f_t, z_t = self.pass_through(mix(x_t, ops.take(x_t, order_t, axis=0), l_t), 1, context)
        pairs, certain = a * reorder(a, order_s), mask * reorder(mask, order_t)
        mixed = mix(self.label_loss(z_s, labels), self.label_loss(z_s, ops.take(labels, order_s, axis=0)), l_s)
        share_s, share_t = (draws.ratio, 1.0 - draws.ratio) if self.reference_quirks else (1.0, 1.0)
        return {
            "intra_cls_source": ops.mean(mixed * ops.stop_gradient(pairs)),
            "intra_cls_target": ops.mean(self.soft_loss(z_t, mix(soft, reorder(soft, order_t), l_t)) * certain),
            "intra_adv_source": share_s * ops.mean(self.domain_loss(f_s, 0, lam) * reverse_gradient(pairs, lam)),
            "intra_adv_target": share_t * ops.mean(self.domain_loss(f_t, 1, lam)),
        }

    def pass_through(self, images, domain, context):
        """(features, logits) of images; `domain` (0 source, 1 target) is there for BN that differs by domain."""
        outputs = context.network(images, training=context.training)
        return ops.cast(outputs["features"], "float32"), ops.cast(outputs["logits"], "float32")

    def forward_both(self, images, context):
        """`pass_through` as source and as target: one pass, since both share their BN."""
        return (self.pass_through(images, 0, context),) * 2

    def label_loss(self, logits, labels):
        """CE with label smoothing 0.2: (n,)."""
        return smoothed_cross_entropy(logits, labels, 0.2, 31 if self.reference_quirks else None)

    def soft_loss(self, logits, targets):
        """CE of soft labels: (n,)."""
        return soft_cross_entropy(logits, targets, twice=self.reference_quirks)

    def domain_loss(self, features, domain, lam):
        """CE of the discriminator on reversed features, domain 0 (source) or 1 (target): (n,)."""
        logits = self.discriminator(reverse_gradient(features, lam), training=True)
        return -ops.log_softmax(ops.sigmoid(logits) if self.reference_quirks else logits, axis=-1)[:, domain]
