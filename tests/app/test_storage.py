"""Temporary files go away; CSV cells do nothing in a spreadsheet; names are harmless."""

import csv
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

from app import app, storage
from app.runs import choose_run, other_runs, runs_below
from app.storage import LOCK, TemporaryFiles, remove_left_behind, save_flag, write_csv
from app.uploads import display_name
from isra_keras.errors import UserError


def test_old_files_are_swept_and_all_at_the_end(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    files = TemporaryFiles(age=100, pause=3600)
    old, new = files.new("old.csv"), files.new("new.csv")
    old.write_text("x"), new.write_text("y")
    os.utime(old, (time.time() - 200,) * 2)
    assert os.environ["GRADIO_TEMP_DIR"] == str(files.folder)
    page = files.folder / "page" / "figure.png"
    page.parent.mkdir()
    page.write_text("z")
    os.utime(page, (time.time() - 200,) * 2)
    files.kept = frozenset({str(page)})
    assert files.sweep() == 1 and not old.exists() and new.exists() and page.exists()
    empty = files.new("about to be written").parent
    os.utime(old.parent, (time.time() - 200,) * 2)
    assert files.sweep() == 0 and empty.exists() and not old.parent.exists()
    files.keep()
    os.utime(new, (time.time() - 200,) * 2)
    assert files.sweep() == 0, "what there was when the page had been made stays"
    files.close()
    assert not files.folder.exists()


def test_a_stopped_service_removes_the_uploads_too(monkeypatch):
    """SIGTERM ends Python without `finally` where nobody handles it."""
    closed = []
    demo = SimpleNamespace(block_thread=lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5),
                           close=lambda verbose: closed.append("demo"))  # fmt: skip
    files = SimpleNamespace(close=lambda: closed.append("files"))
    monkeypatch.setattr(app, "make", lambda *args: (demo, files))
    monkeypatch.setattr(app, "launch", lambda *args: (None, "http://here", None))
    monkeypatch.setattr(app, "choose_run", lambda given: "run")
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt):
            app.main([])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert closed == ["demo", "files"]


def test_uploads_of_a_killed_app_go_away_at_the_next_start(monkeypatch, tmp_path):
    """A lock that nobody holds any more is that of a killed process; one that is held, or a link, is left alone."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    monkeypatch.setattr(storage.tempfile, "tempdir", str(tmp_path))
    killed, link, other = (tmp_path / f"isra_app_{name}" for name in ("killed", "link", "other"))
    living = TemporaryFiles(pause=3600)
    for folder in (killed, other, tmp_path / "mine"):
        (folder / "hash").mkdir(parents=True)
        (folder / "hash" / "photo.jpg").write_bytes(b"x")
    link.symlink_to(tmp_path / "mine")
    for folder in (killed, tmp_path / "mine", living.folder):
        (folder / LOCK).touch()
        os.utime(folder / LOCK, (time.time() - 3600,) * 2)
    assert living.sweep() == 0 and (living.folder / LOCK).exists()
    new = TemporaryFiles(pause=3600)
    assert not killed.exists() and living.folder.exists() and other.exists() and (tmp_path / "mine" / "hash").exists()
    new.close(), living.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["isra_app_link", "isra_app_other", "mine"]
    (killed / "x").mkdir(parents=True)
    (killed / LOCK).touch()
    assert remove_left_behind(tmp_path) == 0, "it may be about to be locked"


def test_sweeper_runs_by_itself(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    files = TemporaryFiles(age=0.0, pause=0.02)
    path = files.new("a")
    path.write_text("x")
    limit = time.time() + 5
    while path.exists() and time.time() < limit:
        time.sleep(0.02)
    assert not path.exists()
    files.close()


def test_csv_has_no_formulas(tmp_path):
    row = {"file": "=cmd()", "class": "a,b", "confidence": 0.5, "entropy": 0.25, "note": "@x", "top": [("a,b", 0.5)]}
    bad = {"file": "b", "class": None, "confidence": None, "entropy": None, "note": "empty file", "top": []}
    rows = list(csv.reader(open(write_csv(tmp_path / "p.csv", [row, bad], 2))))
    assert rows[0] == ["file", "class", "confidence", "entropy_nats", "note", "class_2", "confidence_2"]
    assert rows[1] == ["'=cmd()", "a,b", "0.5", "0.25", "'@x", "", ""] and rows[2][0] == "b" and len(rows[2]) == 7


def test_flags_keep_pixels_alone(tmp_path, monkeypatch):
    image = np.arange(48, dtype="uint8").reshape(4, 4, 3)
    first = save_flag(tmp_path / "f", image, "cat", "dog", "../../evil.png")
    second = save_flag(tmp_path / "f", image, "cat", "dog", "../../evil.png")
    assert first != second and first.parent == tmp_path / "f" / "images"
    assert len((tmp_path / "f" / "flags.jsonl").read_text().splitlines()) == 2
    for name, value in (("MOST_FLAGS", 2), ("LEAST_FREE", 1 << 62)):  # anybody may flag, without end
        with monkeypatch.context() as patch:
            patch.setattr(storage, name, value)
            assert save_flag(tmp_path / "f", image, "cat", "dog", "a.png") is None
    assert len(list((tmp_path / "f" / "images").iterdir())) == 2


def test_names_are_short_and_printable():
    assert display_name("/tmp/x/a\nb\x1b[0m.png") == "a?b?[0m.png"
    assert len(display_name("x" * 300 + ".jpeg")) == 60 and display_name("x" * 300 + ".jpeg").endswith(".jpeg")


def test_newest_run_is_chosen(tmp_path):
    with pytest.raises(UserError, match="make demo"):
        choose_run(root=tmp_path / "none", bundled=tmp_path / "none")
    for age, name in ((50, "a"), (10, "group/b"), (99, "c")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.keras").write_bytes(b"")
        os.utime(tmp_path / name / "model.keras", (time.time() - age,) * 2)
    assert choose_run(root=tmp_path) == tmp_path / "group" / "b" and len(runs_below(tmp_path)) == 3
    (tmp_path / "group" / "b" / "model.json").write_text('{"kind": "features"}')
    assert choose_run(root=tmp_path) == tmp_path / "a", "nobody can upload features"
    (tmp_path / "group" / "b" / "model.json").unlink()
    assert list(other_runs(tmp_path / "a")) == ["c"]
    assert list(other_runs(tmp_path / "a", tmp_path / "group" / "b")) == ["group/b", "c"]


def test_runs_that_can_not_be_compared_are_not_offered(tmp_path):
    """A run of features could be chosen and was refused then; so was a typing error in --against."""
    for name, kind in (("a", "images"), ("b", "features"), ("c", "images")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.keras").write_bytes(b"")
        (tmp_path / name / "model.json").write_text(f'{{"kind": "{kind}"}}')
    assert list(other_runs(tmp_path / "a")) == ["c"]
    assert list(other_runs(tmp_path / "a", tmp_path / "c" / "model.keras")) == ["c"]
    with pytest.raises(UserError, match="not there"):
        other_runs(tmp_path / "a", tmp_path / "d")
    with pytest.raises(UserError, match="--against; .*precomputed features"):
        other_runs(tmp_path / "a", tmp_path / "b")
