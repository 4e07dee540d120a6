"""SemanticAlignment: ISRA as a plug-in over any method, in the paper's and the authors' form."""

import math
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from isra_keras.objective import Objective, Views
from isra_keras.semantic.attention import NORMALISATIONS
from isra_keras.semantic.blocks import align_topics, block_size, hidden_slopes, response_gradients
from isra_keras.semantic.class2vec import Class2Vec, reconstruction_error
from isra_keras.semantic.receptors import TopicReceptors

VARIANTS = ("paper", "reference")


@keras.saving.register_keras_serializable("isra_keras")
class SemanticAlignment(Objective):
    """Finds topics (class2vec), learns what each looks at (receptors) and aligns the domains under each of them.

    Adds three terms to a method's loss: "class2vec" (lambda L_c2v), "receptors" (L_reg, whose gradient reaches
    the receptors alone) and "alignment" (eta L_a, whose gradient reaches the features alone; the attention is
    a constant). The classifier sees the plain features; at test time nothing of this is used.

    `variant="paper"` takes Eqs. 1 to 3 literally: sums over rows and features, attention of the receptor's
    output, source and target rows only. `variant="reference"` computes what the authors' script computes: means,
    attention of the receptor's loss (rows weighted by their residual), L1 on the bias too, middle rows included (on
    the target's side of the alignment). At equal batches L_c2v = 2 d rc and L_a = (d/4) align, so that the paper's
    lambda = eta = 1 weighs them 2d and d/4 times more than the script does; `equivalent_weights` converts.

    Args:
        num_topics: J, d_e in the paper; 256 on Office-Home.
        class2vec_weight: lambda, weight of the reconstruction.
        alignment_weight: eta, weight of the alignment.
        receptor_l1: weight of the L1 norm of the receptors' first layer; 0.5 in paper and script.
        receptor_width: hidden units of a receptor.
        variant: "paper" or "reference".
        normalisation: "frobenius" over the batch, or "row" (the paper does not say which).
        topic_block: topics whose attention exists at once: "auto" takes what suits the device, None all J. It changes
            speed and memory, and the results by roundings.
        reference_quirks: the factor n' counts the last middle batch even after it has shrunk to nothing.

    Reference:
        "Implicit Semantic Response Alignment for Partial Domain Adaptation", NeurIPS 2021, Eqs. 1-4.
    """

    multipliers = {"class2vec": (10.0, 2.0), "receptors": (1.0, 10.0)}

    def __init__(self, num_topics=256, class2vec_weight=1.0, alignment_weight=1.0, receptor_l1=0.5, receptor_width=128,
                 variant="reference", normalisation="frobenius", reference_quirks=False, topic_block="auto",
                 **kwargs):  # fmt: skip
        kwargs.setdefault("name", "semantic")
        super().__init__(**kwargs)
        if variant not in VARIANTS:
            raise ValueError(f"Expected variant to be one of {VARIANTS}; received {variant!r}.")
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"Expected normalisation to be one of {NORMALISATIONS}; received {normalisation!r}.")
        self.num_topics, self.receptor_l1, self.receptor_width = num_topics, receptor_l1, receptor_width
        self.class2vec_weight, self.alignment_weight = class2vec_weight, alignment_weight
        self.variant, self.normalisation, self.reference_quirks = variant, normalisation, reference_quirks
        block_size(topic_block, num_topics, 1, 1)  # refuses what is no block
        self.topic_block = topic_block
        self.class2vec = Class2Vec(num_topics)
        self.receptors = TopicReceptors(num_topics, receptor_width)
        self._observed = {}

    def build_parts(self, feature_dim, num_classes, pooled_dim, sizes):
        self.class2vec.build((None, feature_dim))
        self.receptors.build((None, feature_dim))
        if self.reference_quirks:
            self.last_middle = self.add_weight(
                shape=(), initializer="zeros", trainable=False, name="last_middle", dtype="float32"
            )

    def loss_terms(self, views, context):
        features = self.rows(views)
        if not self.receptors.built:  # outside of an `AdaptationModel`
            self.build_parts(features.shape[-1], None, None, {})
        embeddings, reconstructions = self.class2vec(features)
        receptor_loss, hidden, factors = self.regress(features, embeddings)
        aligned = align_topics(
            self.receptors, hidden, factors, features, self.row_weights(views), self.normalisation,
            self.attention_count(views, features), self.block(views, features.shape[-1]),
        )  # fmt: skip
        entries = features.shape[-1] if self.variant == "reference" else 1  # the script takes the mean over d
        self._observed["alignment_largest_topic"] = aligned["largest"] / entries
        self._observed["attention_sparsity"] = aligned["sparsity"]
        return {
            "class2vec": self.class2vec_weight * self.reconstruction(views, features, reconstructions),  # Eq. 1
            "receptors": receptor_loss,  # Eq. 2
            "alignment": self.alignment_weight * aligned["alignment"] / entries,  # Eq. 3
        }

    def block(self, views, depth):
        """Topics whose attention exists at once, see `block_size`; a middle batch of open size is left out of the count."""
        taking_part = [views.source, views.target] + ([views.middle] if self.variant == "reference" and views.middle else [])
        rows = sum(view.size for view in taking_part if isinstance(view.size, int))
        return block_size(self.topic_block, self.num_topics, rows, depth)

    def topic_terms(self, views, context):
        """"class2vec" and "receptors" of features that are held constant: topics for a network that learns without."""
        constant = [view and replace(view, features=ops.stop_gradient(view.features))
                    for view in (views.source, views.target, views.middle)]  # fmt: skip
        terms = self.loss_terms(Views(*constant), context)
        del terms["alignment"]
        return terms

    def rows(self, views):
        """Features that take part: source and target, and middle rows in the reference; (n, d) float32."""
        if self.variant == "reference":
            return views.concatenate("features")
        return ops.concatenate([views.source.features, views.target.features], axis=0)

    def reconstruction(self, views, features, reconstructions):
        """L_c2v (Eq. 1: mean over each domain's rows, sum over d), or the script's mean over everything."""
        errors = reconstruction_error(features, reconstructions)
        if self.variant == "reference":
            return ops.mean(errors) / features.shape[-1]
        return ops.mean(errors[: views.source.size]) + ops.mean(errors[views.source.size :])

    def regress(self, features, embeddings):
        """The receptors' loss, and what their attention is computed from.

        The receptors regress each topic from the features, both constants. Paper: sums over rows (Eq. 2) and
        |dg/dx|. Reference: means, L1 with the bias, and |d loss/dx|, which is |dg/dx| times the row's residual.

        Returns:
            (loss float32 scalar, hidden units (J, n, h), factors (J, n) of the attention or None for ones).
        """
        wanted = ops.stop_gradient(ops.transpose(embeddings))  # (J, n)
        hidden, penalty = self.receptors.hidden_and_l1(ops.stop_gradient(features))
        residuals = self.receptors.respond(hidden) - wanted
        squares, factors = ops.square(residuals), None
        data = ops.sum(squares) / self.num_topics
        if self.variant == "reference":
            count = rows_of(features)
            data, factors = data / count, ops.stop_gradient(residuals) * (2.0 / (count * self.num_topics))
        self._observe_receptors(wanted, squares)
        self._observed["receptor_mean_weight"] = ops.stop_gradient(penalty) / math.prod(self.receptors.hidden_kernel.shape)
        if self.variant == "reference":
            penalty = penalty + self.receptors.bias_l1()
        return data + self.receptor_l1 * penalty / self.num_topics, hidden, factors

    def receive(self, features, embeddings):
        """Receptor loss (float32 scalar) and raw attention (J, n, d), whole; see `regress`."""
        loss, hidden, factors = self.regress(features, embeddings)
        slopes = hidden_slopes(hidden, ops.convert_to_tensor(self.receptors.output_kernel), factors)
        gradients = response_gradients(slopes, ops.convert_to_tensor(self.receptors.hidden_kernel))
        return loss, ops.stop_gradient(ops.abs(gradients))

    def row_weights(self, views):
        """(n,) factors that turn the masked sum over rows into source minus target."""
        source = views.source.size
        others = views.target.size
        if self.variant == "paper":
            return np.concatenate([np.ones(source), -np.ones(others)]).astype("float32")
        if views.middle is None:
            return np.concatenate([np.full(source, 1 / source), np.full(others, -1 / others)]).astype("float32")
        others += views.middle.size
        weight = -1.0 / ops.cast(others, "float32")
        return ops.concatenate([ops.full((source,), 1.0 / source), ops.broadcast_to(weight, (others,))])

    def attention_count(self, views, features):
        """n', the factor of the script's normalisation; 1 in the paper's."""
        if self.variant == "paper":
            return 1.0
        if not self.reference_quirks:
            return rows_of(features)
        if views.middle is not None:
            self.last_middle.assign(ops.cast(views.middle.size, "float32"))
        return float(views.source.size + views.target.size) + ops.convert_to_tensor(self.last_middle)

    def _observe_receptors(self, wanted, squares):
        """Share of each topic's variance that its receptor explains, averaged over topics that vary."""
        total = ops.sum(ops.square(wanted - ops.mean(wanted, axis=1, keepdims=True)), axis=1)
        varies = ops.cast(total > 1e-12, "float32")
        explained = 1.0 - ops.sum(squares, axis=1) / ops.maximum(total, 1e-12)
        # A starved receptor of a nearly constant topic would swamp the mean: R2 is cut at -1.
        explained = ops.maximum(explained, -1.0)
        self._observed["receptor_r2"] = ops.sum(varies * explained) / ops.maximum(ops.sum(varies), 1.0)
        self._observed["active_topics"] = ops.mean(varies)

    def diagnostics(self, views, context):
        observed, self._observed = self._observed, {}
        return observed

    def get_config(self):
        return super().get_config() | {
            "num_topics": self.num_topics,
            "class2vec_weight": self.class2vec_weight,
            "alignment_weight": self.alignment_weight,
            "receptor_l1": self.receptor_l1,
            "receptor_width": self.receptor_width,
            "variant": self.variant,
            "normalisation": self.normalisation,
            "reference_quirks": self.reference_quirks,
            "topic_block": self.topic_block,
        }


def rows_of(features):
    """n of (n, d) as a float, or as a float32 scalar where the graph leaves it open."""
    rows = ops.shape(features)[0]
    return float(rows) if isinstance(rows, int) else ops.cast(rows, "float32")


def equivalent_weights(feature_dim):
    """Paper-variant weights (lambda, eta) that weigh the terms as the script's (1, 1) does: (1 / (2d), 4 / d).

    Exact for equal source and target batches without middle rows and equal attention.
    """
    return 1.0 / (2 * feature_dim), 4.0 / feature_dim
