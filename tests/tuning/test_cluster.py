"""Chief and workers as processes on 127.0.0.1: the same trials as alone; a worker and a chief that are killed."""

import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("keras_tuner")
sys.path.insert(0, str(Path(__file__).parent))
import toy  # noqa: E402

from isra_keras.errors import UserError  # noqa: E402
from isra_keras.training.checkpoint import is_disk_full  # noqa: E402
from tuning import cluster, local, records, search  # noqa: E402

ROOT = Path(__file__).parents[2]


class Toys(local.LocalCluster):
    """The toy search in place of the command."""

    def __init__(self, folder, trials, workers, seconds):
        command = [sys.executable, str(Path(toy.__file__)), str(folder), str(trials), str(seconds)]
        super().__init__(command, workers, folder)

    def start(self, name):
        os.environ["PYTHONPATH"] = str(ROOT)
        super().start(name)

    def wait(self, condition, seconds=150, restart=True):
        """Watches until the condition holds."""
        ends = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < ends, self.report()
            if restart and self.watch():
                return
            time.sleep(0.1)

    def report(self):
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in self.logs.iterdir())


def running(folder, who):
    """Trial folder that a worker is in, None if there is none."""
    done = {name for name, _, _ in toy.runs(folder)}
    found = [path.parent for path in Path(folder).glob(f"trial_*/runner.{who}") if path.parent.name not in done]
    return found[0] if found else None


def finished(folder, count):
    rows = records.read_rows(folder)
    return sum(row.status == "COMPLETED" for row in rows) == count


def test_two_workers_finish_the_trials_of_one(tmp_path):
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    toy.make_tuner(alone, 5).search()
    with Toys(spread, 5, 2, 0.5) as processes:
        processes.wait(lambda: False)
    wanted, there = records.read_rows(alone), records.read_rows(spread)
    assert [row.status for row in there] == ["COMPLETED"] * 5
    assert [row.values["x"] for row in there] == pytest.approx([row.values["x"] for row in wanted])
    assert [row.score for row in there] == pytest.approx([row.score for row in wanted])
    assert len(toy.runs(spread)) == 5


@pytest.mark.slow
def test_killed_worker_loses_its_trial_to_another(tmp_path):
    folder = tmp_path / "s"
    with Toys(folder, 4, 2, 2.0) as processes:
        processes.wait(lambda: running(folder, "worker1"))
        lost = running(folder, "worker1")
        processes.processes.pop("worker1").kill()  # nobody starts it again
        processes.wait(lambda: False)
    assert finished(folder, 4)
    assert [who for name, _, who in toy.runs(folder) if name == lost.name] == ["worker0"]
    assert len(toy.runs(folder)) == 4


@pytest.mark.slow
def test_killed_worker_is_started_again_with_its_trial(tmp_path):
    folder = tmp_path / "s"
    with Toys(folder, 3, 1, 2.0) as processes:
        processes.wait(lambda: running(folder, "worker0"))
        processes.processes["worker0"].kill()
        processes.wait(lambda: False)
    assert finished(folder, 3) and len(toy.runs(folder)) == 3 and processes.restarts["worker0"] == 1


@pytest.mark.slow
def test_killed_chief_goes_on_after_its_restart(tmp_path):
    folder = tmp_path / "s"
    with Toys(folder, 5, 2, 2.0) as processes:
        processes.wait(lambda: len(toy.runs(folder)) >= 1 and running(folder, "worker0"))
        processes.processes["chief"].kill()
        processes.wait(lambda: False)
    assert finished(folder, 5)
    assert len(toy.runs(folder)) == 5, toy.runs(folder)  # the workers kept what they were doing
    assert processes.restarts["chief"] == 1 and processes.restarts["worker0"] == 0


