"""Source only: the baseline without adaptation."""

import keras
from keras import ops

from isra_keras.losses import cross_entropy
from isra_keras.objective import Objective


@keras.saving.register_keras_serializable("isra_keras")
class SourceOnly(Objective):
    """Fine-tunes on all source classes with plain cross-entropy; the target is only looked at for selection.

    Prediction is the argmax over all source classes, never restricted to the target's. Same optimiser and data as
    BA3US (recipe 1 of the specification); the "ResNet-50" row of the paper's tables.
    """

    starts_on_source = True

    def loss_terms(self, views, context):
        return {"classification": ops.mean(cross_entropy(views.source.logits, views.source.labels))}
