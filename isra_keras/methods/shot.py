"""SHOT: source hypothesis transfer, in its partial-set setting (Liang et al., ICML 2020)."""

from dataclasses import replace

import keras
import numpy as np
from keras import ops

from isra_keras.losses import cross_entropy, mean_entropy, prediction_diversity
from isra_keras.losses.pseudo_labels import centroid_labels
from isra_keras.objective import Objective, Stage, Views

_BASE = {
    "learning_rate": 1e-3,
    "schedule": {"gamma": 10.0, "power": 0.75, "period": None, "clamp": None},  # period None: the stage's length
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 1e-3,
    "feature_dim": 256,
    "batch_size": 64,
    "iterations": 3500,
    "eval_interval": 25,
    "multipliers": {"backbone": (1.0, 1.0), "bottleneck": (10.0, 1.0), "classifier": (10.0, 1.0)},
    "options": {"threshold": 10, "source_share": 6 / 7},
    "source_sampling": "shuffle",
}


@keras.saving.register_keras_serializable("isra_keras")
class SHOT(Objective):
    """Learns the source first, then freezes the classifier and moves the target's features to it without seeing the
    source again: predictions are made confident and follow pseudo-labels from the nearest class centroid.

        (1) Stage "source": L = mean CE with label smoothing 0.1.
        (2) Before each epoch of stage "adapt", over the whole target: centroids c_k = sum_i A_ik f_i / sum_i A_ik
            with A = softmax, then A = one-hot of the labels; label = nearest centroid by cosine, among classes
            that currently hold more than `threshold` samples (`centroid_labels`).
        (3) Stage "adapt": L = beta mean CE(z, pseudo-label) + gamma (mean_i H(p_i) - [diversity] H(mean_i p_i)).

    The partial setting drops the diversity term. Pseudo-labels are renewed at every evaluation, so `eval_interval`
    is their epoch; before the first one (3) is the entropy alone. Differs from the authors' code: no 10 % of the
    source is held back to pick the source model, the last one is taken; where no class passes the threshold it
    counts as 0 (theirs fails); in stage "source" the target also passes the network and moves BN's running
    statistics; the decay counts steps from 0, theirs from 1. ImageNet to Caltech has a source stage here; theirs
    starts from the ImageNet network and its own classifier. The numbers of Office-31 are ours.

    Args:
        pseudo_weight: beta, "cls_par"; 0 is SHOT-IM.
        entropy_weight: gamma, "ent_par".
        diversity: True for closed-set adaptation.
        threshold: a class needs more samples than this to be kept; 10 on Office-Home, 30 on ImageNet to Caltech.
        label_smoothing: of (1).
        source_share: share of the steps that train on the source.
        stored_rows: at most so many source rows are kept for the semantic plug-in. It aligns pooled features, as in
            ISRA's paper; those of the bottleneck where the backbone is frozen and pooled ones could not follow.

    Reference:
        https://arxiv.org/abs/2002.08546, equations 1 to 7; the official repository with its fix of June 2022.
    """

    network_options = {"bottleneck": "bn", "classifier": "weight_norm"}
    recipes = {
        "default": _BASE,
        "office_home": _BASE,
        "office31": _BASE | {"iterations": 3000, "eval_interval": 10, "options": {"threshold": 0, "source_share": 0.9}},
        "imagenet_caltech": _BASE
        | {"iterations": 12000, "eval_interval": 144, "options": {"threshold": 30, "source_share": 5 / 6}},
    }
    starts_on_source = True
    aligned = "pooled"

    def __init__(self, pseudo_weight=0.3, entropy_weight=1.0, diversity=False, threshold=10, label_smoothing=0.1,
                 source_share=6 / 7, stored_rows=10000, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        self.pseudo_weight, self.entropy_weight, self.diversity = pseudo_weight, entropy_weight, diversity
        self.threshold, self.label_smoothing, self.source_share = threshold, label_smoothing, source_share
        self.stored_rows = stored_rows

    def attach(self, network):
        learns = keras.Model(network.inputs, network.output["pooled"]).trainable_weights
        self.aligned = "pooled" if learns else "features"

    def stages(self):
        source = Stage("source", self.source_share, source_only=True)
        return (source, Stage("adapt", 1.0 - self.source_share, frozen=("classifier",), uses_source=False))

    def build_parts(self, feature_dim, num_classes, pooled_dim, sizes):
        self.sizes = dict(sizes)
        self.pseudo_labels = self.add_target_labels("pseudo_labels", sizes)  # -1 before the first evaluation

    def loss_terms(self, views, context):
        if context.stage == "source":
            losses = cross_entropy(views.source.logits, views.source.labels, self.label_smoothing)
            return {"classification": ops.mean(losses)}
        labels = self.labels_at(self.pseudo_labels, views.target.indices)
        return self.adaptation_terms(views.target.logits, labels)

    def adaptation_terms(self, logits, pseudo_labels):
        """(3) of target logits (n, C) and int32 pseudo-labels (n,), -1 where there is none: {name: scalar}."""
        known = ops.cast(pseudo_labels >= 0, "float32")
        losses = known * cross_entropy(logits, ops.maximum(pseudo_labels, 0))
        terms = {
            "pseudo": self.pseudo_weight * ops.mean(losses),
            "target_entropy": self.entropy_weight * mean_entropy(logits, 1e-5),
        }
        if self.diversity:
            terms["diversity"] = -self.entropy_weight * prediction_diversity(logits, 1e-5)
        return terms

    def on_evaluation(self, evaluation):
        """(2); in stage "source" it also stores source features, if the semantic plug-in asked for them."""
        seen = evaluation.seen()
        self.keep_labels(self.pseudo_labels, evaluation.in_place(centroid_labels(seen.features, seen.logits, self.threshold)))
        if self.needs_source_evaluation and evaluation.context.stage == "source":
            if evaluation.source is None:
                raise ValueError("Expected an evaluation with the source, for ISRA (TargetEvaluation: source, source_labels).")
            found = np.asarray(getattr(evaluation.source, self.aligned), "float32")
            if not self.sizes.get("source") and len(found) > 1:
                raise ValueError("Expected the number of source samples, of which ISRA on SHOT keeps features; received none. "
                                 "AdaptationModel(..., sizes={'source': N_s, 'target': N_t}) has it.")  # fmt: skip
            order = np.random.default_rng(0).permutation(len(found))
            self.source_rows.assign(found[np.resize(order, self.source_rows.shape[0])])

    def semantic_dim(self, feature_dim, pooled_dim):
        """Asking for the width makes room for the source's features, kept for stage "adapt"."""
        self.needs_source_evaluation = True
        width = pooled_dim if self.aligned == "pooled" else feature_dim
        rows = max(min(self.sizes.get("source", 0), self.stored_rows), 1)
        self.source_rows = self.add_weight(
            shape=(rows, width), initializer="zeros", trainable=False, name="source_rows"
        )  # fmt: skip
        return width

    def semantic_views(self, views, context):
        """Target features against stored source features, other rows at every step."""
        target = replace(views.target, features=ops.cast(getattr(views.target, self.aligned), "float32"))
        rows, stored = target.size, self.source_rows.shape[0]
        chosen = (ops.cast(context.step, "int32") % stored * rows + ops.arange(rows, dtype="int32")) % stored
        return Views(replace(target, features=ops.take(self.source_rows, chosen, axis=0)), target)

    def get_config(self):
        return super().get_config() | {
            "pseudo_weight": self.pseudo_weight,
            "entropy_weight": self.entropy_weight,
            "diversity": self.diversity,
            "threshold": self.threshold,
            "label_smoothing": self.label_smoothing,
            "source_share": self.source_share,
            "stored_rows": self.stored_rows,
        }