class Cluster:
    """A chief's servicer and what workers would ask it, in this process."""

    def __init__(self, folder, trials, kind="random"):
        from keras_tuner.src import protos

        self.messages = protos.get_service()
        self.oracle = toy.make_tuner(folder, trials, kind=kind).oracle
        self.servicer = cluster.make_servicer(self.oracle)

    def ask(self, worker, call=None):
        """(trial, its status) that the worker is given."""
        from keras_tuner.src.engine.trial import Trial

        trial = Trial.from_proto(
            self.servicer.CreateTrial(self.messages.CreateTrialRequest(tuner_id=worker), call).trial
        )
        return trial, trial.status

    def report(self, trial, call=None):
        metrics = {"sel:mean_entropy": 0.5}
        request = self.messages.UpdateTrialRequest(trial_id=trial.trial_id, metrics=metrics, step=0)
        self.servicer.UpdateTrial(request, call)

    def end(self, trial, call=None, status="COMPLETED"):
        trial.status = status
        self.servicer.EndTrial(self.messages.EndTrialRequest(trial=trial.to_proto()), call)

    def finish(self, trial):
        self.report(trial)
        self.end(trial)


def test_trial_of_the_last_running_worker_finds_another_one(tmp_path):
    search = Cluster(tmp_path / "s", 2)
    first, lost = search.ask("worker0")[0], search.ask("worker1")[0]
    search.finish(first)
    assert search.ask("worker0")[1] == "IDLE" and not search.servicer.stop_triggered  # worker1 still runs a trial
    search.servicer.reap(-1.0)  # worker1 died
    taken, status = search.ask("worker0")
    assert status == "RUNNING" and taken.trial_id == lost.trial_id and not search.servicer.finished()
    search.finish(taken)
    assert search.servicer.waiting()  # until worker0 has heard of the end
    assert search.ask("worker0")[1] == "STOPPED" and search.servicer.finished() and not search.servicer.waiting()


def test_restarted_chief_waits_for_the_worker_of_a_trial(tmp_path):
    Cluster(tmp_path / "s", 1).ask("worker0")
    after = Cluster(tmp_path / "s", 1)
    after.finish(after.ask("worker0")[0])
    assert after.servicer.finished() and after.servicer.waiting()
    assert after.ask("worker0")[1] == "STOPPED" and not after.servicer.waiting()


def test_restarted_chief_serves_workers_that_it_does_not_know(tmp_path, monkeypatch):
    """All trials had ended when the chief died twice; a worker waits for it."""
    before = Cluster(tmp_path / "s", 1)
    before.finish(before.ask("worker0")[0])
    toy.make_tuner(tmp_path / "s", 1)
    monkeypatch.setattr(cluster, "GRACE", 10.0)
    monkeypatch.setenv("ISRA_TUNE_PATIENCE", "30")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    for name, value in (("IP", "127.0.0.1"), ("PORT", str(local.free_port()))):
        monkeypatch.setenv(f"KERASTUNER_ORACLE_{name}", value)
    after = toy.make_tuner(tmp_path / "s", 1)
    chief = threading.Thread(target=after.search)
    chief.start()
    time.sleep(1.5)  # as long as a worker may take to find the chief again
    assert cluster.PatientClient(after.oracle).create_trial("worker1").status == "STOPPED"
    chief.join(30)
    assert not chief.is_alive()


@pytest.mark.parametrize("kind", ["grid", "hyperband"])
def test_restarted_chief_knows_that_nothing_more_is_to_try(tmp_path, kind):
    before = Cluster(tmp_path / "s", 40, kind)
    while True:
        trial, status = before.ask("worker0")
        if status == "STOPPED":
            break
        before.finish(trial)
    assert before.servicer.finished() and 3 < len(before.oracle.trials) < 40
    assert Cluster(tmp_path / "s", 40, kind).servicer.finished()
    assert search.finished(tmp_path / "s", 40)  # a worker that comes later
    assert not Cluster(tmp_path / "s", 50, kind).servicer.finished() and not search.finished(tmp_path / "s", 50)


def test_search_that_failures_ended_goes_on_with_more_than_one_trial(tmp_path):
    before = Cluster(tmp_path / "s", 9)
    for _ in range(3):
        before.end(before.ask("worker0")[0], status="FAILED")
    assert before.servicer.finished() and "failures" in str(before.servicer.failure)
    after = Cluster(tmp_path / "s", 9)
    for status in ("COMPLETED", "FAILED", "COMPLETED", "FAILED", "FAILED"):
        trial = after.ask("worker0")[0]
        after.report(trial)
        after.end(trial, status=status)
        assert after.servicer.failure is None
    after.end(after.ask("worker0")[0], status="FAILED")
    assert after.servicer.finished() and len(after.oracle.trials) == 9


