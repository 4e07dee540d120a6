"""Hyperparameters chosen without target labels: a KerasTuner hypermodel, a search command, sensitivity curves.

Example:
    >>> import keras_tuner, isra_keras
    >>> from tuning import ISRAHyperModel, objective
    >>> task = isra_keras.load_task("glyphs", "printed", "handwritten")
    >>> tuner = keras_tuner.BayesianOptimization(ISRAHyperModel(task), objective=objective("sel:mean_entropy"),
    ...                                          directory="runs", project_name="printed-handwritten")
    >>> tuner.search()

Name a folder (`directory`, `project_name`) for each search: in one that holds another search, KerasTuner goes on with that
one without a word; `overwrite=True` begins anew. `python -m tuning.search` refuses it.
"""

import importlib

_PUBLIC = {"ISRAHyperModel": "tuning.hypermodel", "objective": "tuning.objectives"}

__all__ = sorted(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tuning' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
