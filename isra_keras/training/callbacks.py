"""Hooks: `RunCallback` for the runner, `TargetEvaluation` for a plain `model.fit`."""

import keras
import numpy as np

from isra_keras.selection import NEEDS_SOURCE, SCORES, score_all
from isra_keras.selection.oracle import oracle_accuracy


class RunCallback:
    """What `isra_keras.run` calls; override what you need."""

    def on_step(self, step, logs):
        """After a training step. `logs`: {name: float32 scalar tensor}; `step`: steps done."""

    def on_evaluation(self, entry, model):
        """After an evaluation. `entry`: the line of metrics.jsonl; raise to end the run."""

    def on_end(self, result):
        """With the `RunResult`."""


class Callbacks(RunCallback):
    """Several as one."""

    def __init__(self, callbacks=()):
        self.callbacks = list(callbacks)

    def on_step(self, step, logs):
        for callback in self.callbacks:
            callback.on_step(step, logs)

    def on_evaluation(self, entry, model):
        for callback in self.callbacks:
            callback.on_evaluation(entry, model)

    def on_end(self, result):
        for callback in self.callbacks:
            callback.on_end(result)


class TargetEvaluation(keras.callbacks.Callback):
    """Evaluates the target during `fit`: renews the class weights, scores without labels, keeps the best weights.

    Every `model.eval_interval` steps and at the end. Without it a method such as BA3US never gets class weights. Where each
    stage is a `fit` of its own, one callback may serve all: it picks among the evaluations of the last stage.

    Args:
        target: dataset of {"images", ...} with the whole target in order, from `evaluation_dataset`.
        select: name of the label-free score that picks the weights.
        restore_best: load the picked weights when training ends.
        labels: (N,) target labels, for the log alone ("oracle_accuracy"), or None.
        source: dataset of the source, for methods and scores that need it, or None; `source_labels`: (M,) its labels.

    Attributes:
        history: list of {"step", "stage", scores..., "oracle_accuracy"}.
        best_step: step of the picked weights.

    Example:
        >>> target = evaluation_dataset(task.target, 64, None, None)
        >>> model.fit(pairs.dataset(0, 2000), callbacks=[TargetEvaluation(target)])
    """

    def __init__(self, target, select="mean_entropy", restore_best=True, labels=None, source=None, source_labels=None):
        super().__init__()
        if select not in SCORES:
            raise ValueError(f"Expected select to be one of {', '.join(SCORES)}; received {select!r}.")
        if (source is None) != (source_labels is None) or source is None and select in NEEDS_SOURCE:
            given = "neither" if source is source_labels else "source alone" if source_labels is None else "source_labels alone"
            raise ValueError(f"Expected source and source_labels, both or (without select {', '.join(sorted(NEEDS_SOURCE))}) none; "
                             f"received {given} and select {select!r}. Give both, or select by another score.")  # fmt: skip
        self.target, self.select, self.restore_best, self.labels = target, select, restore_best, labels
        self.source, self.source_labels = source, source_labels
        self.history, self.best_step, self.best_value, self._weights, self._stage = [], None, None, None, None

    def on_train_begin(self, logs=None):
        if self._stage != self.model.stage.name:  # a warm-up may look surer than what comes after it
            self._stage, self.best_step, self.best_value, self._weights = self.model.stage.name, None, None, None

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.step) % self.model.eval_interval == 0:
            self.evaluate()

    def on_train_end(self, logs=None):
        last = self.history[-1] if self.history else {}
        if (last.get("step"), last.get("stage")) != (int(self.model.step), self.model.stage.name):
            self.evaluate()
        if self.restore_best and self._weights is not None:
            for variable, value in zip(picked_variables(self.model), self._weights):
                variable.assign(value)

    def evaluate(self):
        """One evaluation; returns its entry of `history`."""
        evaluation, extra = self.model.predict_domain(self.target), ()
        labels = None if self.labels is None else _labels_of(evaluation, self.labels, "labels")
        if self.source is not None:
            evaluation.source = self.model.predict_domain(self.source)
            evaluation.source.labels = _labels_of(evaluation.source, self.source_labels, "source_labels")
            evaluation.source = evaluation.source.seen()
            extra = (evaluation.source.features, evaluation.source.logits, evaluation.source.labels)
        self.model.update(evaluation)
        seen = evaluation.seen()
        entry = {"step": int(self.model.step), "stage": self.model.stage.name} | score_all(seen.features, seen.logits, *extra)
        if labels is not None:
            entry["oracle_accuracy"] = oracle_accuracy(seen.logits, labels[evaluation.readable])
        self.history.append(entry)
        sign = 1.0 if SCORES[self.select][1] == "min" else -1.0
        better = self.best_value is None or sign * entry[self.select] < sign * self.best_value
        if better and np.isfinite(entry[self.select]):  # a NaN would be compared with for ever
            self.best_value, self.best_step = entry[self.select], entry["step"]
            self._weights = [np.array(variable.numpy()) for variable in picked_variables(self.model)]
        return entry


def picked_variables(model):
    """What an evaluation's predictions depend on: the network, and what its method keeps (A2KT's prototypes)."""
    return [variable for objective in (model.network, *model.objectives) for variable in objective.weights]


def _labels_of(evaluation, labels, name):
    """(N,) array of a domain's labels; refused where they are of other rows."""
    labels, rows = np.asarray(labels), len(evaluation.logits)
    if labels.shape != (rows,):
        raise ValueError(f"Expected {name} of shape ({rows},), a class number for each row of the dataset; received shape "
                         f"{labels.shape}.")  # fmt: skip
    return labels
