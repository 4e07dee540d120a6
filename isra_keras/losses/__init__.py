"""Losses that two or more methods share; every one takes float32 logits and returns a float32 scalar or row values."""

from isra_keras.losses.adversarial import domain_cross_entropy
from isra_keras.losses.classification import complement_entropy, cross_entropy, log_add_exp, safe, weighted_mean
from isra_keras.losses.distances import squared_distances
from isra_keras.losses.entropy import entropy, masked_entropy, mean_entropy, prediction_diversity

__all__ = [
    "complement_entropy",
    "cross_entropy",
    "domain_cross_entropy",
    "entropy",
    "log_add_exp",
    "masked_entropy",
    "mean_entropy",
    "prediction_diversity",
    "safe",
    "squared_distances",
    "weighted_mean",
]
