"""Two replicas follow one: as two devices of a process, and as two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isra_keras.errors import UserError
from isra_keras.training.cluster import cluster, is_chief
from isra_keras.training.distribution import Distribution, make_distribution
from isra_keras.training.replica import share
from tests.faults.killing import free_ports
from tests.training.small_task import features_config

ROOT = Path(__file__).resolve().parents[2]
EXACT = 1e-5
"""Largest error that rounding explains, relative to an array's largest value (golden: its largest change)."""


def test_shares_are_equal_to_a_row_and_cover_the_batch():
    for rows in range(12):
        spans = [share(rows, number, 4) for number in range(4)]
        if rows < 4:
            assert spans == [(0, rows)] * 4
            continue
        assert [row for start, stop in spans for row in range(start, stop)] == list(range(rows))
        assert max(stop - start for start, stop in spans) - min(stop - start for start, stop in spans) <= 1


def start(kind, cases, workers=2, onednn=True):
    """Processes of a job; one for "mirrored"."""
    ports = free_ports(workers)
    processes = []
    for number in range(workers if kind == "multi_worker" else 1):
        config = {
            "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
            "task": {"type": "worker", "index": number},
        }
        environment = os.environ | ({"TF_CONFIG": json.dumps(config)} if kind == "multi_worker" else {})
        environment |= {} if onednn else {"TF_ENABLE_ONEDNN_OPTS": "0"}
        processes.append(subprocess.Popen([sys.executable, "-m", "tests.training.replica_job", kind, *cases], cwd=ROOT, env=environment,
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))  # fmt: skip
    return processes


def found(kind, cases, onednn=True):
    """{case: its line}, the same from every process."""
    lines = []
    for process in start(kind, cases, onednn=onednn):
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors[-3000:]
        lines.append({line["case"]: line for line in map(json.loads, output.splitlines())})
    assert all(one == lines[0] for one in lines) and set(lines[0]) == set(cases)
    return lines[0]


@pytest.mark.parametrize("kind, cases", [
    ("mirrored", ["isra_trajectory", "keras_layer"]),  # BA3US is whole in that of ISRA
    pytest.param("mirrored", ["ba3us_trajectory"], marks=pytest.mark.slow),
    ("multi_worker", ["isra_trajectory", "ba3us_trajectory", "keras_layer"]),
])  # fmt: skip
def test_golden_trajectories_with_half_the_batch_each(kind, cases):
    lines = found(kind, cases)
    for case, line in lines.items():
        assert line["error"] < EXACT, (case, line)
        assert line.get("few_passes", False) == case.startswith("isra"), (case, line)
    assert "keras_layer" not in cases or lines["keras_layer"]["left_alone"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mirrored", "multi_worker"])
def test_methods_with_state_stages_and_images_of_their_own(kind):
    """Middle batches of 6, 4, 3 and 1 rows; sharded reading with augmentation; evaluations gathered in order; the same
    class weights; batch normalisation over all replicas (in the bottleneck, PyTorch's rule)."""
    cases = ["odd_middle", "images", "shot", "a2kt", "slm", "san", "sync"]
    for case, line in found(kind, cases, onednn=False).items():  # its convolutions round otherwise for half a batch
        assert max(line[name] for name in ("error", "logits", "class_weights")) < EXACT, (case, line)
        assert line["moved"] >= 10, (case, line)


@pytest.mark.slow
def test_plain_batch_normalisation_is_per_replica():
    lines = found("mirrored", ["plain", "sync"])
    assert lines["plain"]["error"] > 1e-3 and lines["sync"]["error"] < EXACT


def test_alone_is_the_default():
    found = make_distribution(features_config())
    assert (
        type(found) is Distribution and found.replicas == 1 and found.own_rows() is None and is_chief(features_config())
    )


class Three:
    """Stands in for a strategy."""

    num_replicas_in_sync = 3


@pytest.mark.parametrize("given, said", [
    ({"batch_size": 8}, "--batch-size that 3 replicas can share equally; received 8. Take 6"),
    ({"batch_size": 9, "jit_compile": True}, "--no-jit-compile"),
    ({"batch_size": 9, "precision": "mixed_float16"}, "mixed_float16"),
])  # fmt: skip
def test_what_replicas_can_not_train_is_refused(given, said):
    from isra_keras.training.distribution import Replicated

    with pytest.raises(UserError, match=said):
        Replicated(Three()).configure(features_config(distribute="mirrored", **given))
    Replicated(Three()).configure(features_config(distribute="mirrored", batch_size=9))


@pytest.mark.parametrize("text", [
    None, "", "{", "[]", '{"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
    '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}',
])  # fmt: skip
def test_tf_config_is_explained(monkeypatch, text):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG such as"):
        cluster()


def test_the_chief_is_worker_0(monkeypatch):
    for index in (0, 1):
        task = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(task))
        assert cluster() == (2, index) and is_chief(features_config(distribute="multi_worker")) == (index == 0)


def test_rows_that_a_worker_could_not_read_are_known_to_all():
    """Its whole domain has all rows; which of them stand for nobody comes with them."""
    import numpy as np

    from isra_keras.objective import Evaluation
    from isra_keras.training.distribution import Replicated

    def evaluation(rows, readable):
        columns = {name: np.full((rows, 2), 1.0, "float32") for name in ("features", "logits", "pooled")}
        return Evaluation(**columns, readable=np.array(readable))

    workers = [Replicated(Three(), workers=3, worker=number) for number in range(3)]
    parts = [evaluation(1, [True]), evaluation(2, [True, False]), evaluation(2, [True, False])]
    sent = []
    for worker in workers:
        worker.sum_over_workers = lambda array: sent.append(array) or array
    for worker, part in zip(workers, parts):
        worker.whole(part, np.arange(len(part.readable)), 5)
    workers[0].sum_over_workers = lambda array: sum(sent[:3])
    found, rows = workers[0].whole(parts[0], np.arange(2), 5)
    assert sorted(np.flatnonzero(~found.readable).tolist()) == [2, 4] and rows.tolist() == [0, 1, 2, 3, 4]
    assert len(found.seen().logits) == 3 and (found.logits == 1).all()
