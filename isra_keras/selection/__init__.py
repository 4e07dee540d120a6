"""Choosing a model without target labels (`SCORES`), and with them for comparison only (`ORACLE`)."""

from isra_keras.selection.oracle import ORACLE
from isra_keras.selection.ranking import best_index, ensemble_ranks
from isra_keras.selection.scores import NEEDS_SOURCE, SCORES, score_all

__all__ = ["NEEDS_SOURCE", "ORACLE", "SCORES", "best_index", "ensemble_ranks", "score_all"]
