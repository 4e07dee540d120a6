"""Checkpoints: damaged ones are named and passed over, a full disk keeps the old file, names decide what is restored."""

import errno
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from isra_keras.errors import UserError
from isra_keras.training import checkpoint as module
from isra_keras.training.checkpoint import CheckpointFolder, gather, restore, stable_name, write_atomic, write_text


def arrays(step):
    return {"00000/a": np.full((20, 30), step, "float32"), "00001/b": np.arange(step, dtype="int32")}


def filled(folder, steps=(5, 10), keep=2):
    checkpoints = CheckpointFolder(folder, keep)
    for step in steps:
        selected = checkpoints.save_selected(step, {"w": np.full(3, step)}) if step % 10 == 0 else None
        checkpoints.save(step, arrays(step), {"local": step, "selected": selected})
    return checkpoints


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_newest_comes_back(tmp_path):
    checkpoints = filled(tmp_path / "c")
    step, values, state = checkpoints.load_newest()
    assert step == 10 and state == {"local": 10, "selected": "selected_00000010.npz"}
    for name, value in arrays(10).items():
        assert np.array_equal(values[name], value) and values[name].dtype == value.dtype
    assert np.array_equal(checkpoints.load_selected(state["selected"])["w"], [10, 10, 10])
    assert CheckpointFolder(tmp_path / "nothing").load_newest() is None


def test_only_the_newest_and_the_selected_they_name_are_kept(tmp_path):
    filled(tmp_path, steps=(10, 15, 20, 25, 35))
    assert names(tmp_path) == [f"step_000000{step}.{kind}" for step in (25, 35) for kind in ("json", "npz")]


def test_one_that_was_passed_over_is_not_counted_among_those_kept(tmp_path):
    """With one to keep, the broken one stayed and the one just written went."""
    for keep in (1, 2):
        checkpoints = filled(tmp_path / str(keep), steps=(50, 100), keep=2)
        damage_truncate(tmp_path / str(keep) / "step_00000100.npz")
        resumed = CheckpointFolder(tmp_path / str(keep), keep)
        assert resumed.load_newest()[0] == 50 and len(checkpoints._steps()) == 2, "reading removes nothing"
        resumed.save(60, arrays(60), {"selected": None})
        assert [int(path.stem[5:]) for path in resumed._steps()] == [60, 50][:keep] and resumed.load_newest()[0] == 60


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def damage_flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


def damage_empty(path):
    path.write_bytes(b"")


def damage_remove(path):
    path.unlink()


DAMAGES = [damage_truncate, damage_flip, damage_empty, damage_remove]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, damage):
    checkpoints, warnings = filled(tmp_path), []
    damage(tmp_path / "step_00000010.npz")
    step, values, _ = checkpoints.load_newest(warnings.append)
    assert step == 5 and np.array_equal(values["00000/a"], arrays(5)["00000/a"])
    assert len(warnings) == 1 and str(tmp_path / "step_00000010.npz") in warnings[0] and "before" in warnings[0]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"step": 10, "sha256": 1, "bytes": null}'])
def test_a_damaged_description_counts_as_damage(tmp_path, text):
    checkpoints, warnings = filled(tmp_path), []
    (tmp_path / "step_00000010.json").write_text(text)
    assert checkpoints.load_newest(warnings.append)[0] == 5 and len(warnings) == 1


@pytest.mark.parametrize("place", range(10))
def test_truncated_anywhere(tmp_path, place):
    checkpoints = filled(tmp_path)
    path = tmp_path / "step_00000010.npz"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * place // 10])
    assert checkpoints.load_newest()[0] == 5


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_selected_weights_make_the_checkpoint_that_names_them_useless(tmp_path, damage):
    checkpoints = filled(tmp_path)
    damage(tmp_path / "selected_00000010.npz")
    assert checkpoints.load_newest()[0] == 5
    with pytest.raises(UserError, match="selected_00000010.npz"):
        checkpoints.load_selected("selected_00000010.npz")


def test_a_whole_file_of_the_same_size_with_other_numbers_counts_as_damage(tmp_path):
    """Its own checksums (zip) fit, only the SHA-256 in the description tells."""
    checkpoints = filled(tmp_path)
    size = (tmp_path / "step_00000010.npz").stat().st_size
    np.savez(tmp_path / "step_00000010.npz", **(arrays(10) | {"00000/a": np.zeros((20, 30), "float32")}))
    assert (tmp_path / "step_00000010.npz").stat().st_size == size
    assert checkpoints.load_newest()[0] == 5


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_reference_is_told(tmp_path, damage):
    """The next evaluation took its place without a word: a run that had collapsed by then was compared with itself."""
    checkpoints, said = filled(tmp_path), []
    assert checkpoints.load_reference(5, said.append) is None and not said, "a run may have none"
    checkpoints.save_reference(5, np.eye(3))
    assert np.array_equal(checkpoints.load_reference(5, said.append), np.eye(3)) and not said
    damage(tmp_path / "reference.npz")
    assert checkpoints.load_reference(5, said.append) is None
    assert len(said) == 1 and str(tmp_path / "reference.npz") in said[0]


def test_all_damaged_is_an_error_not_a_fresh_start(tmp_path):
    checkpoints = filled(tmp_path)
    for path in tmp_path.glob("step_*.npz"):
        damage_flip(path)
    with pytest.raises(UserError, match="all 2 are broken"):
        checkpoints.load_newest()


