"""TargetEvaluation picks, restores and refuses; Callbacks are several as one."""

import types

import keras
import numpy as np
import pytest

from isra_keras.data.pairs import DomainPairs, evaluation_dataset
from isra_keras.methods.source_only import SourceOnly
from isra_keras.model import AdaptationModel
from isra_keras.training.callbacks import Callbacks, RunCallback, TargetEvaluation
from tests.training.small_task import CLASSES, WIDTH, features_task


def train(evaluation, task, steps=7):
    from isra_keras.backbones import build_network

    keras.utils.set_random_seed(0)
    network = build_network("features", len(CLASSES), 8, (WIDTH,), weights="none")
    model = AdaptationModel(network, SourceOnly(), max_iterations=steps, eval_interval=3)
    model.compile()
    model.fit(DomainPairs(task, 8, 0).dataset(0, steps), callbacks=[evaluation], verbose=0)
    return model


def test_evaluates_at_intervals_and_at_the_end_and_scores_the_source():
    task = features_task()
    evaluation = TargetEvaluation(
        evaluation_dataset(task.target, 16), labels=task.target.labels,
        source=evaluation_dataset(task.source, 16), source_labels=task.source.labels,
    )  # fmt: skip
    train(evaluation, task)
    assert [entry["step"] for entry in evaluation.history] == [3, 6, 7]
    assert {"mean_entropy", "dev", "source_accuracy", "oracle_accuracy"} <= set(evaluation.history[0])


@pytest.mark.parametrize("select, best", [("mean_entropy", min), ("bnm", max)])
def test_the_picked_weights_are_the_last_word(select, best):
    task = features_task()
    evaluation = TargetEvaluation(evaluation_dataset(task.target, 16), select=select)
    values = iter([0.3, 0.9, 0.1, 0.5]) if best is min else iter([0.3, 0.1, 0.9, 0.5])
    kept = []

    def scored(*args):
        kept.append(evaluation.model.network.get_weights())
        return {select: next(values)}

    from isra_keras.training import callbacks

    original, callbacks.score_all = callbacks.score_all, scored
    try:
        model = train(evaluation, task, steps=10)
    finally:
        callbacks.score_all = original
    assert evaluation.best_step == 9 and evaluation.best_value == best(0.1, 0.9)
    assert all(np.array_equal(a, b) for a, b in zip(model.network.get_weights(), kept[2]))
    assert "oracle_accuracy" not in evaluation.history[0]


def test_a_score_that_is_no_number_is_never_the_best(monkeypatch):
    """It was compared with for ever, and its weights came back at the end."""
    from isra_keras.training import callbacks

    task, values = features_task(), iter([float("nan"), 0.3, 0.2, 0.5])
    monkeypatch.setattr(callbacks, "score_all", lambda *args: {"mean_entropy": next(values)})
    evaluation = TargetEvaluation(evaluation_dataset(task.target, 16))
    train(evaluation, task, steps=10)
    assert evaluation.best_step == 9 and evaluation.best_value == 0.2


def test_without_restoring_the_last_weights_stay():
    task = features_task()
    evaluation = TargetEvaluation(evaluation_dataset(task.target, 16), restore_best=False)
    evaluation.set_model = lambda model, put=evaluation.set_model: put(model)
    model = train(evaluation, task, steps=3)
    last = model.network.get_weights()
    evaluation.on_train_end()
    assert all(np.array_equal(a, b) for a, b in zip(last, model.network.get_weights()))


def test_unknown_score_lists_the_valid_ones():
    with pytest.raises(ValueError, match="mean_entropy.*'accuracy'"):
        TargetEvaluation(None, select="accuracy")


@pytest.mark.parametrize("name", ["labels", "source_labels"])
@pytest.mark.parametrize("change", [lambda labels: labels[:-1], lambda labels: np.eye(9)[labels]])
def test_labels_of_other_rows_are_refused(name, change):
    """Too few failed as an index out of range, one-hot ones were compared with all rows at once."""
    task = features_task()
    given = {"labels": task.target.labels, "source_labels": task.source.labels}
    given[name] = change(given[name])
    evaluation = TargetEvaluation(evaluation_dataset(task.target, 16), source=evaluation_dataset(task.source, 16), **given)
    with pytest.raises(ValueError, match=rf"Expected {name} of shape \(\d+,\), a class number.*received shape"):
        train(evaluation, task, steps=3)


def test_several_as_one_in_order():
    calls = []

    def named(name):
        return types.SimpleNamespace(
            on_step=lambda *a: calls.append((name, "step", *a)), on_evaluation=lambda *a: calls.append((name, "eval", *a)),
            on_end=lambda *a: calls.append((name, "end", *a)),
        )  # fmt: skip

    both = Callbacks([named("a"), RunCallback(), named("b")])
    both.on_step(1, {}), both.on_evaluation({}, None), both.on_end("r")
    expected = [("step", 1, {}), ("eval", {}, None), ("end", "r")]
    assert calls == [(name, *what) for what in expected for name in "ab"]
