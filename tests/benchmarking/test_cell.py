"""A cell is the runner's training: same numbers, one line, nothing on the disk for features."""

import json
import os
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from isra_keras.benchmarking.cell import CellTraining, OrphanWatch, cell_config, columns, load_cached, run_cell
from isra_keras.benchmarking.votes import unpack
from isra_keras.errors import UserError
from isra_keras.training.config import TrainConfig
from isra_keras.training.interrupt import Interrupted
from tests.benchmarking.small_features import small_cell, write_features
from tests.figures import no_figures  # noqa: F401


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield write_features(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def calm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("isra", [pytest.param("off", marks=pytest.mark.slow), "paper"])
def test_equals_the_runner(data, tmp_path, isra):
    from isra_keras.training.runner import run

    cell = small_cell(isra=isra)
    line = run_cell(cell, data)
    result = run(cell_config(cell, data), tmp_path / "run", quiet=True)
    rows = [json.loads(row) for row in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    wanted = [row for row in rows if row["kind"] == "eval"]
    found = line["evaluations"]
    assert found["step"] == [row["step"] for row in wanted] == [2, 6, 10, 12]  # 2 of them warm-up
    assert found["oracle_accuracy"] == pytest.approx([row["oracle_accuracy"] for row in wanted], abs=1e-6)
    for name in ("mean_entropy", "snd", "bnm"):
        assert found["scores"][name] == pytest.approx([row["scores"][name] for row in wanted], rel=1e-3), name
    assert line["selected"]["step"] == result.selected.step
    assert line["selected"]["accuracy"] == pytest.approx(result.selected.accuracy, abs=1e-6)


def test_line_holds_what_the_tables_need_and_no_path(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = run_cell(small_cell(isra="reference"), data, work=str(tmp_path / "work"))
    text = json.dumps(line)
    assert data not in text and str(tmp_path) not in text and "nan" not in text.lower()
    assert not list(tmp_path.iterdir()), "features leave nothing behind"
    scores, signals = line["evaluations"]["scores"], line["evaluations"]["signals"]
    assert {"mean_entropy", "information_maximisation", "snd", "bnm", "dev", "source_accuracy", "source_risk"} == set(
        scores
    )
    assert {"agreement", "weight_drift", "weight_entropy", "predicted_classes"} <= set(signals)
    assert line["config"]["variant"] == "reference" and line["config"]["iterations"] == 12
    assert line["seconds"] > 0 and line["steps_per_second"] > 0 and line["peak_memory_mb"] > 50
    best = line["oracle"]["accuracy"]
    assert best == max(line["evaluations"]["oracle_accuracy"]) >= line["selected"]["accuracy"]


def test_vote_is_what_the_best_sound_evaluation_predicts(data):
    line = run_cell(small_cell(method="source_only"), data)
    classes, correct = unpack(line["vote"])
    assert line["vote"]["step"] == line["selected"]["step"] and len(classes) == line["samples"]
    assert correct.mean() == pytest.approx(line["selected"]["accuracy"], abs=1e-6)


def test_two_runs_are_equal(data):
    first, second = (run_cell(small_cell(), data)["evaluations"] for _ in range(2))
    assert first["oracle_accuracy"] == second["oracle_accuracy"]
    assert np.allclose(first["scores"]["mean_entropy"], second["scores"]["mean_entropy"], rtol=1e-4)


def test_data_stays_in_memory(data):
    config = cell_config(small_cell(), data)
    assert load_cached(config) is load_cached(config)


@pytest.mark.parametrize("frozen", [False, True])
def test_photos_are_told_apart_by_name_also_where_only_their_features_are_left(frozen, tmp_path, monkeypatch):
    from isra_keras.benchmarking import cell

    def freeze(config, task, quiet):
        return replace(task, target=replace(task.target, paths=None, arrays=np.zeros((len(task.target), 2), "float32")))

    def digest(place):
        config = TrainConfig(source_dir=str(tmp_path / "catalogue"), target_dir=str(tmp_path / place), freeze_backbone=frozen)
        assert (load_cached(config).target.paths is None) == frozen
        return cell.own_data(config)["target_files"]

    for name in ("catalogue/red/0", "catalogue/blue/1", "photos/0", "photos/1", "moved/0", "moved/1", "renamed/0", "renamed/2"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    monkeypatch.setattr(cell, "freeze", freeze)
    assert digest("photos") == digest("moved") != digest("renamed")


def test_images_keep_checkpoints_and_go_on(tmp_path, monkeypatch):
    from isra_keras.benchmarking.grid import Cell, as_given
    from isra_keras.training.interrupt import Interrupted

    cell = Cell(
        "glyphs", "Ha-Pr", "source_only", "off", 0, as_given({"iterations": 4, "eval_interval": 2, "batch_size": 8})
    )
    monkeypatch.setattr(CellTraining, "predict_source", lambda self: None)
    taken = []

    def stop_after_three(self, batch, network_training, step=CellTraining.__mro__[1].train_step):
        taken.append(self.step)
        if len(taken) == 4:
            raise Interrupted(15, self.step, "")
        step(self, batch, network_training)

    monkeypatch.setattr(CellTraining, "train_step", stop_after_three)
    with pytest.raises(Interrupted):
        run_cell(cell, work=str(tmp_path))
    monkeypatch.setattr(CellTraining, "keep_vote", lambda self, entry, keep=CellTraining.keep_vote: self.step < 4 and keep(self, entry))
    line = run_cell(cell, work=str(tmp_path))
    assert line["vote"]["step"] == 2, "a vote of before is remembered"
    assert taken == [0, 1, 2, 3, 2, 3], "goes on from the checkpoint of step 2"
    assert line["evaluations"]["step"] == [2, 4] and line["status"] == "done"
    assert line["resumed_at"] == 2, "its seconds are of the rest alone"
    assert not list(tmp_path.iterdir()), "a finished run's checkpoints are removed"


def test_user_errors_come_through(data):
    with pytest.raises(UserError, match="batch-size"):
        run_cell(small_cell(batch_size=500), data)


def test_columns_leave_gaps_where_an_evaluation_lacks_a_score():
    history = [
        {"step": 1, "stage": "a", "oracle_accuracy": None, "scores": {"snd": float("nan")}},
        {
            "step": 2,
            "stage": "a",
            "oracle_accuracy": 1 / 3,
            "scores": {"snd": 2.0, "bnm": 0.5},
            "signals": {"agreement": 1.0},
        },
    ]
    found = columns(history)
    assert found["oracle_accuracy"] == [None, 0.333333]
    assert found["scores"] == {"snd": [None, 2.0], "bnm": [None, 0.5]} and found["signals"] == {
        "agreement": [None, 1.0]
    }


def test_an_orphan_stops_at_its_next_step(monkeypatch):
    """It held its run folder until its next 50th, minutes on a CPU, and the same command found it taken."""
    told = []
    watch = OrphanWatch(lambda *at: told.append(at))
    for step in range(1, 52):
        watch(step, 100)
    assert told == [(50, 100)]
    monkeypatch.setattr(os, "getppid", lambda: -1)
    with pytest.raises(Interrupted):
        watch(52, 100)
