"""What is refused before a run writes its first byte."""

import dataclasses
from pathlib import Path

import pytest

from isra_keras.errors import UserError
from isra_keras.run_folder import run_folder
from isra_keras.training import prepare as module
from isra_keras.training import runner
from isra_keras.training.asked import configurations
from isra_keras.training.config import TrainConfig
from isra_keras.training.prepare import check_folder, check_task, prepared_folder
from tests.training.small_task import features_config, features_task


def started(folder, config):
    folder.mkdir()
    (folder / "config.json").write_text(config.to_json())
    return folder


def test_missing_and_empty_folders_are_fine(tmp_path):
    for resume in (True, False):
        check_folder(tmp_path / "new", TrainConfig(), resume)
        check_folder(tmp_path, TrainConfig(), resume)


def test_a_run_below_the_home_makes_no_folder_of_that_name(tmp_path, monkeypatch):
    """In a notebook and behind --out= no shell reads the ~: a run was in ./~/runs, a folder that nobody dares to remove."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "_run", lambda config, out, *rest: out)
    out = tmp_path / "runs" / "mine"
    assert runner.run(features_config(), "~/runs/mine") == out
    assert list(configurations({}, "~/runs/mine")) == [out]
    assert list(configurations({}, "~/runs/mine", seeds=1)) == [out / "seed0"]
    out.mkdir(parents=True)
    (out / "model.keras").touch()
    assert run_folder("~/runs/mine") == out


def test_refuses_to_overwrite_and_to_resume_what_is_no_run(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="--resume"):
        check_folder(tmp_path, TrainConfig(), False)
    with pytest.raises(UserError, match="no config.json"):
        check_folder(tmp_path, TrainConfig(), True)
    with pytest.raises(UserError, match="is a file"):
        check_folder(tmp_path / "thesis.txt", TrainConfig(), False)


def test_resume_with_another_setting_names_it_and_both_values(tmp_path):
    out = started(tmp_path / "run", TrainConfig())
    check_folder(out, TrainConfig(data_dir="elsewhere", keep_checkpoints=5, distribute="mirrored"), True)
    other = TrainConfig(learning_rate=0.5, method="shot")
    with pytest.raises(UserError, match="method 'ba3us' -> 'shot', learning_rate 0.001 -> 0.5"):
        check_folder(out, other, True)


def test_folders_are_the_same_however_they_are_spelled(tmp_path, monkeypatch):
    """Runs of earlier versions keep what was typed."""
    monkeypatch.chdir(tmp_path)
    saved = TrainConfig(dataset=None, source_dir="d/src/", target_dir="d/photos")
    out = started(tmp_path / "run", saved)
    same = {"source_dir": str(tmp_path / "d" / "src"), "target_dir": "./d/photos/"}
    check_folder(out, dataclasses.replace(saved, **same), True)
    with pytest.raises(UserError, match="source_dir 'd/src/' -> 'd/other'"):
        check_folder(out, dataclasses.replace(saved, source_dir="d/other"), True)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TrainConfig) if f.type in (int, float, bool)])
def test_every_number_of_the_configuration_is_watched(tmp_path, name):
    if name in ("keep_checkpoints", "format_version"):
        return
    config = TrainConfig()
    out = started(tmp_path / "run", config)
    value, step = getattr(config, name), -1 if name == "iterations" else 1  # a run may be made longer
    other = not value if value in (True, False) else value + step
    with pytest.raises(UserError, match=name):
        check_folder(out, dataclasses.replace(config, **{name: other}), True)


def test_batch_larger_than_a_domain():
    task = features_task(rows=60)
    check_task(task, features_config(batch_size=40))
    with pytest.raises(UserError, match="at most 40, the target domain 'two'.*received 41"):
        check_task(task, features_config(batch_size=41))
    with pytest.raises(UserError, match="at most 40, the target domain 'two'.*received 61"):  # not 60 first, then 40
        check_task(task, features_config(batch_size=61))
    with pytest.raises(UserError, match="at most 40, the source domain 'two'"):
        check_task(dataclasses.replace(task, source=task.target, target=task.source), features_config(batch_size=61))


def test_prepared_folder_holds_the_configuration_and_the_lock(tmp_path):
    out, config = tmp_path / "a" / "run", TrainConfig()
    with prepared_folder(out, config, False):
        assert TrainConfig.load(out / "config.json") == config
        with pytest.raises(UserError, match="alone"), prepared_folder(out, config, True):
            pass


def test_a_folder_that_could_not_be_prepared_is_removed_again(tmp_path, monkeypatch):
    def full(path, text):
        raise UserError("disk full")

    monkeypatch.setattr(module, "write_text", full)
    with pytest.raises(UserError), prepared_folder(tmp_path / "run", TrainConfig(), False):
        pass
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run"), prepared_folder(tmp_path / "file" / "run", TrainConfig(), False):
        pass


def test_load_data_hands_on_what_the_configuration_says(monkeypatch):
    from isra_keras.data import tasks

    calls = []
    monkeypatch.setattr(tasks, "load_task", lambda *a, **k: calls.append((a, k)))
    monkeypatch.setattr(tasks, "folder_task", lambda *a, **k: calls.append((a, k)))
    module.load_data(
        TrainConfig(dataset="glyphs", source="a", target="b", data_dir="d", data_seed=3, on_bad_image="error")
    )
    module.load_data(TrainConfig(dataset=None, source_dir="s", target_dir="t"))
    options = {"data_dir": "d", "seed": 3, "allow_incomplete": False, "on_bad_image": "error"}
    assert calls == [(("glyphs", "a", "b"), options), (("s", "t"), {"on_bad_image": "skip"})]


def test_a_run_folder_among_the_images_is_refused(tmp_path, monkeypatch):
    """Its figures were images of the next run: of a class "runs", or without labels."""
    for name in ("shop", "street"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "street")
    config = TrainConfig(dataset=None, source_dir=str(tmp_path / "shop"), target_dir=".")
    with pytest.raises(UserError, match="Expected --out outside of the images; 'runs/a' lies in --target-dir '.'"):
        check_folder(Path("runs/a"), config, False)
    with pytest.raises(UserError, match="lies in --source-dir"):
        check_folder(tmp_path / "shop" / "a", config, True)
    check_folder(tmp_path / "shops", config, False)


def test_folders_may_move_if_the_old_ones_are_gone(tmp_path):
    (tmp_path / "old").mkdir()
    saved = TrainConfig(dataset=None, source_dir=str(tmp_path / "old"), target_dir=str(tmp_path / "photos"))
    out = started(tmp_path / "run", saved)
    given = dataclasses.replace(saved, source_dir=str(tmp_path / "new"))
    with pytest.raises(UserError, match="source_dir"):
        check_folder(out, given, True)  # the new one is not there
    (tmp_path / "new").mkdir()
    with pytest.raises(UserError, match="source_dir"):
        check_folder(out, given, True)  # the old one is
    (tmp_path / "old").rmdir()
    check_folder(out, given, True)
    with prepared_folder(out, given, True):
        assert TrainConfig.load(out / "config.json").source_dir == given.source_dir
