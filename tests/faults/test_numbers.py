"""Odd numbers of things: each trains to the end with finite results, or says what it needs."""

import json

import numpy as np
import pytest

from isra_keras.data.domain import Domain, Task
from isra_keras.errors import UserError
from isra_keras.methods import METHODS
from isra_keras.training.runner import run
from tests.training.small_task import CLASSES, features_config, features_task

KINDS = ("ba3us", pytest.param("shot", marks=pytest.mark.slow), "a2kt")


def trained(out, task, **given):
    """`Result` of a short run; everything that it wrote down is a number."""
    result = run(features_config(**given), out, task=task, quiet=True)
    for line in (out / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        assert all(value is not None for name, value in entry.items() if name == "loss"), entry
    assert np.isfinite(result.selected.scores["mean_entropy"])
    return result


def changed(task, source=None, target=None, classes=None):
    """A task with other rows (indices into the old ones) or fewer classes."""
    classes = classes or task.class_names

    def part(domain, rows):
        rows = np.arange(len(domain)) if rows is None else np.asarray(rows)
        return Domain(domain.name, classes, domain.labels[rows], None, domain.arrays[rows])

    return Task(task.name, part(task.source, source), part(task.target, target), classes, classes[:1], task.kind, None)


@pytest.mark.parametrize("method", KINDS)
def test_two_classes(tmp_path, method):
    """The complement entropy divides by log(C - 1) = 0: two classes leave one wrong class, nothing to spread."""
    task = features_task()
    rows, others = np.flatnonzero(task.source.labels < 2), np.flatnonzero(task.target.labels < 2)
    result = trained(tmp_path / "run", changed(task, rows, others, task.class_names[:2]), method=method)
    assert np.isfinite(list(result.class_weights.values())).all()


@pytest.mark.parametrize("method", KINDS)
def test_a_target_of_one_class(tmp_path, method):
    task = features_task()
    result = trained(tmp_path / "run", changed(task, target=np.flatnonzero(task.target.labels == 1)), method=method)
    assert result.selected.accuracy is not None


def test_a_class_without_source_samples(tmp_path):
    """It can be neither learnt nor judged shared, whatever untrained weights say; nothing becomes infinite."""
    task = features_task()
    result = trained(tmp_path / "run", changed(task, source=np.flatnonzero(task.source.labels != 4)))
    assert "eel" not in result.shared_classes and result.class_weights["eel"] == 0


@pytest.mark.parametrize("rows", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_fewer_target_samples_than_a_batch(tmp_path, rows):
    """Refused before anything is written, with the way out; a batch of that size trains."""
    task = changed(features_task(), target=np.arange(rows))
    with pytest.raises(UserError, match="batch"):
        trained(tmp_path / "run", task)
    assert not (tmp_path / "run").exists()
    trained(tmp_path / "small", task, batch_size=rows, network_options={"bottleneck": "linear"})


def test_a_last_evaluation_batch_of_one(tmp_path):
    task = changed(features_task(), target=np.arange(33))
    assert trained(tmp_path / "run", task).samples == 33


def test_more_topics_than_samples(tmp_path):
    trained(tmp_path / "run", features_task(), num_topics=200)


@pytest.mark.parametrize("method", [
    name if name in ("ba3us", "pada") else pytest.param(name, marks=pytest.mark.slow) for name in METHODS
])  # fmt: skip
def test_class_weights_of_zero(tmp_path, monkeypatch, method):
    """No class judged present: the losses stay finite, the run ends."""
    from isra_keras.methods import get_method

    monkeypatch.setattr(get_method(method), "class_weights", lambda self, evaluation: np.zeros(len(CLASSES), "float32"))
    config = features_config(method=method, iterations=4, eval_interval=2)
    run(config, tmp_path / "run", task=features_task(), quiet=True)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
              if json.loads(line)["kind"] == "train"]  # fmt: skip
    assert losses and np.isfinite(losses).all()