def test_arrays_of_objects_are_never_unpickled(tmp_path):
    checkpoints = filled(tmp_path)
    data, description = tmp_path / "step_00000010.npz", tmp_path / "step_00000010.json"
    np.savez(data, a=np.array([{"x": 1}], dtype=object))
    content = json.loads(description.read_text())
    content |= {"sha256": module._sha256(data), "bytes": data.stat().st_size}
    description.write_text(json.dumps(content))
    assert checkpoints.load_newest()[0] == 5


# ---------------------------------------------------------------- a full disk


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(UserError, match="disk") as caught:
        write_atomic(path, full)
    assert str(path) in str(caught.value) and path.read_text() == "old" and names(tmp_path) == ["file"]
    with pytest.raises(ZeroDivisionError):
        write_atomic(path, lambda file: 1 / 0)
    assert path.read_text() == "old" and names(tmp_path) == ["file"]


@pytest.mark.parametrize("step", [10, 15])
@pytest.mark.parametrize("where", ["savez", "fsync", "room"])
def test_full_disk_keeps_all_checkpoints(tmp_path, monkeypatch, step, where):
    """Also the one of the very step that is being written again."""
    checkpoints = filled(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if where == "savez":
        monkeypatch.setattr(module.np, "savez", full)
    elif where == "fsync":
        monkeypatch.setattr(module.os, "fsync", full)
    else:
        room = type("Room", (), {"f_bavail": 1, "f_frsize": 100})
        monkeypatch.setattr(module.os, "statvfs", lambda path: room)
    with pytest.raises(UserError) as caught:
        checkpoints.save(step, arrays(step + 1), {"selected": None})
    assert f"step_000000{step}.npz" in str(caught.value) and f"{2400 + 4 * (step + 1):,} bytes" in str(caught.value)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    checkpoints.save(step, arrays(step + 1), {"selected": None})  # after space is made
    assert checkpoints.load_newest()[0] == step


LIMITED = """
import resource, sys
import numpy as np
from isra_keras.errors import UserError
from isra_keras.training.checkpoint import CheckpointFolder
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    CheckpointFolder(sys.argv[1]).save(20, {"a": np.ones(100_000), "b": np.ones(3)}, {"selected": None})
except UserError as error:
    print(error)
    sys.exit(2)
"""


def test_a_real_file_size_limit(tmp_path):
    checkpoints = filled(tmp_path)
    before = names(tmp_path)
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "step_00000020.npz" in done.stdout and "800,024 bytes" in done.stdout
    assert names(tmp_path) == before and checkpoints.load_newest()[0] == 10


def test_writing_the_same_step_again_leaves_no_moment_without_it(tmp_path, monkeypatch):
    """A process that dies at any point of the second writing: the arrays are the same, the step still counts."""
    checkpoints = filled(tmp_path, keep=1)
    replace, calls = module.os.replace, []

    def dying(source, target):
        calls.append(target)
        if len(calls) == die_at:
            raise SystemExit
        replace(source, target)

    for die_at in (1, 2):
        calls.clear()
        monkeypatch.setattr(module.os, "replace", dying)
        with pytest.raises(SystemExit):
            checkpoints.save(10, arrays(10), {"local": 99, "selected": None})
        monkeypatch.undo()
        step, values, _ = checkpoints.load_newest()
        assert step == 10 and np.array_equal(values["00000/a"], arrays(10)["00000/a"])


# ---------------------------------------------------------------- variables


def variables(*shapes):
    return {
        f"{i:05d}/dense_{i + 3}/kernel": keras.Variable(np.ones(shape, "float32")) for i, shape in enumerate(shapes)
    }


def test_restore_is_exact_and_free_of_automatic_numbers():
    first = variables((2, 3), (4,))
    values = gather(first)
    assert list(values) == ["00000/dense/kernel", "00001/dense/kernel"]
    values = {name: np.random.default_rng(0).normal(size=v.shape).astype("float32") for name, v in values.items()}
    second = {name.replace("dense_", "dense_1"): v for name, v in variables((2, 3), (4,)).items()}
    restore(second, values)
    assert all(np.array_equal(v.numpy(), values[stable_name(name)]) for name, v in second.items())


@pytest.mark.parametrize("shapes, words", [(((2, 3),), "1 names and 0"), (((2, 3), (5,)), "0 names and 1")])
def test_restore_of_another_model_is_refused_before_anything_changes(shapes, words):
    values = {name: 7 * v for name, v in gather(variables((2, 3), (4,))).items()}
    others = variables(*shapes)
    with pytest.raises(UserError, match=words):
        restore(others, values)
    assert all(np.all(v.numpy() == 1) for v in others.values())


def test_full_disk_is_known_by_whatever_it_raised():
    full = OSError(errno.EDQUOT, "quota")
    hidden = ValueError("can't close")
    hidden.__context__ = full
    library = RuntimeError("write failed: errno = 28, error message = 'No space left on device'")
    assert all(map(module.is_disk_full, (full, hidden, library, module.disk_full("x"), OSError(errno.EFBIG, "x"))))
    assert not any(map(module.is_disk_full, (OSError(errno.EACCES, "x"), MemoryError(), UserError("NaN"))))
