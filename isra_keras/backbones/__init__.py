"""Networks: images -> {"pooled", "features", "logits"}. Importing this registers every layer a saved one needs."""

from isra_keras.backbones.batch_norm import TorchBatchNormalization
from isra_keras.backbones.l2_dropout import L2PreservingDropout
from isra_keras.backbones.network import BACKBONES, BOTTLENECKS, CLASSIFIERS, build_network, check_backbone
from isra_keras.backbones.part import NetworkPart
from isra_keras.backbones.preprocessing import CaffePreprocessing
from isra_keras.backbones.weight_norm import WeightNormDense

__all__ = [
    "BACKBONES",
    "BOTTLENECKS",
    "CLASSIFIERS",
    "CaffePreprocessing",
    "L2PreservingDropout",
    "NetworkPart",
    "TorchBatchNormalization",
    "WeightNormDense",
    "build_network",
    "check_backbone",
]
