"""Partial domain adaptation in Keras 3: Implicit Semantic Response Alignment (ISRA) on top of any method.

The public names are loaded when they are first asked for, so that `import isra_keras` loads neither Keras nor TensorFlow.

Example:
    >>> import isra_keras
    >>> task = isra_keras.load_task("glyphs", "printed", "handwritten")
    >>> method = isra_keras.get_method("ba3us")()
"""

import importlib
import os

from isra_keras import registration

# TensorFlow leaves oneDNN off on CPUs without AVX-512, where it halves the time of MobileNetV2's step and of the matrix
# products of a step on features (benchmarks/onednn.py). Counts where TensorFlow is not loaded yet; =0 switches it off.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_PUBLIC = {
    "AdaptationModel": "isra_keras.model",
    "Context": "isra_keras.objective",
    "DomainPairs": "isra_keras.data.pairs",
    "Evaluation": "isra_keras.objective",
    "InverseDecay": "isra_keras.training.schedules",
    "METHODS": "isra_keras.methods",
    "Objective": "isra_keras.objective",
    "PartwiseSGD": "isra_keras.training.optimizer",
    "SCORES": "isra_keras.selection",
    "SemanticAlignment": "isra_keras.semantic",
    "Stage": "isra_keras.objective",
    "TargetEvaluation": "isra_keras.training.callbacks",
    "TrainConfig": "isra_keras.training.config",
    "UserError": "isra_keras.errors",
    "View": "isra_keras.objective",
    "Views": "isra_keras.objective",
    "build_network": "isra_keras.backbones",
    "evaluation_dataset": "isra_keras.data.pairs",
    "folder_task": "isra_keras.data.tasks",
    "get_method": "isra_keras.methods",
    "load_committee": "isra_keras.committee",
    "load_run": "isra_keras.run_folder",
    "load_task": "isra_keras.data.tasks",
    "recipe": "isra_keras.training.recipes",
    "resolve": "isra_keras.training.recipes",
    "run": "isra_keras.training.runner",
    "score_all": "isra_keras.selection",
}

registration.install()

__version__ = "0.1.0"
__all__ = sorted(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'isra_keras' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])
