"""Worker processes: a failing and a dying one do not stop the grid."""

import os
import time

from isra_keras.benchmarking import pool
from isra_keras.benchmarking.grid import Cell
from isra_keras.benchmarking.progress import GridProgress, clock, row_name


class FakeWorker(pool.Worker):
    """A worker whose process runs `fake_loop`."""


def fake_loop(pipe, settings):
    """Answers by the seed: 1 fails, 2 dies, others are done."""
    while True:
        try:
            cell = Cell.from_dict(pipe.recv())
        except EOFError:
            return
        if cell.seed == 2:
            os._exit(9)
        pipe.send(("progress", 1, 2))
        pipe.send(("failed", "ValueError: no") if cell.seed == 1 else ("done", {"status": "done", "pid": os.getpid()}))


def run(seeds, jobs, monkeypatch):
    monkeypatch.setattr(pool, "work_loop", fake_loop)
    messages, ticks = [], []
    cells = [Cell("pacs_features", "A-C", "ba3us", "off", seed) for seed in seeds]
    pool.run_cells(cells, jobs, {}, lambda worker, message: messages.append((worker.cell.seed, *message)),
                   lambda workers, waiting: ticks.append(len(workers)))  # fmt: skip
    return messages, ticks


def test_failures_do_not_stop_the_others_and_workers_stay(monkeypatch):
    messages, ticks = run([0, 1, 2, 3, 4], 1, monkeypatch)
    ends = {seed: rest for seed, kind, *rest in messages if kind != "progress"}
    assert sorted(ends) == [0, 1, 2, 3, 4]
    assert ends[1] == ["ValueError: no"] and "worker process ended" in ends[2][0]
    assert ends[3][0]["pid"] == ends[4][0]["pid"] != ends[0][0]["pid"], "a new one after the death, then the same again"
    assert (0, "progress", 1, 2) in messages and max(ticks) == 1


def test_several_at_once(monkeypatch):
    messages, ticks = run([0, 3, 4, 5], 2, monkeypatch)
    assert len({message["pid"] for _, kind, message, *_ in messages if kind == "done"}) == 2 and max(ticks) == 2


def test_workers_are_replaced_before_they_grow(monkeypatch):
    monkeypatch.setattr(pool, "CELLS_PER_WORKER", 2)
    messages, _ = run([0, 3, 4], 1, monkeypatch)
    pids = [message["pid"] for _, kind, message, *_ in messages if kind == "done"]
    assert pids[0] == pids[1] != pids[2]


def test_a_worker_speaks_as_its_parent_does(monkeypatch):
    """Before, TensorFlow's first lines came through, and what the parent had warned of was said again."""

    class Closed:
        def recv(self):
            raise EOFError

    told = []
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(pool.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(pool, "speak_plainly", told.append)
    pool.work_loop(Closed(), {"threads": 1, "said": ["a warning"]})
    assert told == [["a warning"]]


def test_progress_lines(capsys):
    cells = [Cell("pacs_features", "A-C", "ba3us", "paper", seed) for seed in range(3)]
    with GridProgress(3, passed=4) as progress:
        progress.tick([], cells[1:])
        progress.finished(cells[0], {"status": "done", "selected": {"accuracy": 0.5}}, 10.0, 1)
        progress.tick([], cells[2:])
        progress.finished(cells[1], {"status": "failed", "reason": "E: x"}, 10.0, 1)
        table = progress._table([])
        progress.finished(cells[2], {"status": "done", "selected": {"accuracy": None}}, 22.0, 1)
    said = capsys.readouterr().err
    assert "[1/3, 0:25 left] pacs_features A-C ba3us + ISRA (paper) seed 0: 50.00 % (10 s)" in said
    assert "seed 2: done (22 s)" in said, "without labels no accuracy is known"
    assert "seed 1: FAILED: E: x" in said and "1 failed, 4 done before" in table.title
    assert clock(3723) == "1:02:03" and clock(float("nan")) == "?" and row_name("afn", "off") == "afn"
    assert time.monotonic() > progress.started
