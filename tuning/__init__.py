"""Hyperparameters chosen without target labels: a KerasTuner hypermodel, a search command, sensitivity curves.

Example:
    >>> import keras_tuner, isra_keras
    >>> from tuning import ISRAHyperModel, objective
    >>> task = isra_keras.load_task("glyphs", "printed", "handwritten")
    >>> tuner = keras_tuner.BayesianOptimization(ISRAHyperModel(task), objective=objective("sel:mean_entropy"))
    >>> tuner.search()
"""

import importlib

_PUBLIC = {"ISRAHyperModel": "tuning.hypermodel", "objective": "tuning.objectives"}

__all__ = sorted(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tuning' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