class Away(Exception):
    """What `abort` raises in a call."""


class Call:
    """In the place of gRPC's context of a call."""

    def abort(self, code, text):
        raise Away(code.name)


@pytest.mark.parametrize("file, number", [("trial.json", 1), ("trial.json", 2), ("oracle.json", 1)])
def test_full_disk_of_the_chief_ends_it_and_fails_no_trial(tmp_path, monkeypatch, file, number):
    search, call = Cluster(tmp_path / "s", 2), Call()
    trial = search.ask("worker0")[0]
    with monkeypatch.context() as patch:
        toy.fill_disk_at(patch, file, number)
        with pytest.raises(Away, match="UNAVAILABLE"):
            search.report(trial, call)
            search.end(trial, call)
    with pytest.raises(Away):  # though there is room again: its memory is ahead of its files
        search.ask("worker1", call)
    assert search.servicer.finished() and is_disk_full(search.servicer.full)
    after = Cluster(tmp_path / "s", 2)
    if number == 2:  # the worker repeats its call to the end; the report is gone
        assert after.oracle.trials["0"].status == "RUNNING"
        after.end(trial)
        trial = after.ask("worker0")[0]
        assert trial.trial_id == "0"
    if file == "trial.json":
        after.report(trial)
    after.end(trial)
    assert after.oracle.trials["0"].status == "COMPLETED" and after.ask("worker0")[0].trial_id == "1"


def test_half_of_the_variables_is_refused(monkeypatch):
    assert cluster.role() == "alone"
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    with pytest.raises(UserError, match="KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT"):
        cluster.role()


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan", "inf", ""])
def test_patience_is_a_number(monkeypatch, given):
    monkeypatch.setenv("ISRA_TUNE_PATIENCE", given)
    with pytest.raises(UserError, match="ISRA_TUNE_PATIENCE.*number above 0"):
        cluster.patience()


class Processes(local.LocalCluster):
    """Without processes: `watch` sees codes."""

    def start(self, name):
        self.processes[name] = SimpleNamespace(poll=lambda: None, terminate=lambda: None, wait=lambda seconds: 0)

    def dies(self, name):
        self.processes[name] = SimpleNamespace(poll=lambda: -9, wait=lambda seconds: 0)
        return self.watch()


def test_deaths_count_while_no_trial_ends(tmp_path, monkeypatch):
    """Two trials that kill their process used a local search up: three deaths each."""
    ended = []
    monkeypatch.setattr(local, "read_rows", lambda folder: [SimpleNamespace(status=status) for status in ended])
    processes = Processes([], 1, tmp_path)
    with processes:
        for _ in range(2):
            for _ in range(3):
                assert not processes.dies("worker0")
            ended.append("FAILED")
        for _ in range(local.MAX_RESTARTS):
            assert not processes.dies("worker0")
        with pytest.raises(UserError, match="died 6 times and no trial ended"):
            processes.dies("worker0")


@pytest.mark.parametrize("late", [False, True])
def test_workers_that_the_supervisor_kills_count_nothing_against_their_trials(tmp_path, monkeypatch, late):
    monkeypatch.setattr(local, "PATIENCE", 0.2)
    attempts = tmp_path / "trial_0" / "attempts.json"
    attempts.parent.mkdir()
    attempts.write_text("1")
    ignoring = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" * late
    code = f"import pathlib, signal, sys, time; {ignoring} pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    with local.LocalCluster([sys.executable, "-c", code, str(tmp_path / "ready")], 1, tmp_path) as processes:
        ends = time.monotonic() + 30
        while not (tmp_path / "ready").exists() and time.monotonic() < ends:
            time.sleep(0.05)
        time.sleep(0.3 * late)  # both of them
    assert all(process.poll() is not None for process in processes.processes.values())
    assert attempts.exists() != late


def test_commands_of_the_processes_leave_the_workers_out():
    words = ["--local-workers", "3", "--out", "x", "--local-workers=2", "--seeds", "2"]
    assert search.without_workers(words) == ["--out", "x", "--seeds", "2"]
