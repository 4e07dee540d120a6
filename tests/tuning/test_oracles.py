"""A search that is killed at any write goes on: no finished trial is lost, none is run twice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("keras_tuner")
sys.path.insert(0, str(Path(__file__).parent))
import toy  # noqa: E402

from isra_keras.errors import UserError  # noqa: E402
from isra_keras.training import checkpoint  # noqa: E402
from tuning.records import best_row, read_rows  # noqa: E402


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(checkpoint.os, "fsync", lambda file: None)


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the way may catch it."""


def kill_at(monkeypatch, number, after):
    """The process "dies" at the write of that number, before or after the file takes its name."""
    count, real = 0, checkpoint.os.replace

    def replace(source, target):
        nonlocal count
        count += 1
        if count == number and not after:
            raise Killed
        real(source, target)
        if count == number:
            raise Killed

    monkeypatch.setattr(checkpoint.os, "replace", replace)


@pytest.mark.parametrize("kind, stride, trials", [("random", 1, 3), ("grid", 1, 3), ("bayesian", 7, 3), ("hyperband", 1, 6)])  # fmt: skip
def test_search_survives_a_kill_at_every_write(tmp_path, monkeypatch, kind, stride, trials):
    """Hyperband's are three, the best of them promoted, and two."""

    def make_tuner(folder):
        return toy.make_tuner(folder, 3 if kind != "hyperband" else 40, kind=kind, budget=3)

    whole = tmp_path / "whole"
    make_tuner(whole).search()
    wanted = {row.trial_id: row.values["x"] for row in read_rows(whole)}
    assert len(wanted) == trials
    kills = 0
    for number in range(1, 99, stride):
        folder = tmp_path / f"{number}"
        with monkeypatch.context() as patch:
            kill_at(patch, number, after=number % 2 == 0)
            try:
                make_tuner(folder).search()
                break
            except Killed:
                kills += 1
        finished = {row.trial_id: row.score for row in read_rows(folder) if row.status == "COMPLETED"}
        before = len(toy.runs(folder))
        make_tuner(folder).search()
        rows = read_rows(folder)
        assert [row.status for row in rows] == ["COMPLETED"] * trials, number
        assert {row.trial_id: row.values["x"] for row in rows} == pytest.approx(wanted), number
        assert len(toy.runs(folder)) - before == trials - len(finished), number
        assert all(row.score == finished.get(row.trial_id, row.score) for row in rows)
    assert kills > 10 // stride


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_process_killed_while_it_writes_the_oracle(tmp_path, number):
    folder = tmp_path / "s"
    command = [sys.executable, toy.__file__, str(folder), "3"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run(command, env=environment | {"TOY_KILL": str(number)}).returncode == -signal.SIGKILL
    subprocess.run(command, env=environment, check=True)
    assert [row.status for row in read_rows(folder)] == ["COMPLETED"] * 3
    assert sorted(name for name, _, _ in toy.runs(folder)) == ["trial_0", "trial_1", "trial_2"]


def test_oracle_file_is_whole_after_a_kill_in_its_write(tmp_path, monkeypatch):
    tuner = toy.make_tuner(tmp_path / "s", 3)
    before = json.loads((tmp_path / "s" / "oracle.json").read_text())
    kill_at(monkeypatch, 1, after=False)
    with pytest.raises(Killed):
        tuner.oracle.save()
    assert json.loads((tmp_path / "s" / "oracle.json").read_text()) == before


@pytest.mark.parametrize("file", ["trial.json", "oracle.json", "attempts.json"])
def test_search_goes_on_after_a_disk_that_was_full_at_a_write(tmp_path, monkeypatch, file):
    for number in range(1, 7):
        folder = tmp_path / f"{number}"
        with monkeypatch.context() as patch:
            toy.fill_disk_at(patch, file, number)
            try:
                toy.make_tuner(folder, 2).search()
                break
            except UserError as error:
                assert "Free some space" in str(error) or "free some space" in str(error)
        assert not {row.status for row in read_rows(folder)} & {"FAILED", "INVALID"}
        toy.make_tuner(folder, 2).search()
        assert [row.status for row in read_rows(folder)] == ["COMPLETED"] * 2
    assert number > 2


def test_first_trial_is_the_recipe(tmp_path):
    for kind in ("random", "bayesian", "grid"):
        toy.make_tuner(tmp_path / kind, 1, kind=kind).search()
        assert read_rows(tmp_path / kind)[0].values["x"] == 0.5


def test_objective_is_minimised_and_maximised(tmp_path):
    toy.make_tuner(tmp_path / "s", 5).search()
    rows = read_rows(tmp_path / "s")
    scores = [row.score for row in rows]
    assert best_row(rows, "min").score == min(scores) < max(scores) == best_row(rows, "max").score


def test_hyperband_ends_with_whole_trainings(tmp_path):
    toy.make_tuner(tmp_path / "s", 40, kind="hyperband").search()
    rows = read_rows(tmp_path / "s")
    assert {row.budget for row in rows} == {1, 3, 9}
    assert best_row(rows, "min").budget == 9


def test_gaussian_process_stands_several_workers(tmp_path):
    oracle = toy.make_tuner(tmp_path / "s", 20, kind="bayesian").oracle
    first = [oracle.create_trial(f"w{number}") for number in range(12)]
    for trial in first[:10]:
        oracle.update_trial(trial.trial_id, {"sel:mean_entropy": trial.hyperparameters.get("x")})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert oracle.create_trial("new").status == "RUNNING"  # two trials are still running


def test_gaussian_process_goes_on_to_the_very_same_values(tmp_path, monkeypatch):
    toy.make_tuner(tmp_path / "whole", 7, kind="bayesian").search()
    toy.make_tuner(tmp_path / "s", 7, kind="bayesian")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 29, after=True)
        toy.make_tuner(tmp_path / "s", 7, kind="bayesian").search()
    assert 3 < len(toy.runs(tmp_path / "s")) < 6, "behind one that the process proposed, before another"
    toy.make_tuner(tmp_path / "s", 7, kind="bayesian").search()
    values = [[row.values["x"] for row in read_rows(tmp_path / name)] for name in ("s", "whole")]
    assert values[0] == values[1]


def test_gaussian_process_tries_no_corner_twice(tmp_path):
    toy.make_tuner(tmp_path / "s", 9, kind="bayesian").search()  # the best x is at the lower end
    values = [row.values["x"] for row in read_rows(tmp_path / "s")]
    assert min(values) == pytest.approx(0.01) and len({f"{value:.9g}" for value in values}) == 9
