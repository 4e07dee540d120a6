"""Choosing a model without target labels (`SCORES`, `choose`), noticing collapse (`collapse_signals`), and with labels
for comparison only (`ORACLE`)."""

from isra_keras.selection.choose import Candidate, Shipped, choose
from isra_keras.selection.collapse import CollapseWatch, collapse_reasons, collapse_signals
from isra_keras.selection.oracle import ORACLE
from isra_keras.selection.probe import source_probe
from isra_keras.selection.ranking import best_index, ensemble_ranks
from isra_keras.selection.scores import NEEDS_SOURCE, SCORES, score_all

__all__ = [
    "Candidate",
    "CollapseWatch",
    "NEEDS_SOURCE",
    "ORACLE",
    "SCORES",
    "Shipped",
    "best_index",
    "choose",
    "collapse_reasons",
    "collapse_signals",
    "ensemble_ranks",
    "score_all",
    "source_probe",
]
