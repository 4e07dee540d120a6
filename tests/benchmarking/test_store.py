"""Lines on the disk: appended, mended after a crash, the last one of a cell counts."""

import json

import pytest

from isra_keras.benchmarking.grid import Cell
from isra_keras.benchmarking.store import Store, commit, latest, read_lines
from isra_keras.errors import UserError
from tests.benchmarking.lines import failed, line


def test_done_and_failed(tmp_path):
    store = Store(tmp_path / "deep" / "r.jsonl")
    assert store.lines() == [] and store.done() == set()
    with store.alone():
        store.append(line())
        store.append(failed(task="A-P"))
    assert len(store.done()) == 1 and len(store.done(with_failed=True)) == 2
    assert not list(store.path.parent.glob(".*"))


def test_a_line_cut_off_by_a_crash_is_dropped(tmp_path):
    store = Store(tmp_path / "r.jsonl")
    with store.alone():
        store.append(line())
    whole = store.path.read_text()
    store.path.write_text(whole + json.dumps(line(seed=1))[:50])
    assert len(store.lines()) == 1
    with store.alone():
        store.append(line(seed=2))
    assert [entry["cell"]["seed"] for entry in store.lines()] == [0, 2]


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    """Files joined or edited by hand: it counted as done, and was then deleted."""
    store = Store(tmp_path / "r.jsonl")
    store.path.write_text(json.dumps(line()) + "\n" + json.dumps(line(seed=1)))
    with store.alone():
        store.append(line(seed=2))
    assert [entry["cell"]["seed"] for entry in store.lines()] == [0, 1, 2]


def test_a_folder_holds_a_file_for_each_row(tmp_path):
    store = Store(tmp_path / "grid")
    with store.alone():
        for one in (line(), line(isra="paper"), line(seed=1), failed(method="shot")):
            store.append(one)
    assert sorted(path.name for path in store.path.iterdir()) == ["ba3us-off.jsonl", "ba3us-paper.jsonl", "shot-off.jsonl"]
    with open(store.path / "shot-off.jsonl", "a") as file:
        file.write('{"cut off')
    with store.alone():
        store.append(line(method="shot"))
    assert len(store.done()) == 4 and len(read_lines([store.path])) == 5


def test_broken_in_the_middle_is_told(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("{}\n" + json.dumps(line()) + "\n")
    with pytest.raises(UserError, match="line 1; it is broken"):
        read_lines([path])
    path.write_text(json.dumps(line() | {"format": 99}) + "\n")
    with pytest.raises(UserError, match="update isra_keras"):
        read_lines([path])
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not a text"):
        read_lines([path])
    with pytest.raises(UserError, match="can't be read"):
        read_lines([tmp_path / "missing.jsonl"])


def test_latest_prefers_what_finished():
    key = Cell.from_dict(line()["cell"]).key
    assert latest([failed(), line()])[key]["status"] == "done"
    assert latest([line(), failed()])[key]["status"] == "done"
    assert latest([line(accuracies=(0.1,), entropies=(1.0,)), line()])[key]["last"]["accuracy"] == 0.6
    assert latest([failed("a"), failed("b")])[key]["reason"] == "b"
    assert list(latest([failed(), line(seed=1), line()]))[-1] == key, "the newest is last"


def test_two_at_once_are_refused(tmp_path):
    with Store(tmp_path / "r.jsonl").alone(), pytest.raises(UserError, match="another benchmark writes it"):
        with Store(tmp_path / "r.jsonl").alone():
            pass


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / ".a.jsonl.lock").mkdir()  # opening it fails, for root too
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "a.jsonl", tmp_path / "file" / "a.jsonl"):
        with pytest.raises(UserError, match=f"Expected to write '{path}'; the system refused"), Store(path).alone():
            pass


def test_commit_is_an_id_or_none():
    found = commit()
    assert found is None or len(found.rstrip("+")) >= 10
