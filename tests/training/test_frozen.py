"""A frozen backbone: features once, a run as any other, nothing computed twice or lost."""

import os
import shutil
import signal
import threading

import keras
import numpy as np
import pytest

from isra_keras.backbones import build_network
from isra_keras.benchmarking import cell as cells
from isra_keras.benchmarking.grid import FOLDERS, Cell, as_given
from isra_keras.data import image_store
from isra_keras.data.tasks import folder_task
from isra_keras.errors import UserError
from isra_keras.evaluate import evaluate, rebuild_task
from isra_keras.run_folder import load_run, load_semantic
from isra_keras.training import feature_cache, frozen
from isra_keras.training.callbacks import RunCallback
from isra_keras.training.interrupt import Interrupted
from isra_keras.training.recipes import resolve
from isra_keras.training.runner import run
from isra_keras.training.same_data import check_same_data, data_facts
from tests.data.made import pixels, save, undecodable
from tests.training.small_task import SMALL, images_task

SIZES = {"image_size": 40, "crop_size": 32}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two folders of images, and weights of a MobileNetV2 that nobody trained."""
    place = tmp_path_factory.mktemp("frozen")
    for number in range(30):
        save(place / "source" / "abc"[number % 3] / f"{number}.png", pixels(seed=number))
    for number in range(20):
        save(place / "target" / "ab"[number % 2] / f"{number}.png", pixels(seed=100 + number))
    network = build_network("mobilenet_v2", 2, 2, (32, 32, 3), "none", seed=7)
    base = next(layer for layer in network.get_layer("backbone").layers[::-1] if layer.weights)
    base.save_weights(place / "base.weights.h5")
    return place


@pytest.fixture(scope="module", autouse=True)
def shared_cache(tmp_path_factory):
    """Features of `place` are computed once for all tests that do not look at how."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISRA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, empty."""
    monkeypatch.setenv("ISRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def config(place, **given):
    base = {"source_dir": str(place / "source"), "target_dir": str(place / "target"), "backbone": "mobilenet_v2",
            "weights": str(place / "base.weights.h5"), "freeze_backbone": True, "deterministic": False}  # fmt: skip
    return resolve(**(base | SMALL | SIZES | given))


def weights_of(out):
    return load_run(out)[0].get_weights()


@pytest.mark.parametrize("method", ["ba3us", "a2kt"])
def test_a_run_is_like_any_other(place, tmp_path, method):
    """Its model takes images, and says of them what training saw of their features."""
    result = run(config(place, method=method), tmp_path / "run", quiet=True)
    network, info = load_run(tmp_path / "run")
    assert network.input_shape[1:] == (32, 32, 3) and info["kind"] == "images" and info["crop_size"] == 32
    assert load_semantic(tmp_path / "run") is not None
    task = rebuild_task(vars(config(place)))
    found, _ = evaluate(network, info, task)
    assert found["accuracy"] == pytest.approx(result.selected.accuracy)
    assert found["scores"]["mean_entropy"] == pytest.approx(result.selected.scores["mean_entropy"], rel=1e-4)
    base = build_network("mobilenet_v2", 2, 2, (32, 32, 3), str(place / "base.weights.h5")).get_layer("backbone")
    for ours, given in zip(network.get_layer("backbone").get_weights(), base.get_weights()):
        np.testing.assert_array_equal(ours, given)


def test_features_are_those_of_the_centre_crop(place):
    task = folder_task(place / "source", place / "target")
    found = frozen.frozen_task(config(place), task)
    assert found.kind == "features" and found.target.labels.tolist() == task.target.labels.tolist()
    network = build_network("mobilenet_v2", 2, 2, (32, 32, 3), str(place / "base.weights.h5"), batch_norm="fixed")
    from isra_keras.data.decode import decode_resized

    for row in (0, 17):
        image = decode_resized(task.source.paths[row], 40)[4:36, 4:36]
        expected = keras.ops.convert_to_numpy(network(image[None].astype("float32"))["pooled"])[0]
        np.testing.assert_allclose(found.source.arrays[row], expected, rtol=1e-4, atol=1e-5)


def test_nothing_is_computed_twice_or_lost(place, cache, monkeypatch):
    monkeypatch.setattr(feature_cache, "CHUNK", 8)
    read, real = [], frozen.evaluation_dataset

    def watched(domain, *args, rows, **more):
        read.append((domain.name, *rows))
        return real(domain, *args, rows=rows, **more)

    monkeypatch.setattr(frozen, "evaluation_dataset", watched)
    task = folder_task(place / "source", place / "target")
    first = frozen.frozen_task(config(place), task)
    assert len(read) == 4 + 3
    read.clear()
    again = frozen.frozen_task(config(place, method="shot", seed=3), task)
    assert not read
    np.testing.assert_array_equal(again.source.arrays, first.source.arrays)
    broken, missing = sorted(cache.glob("*/00000008.npy"))
    broken.write_bytes(broken.read_bytes()[:200])
    missing.unlink()
    again = frozen.frozen_task(config(place), task)
    assert sorted(read) == [("source", 8, 16), ("target", 8, 16)]
    for side in ("source", "target"):
        np.testing.assert_array_equal(getattr(again, side).arrays, getattr(first, side).arrays)
    assert not list(cache.glob("*/*.part"))


def test_of_photos_that_were_added_to_only_the_new_ones_are_computed(place, spoilt, cache, tmp_path, monkeypatch):
    """A photo that comes, one that goes and one that changes move all rows; bad ones have none."""
    monkeypatch.setattr(feature_cache, "CHUNK", 8)
    with pytest.warns(UserWarning, match="cannot be read"):
        before = folder_task(tmp_path / "source", tmp_path / "target")
        first = frozen.frozen_task(config(place), before).target
    for older in cache.glob("*/rows.npz"):  # as of before there were any: noted with the next use
        older.unlink()
    frozen.frozen_task(config(place), before)
    for broken in list(cache.glob("*/00000008.npy")):  # as after a kill: its rows are known by name only
        broken.unlink()
    lost = {os.path.basename(path) for path in before.target.paths[8:16]} - {"4.png"}
    target = tmp_path / "target" / "a"
    save(target / "00.png", pixels(seed=200))
    (target / "4.png").unlink()
    save(target / "6.png", pixels(seed=201))
    (cache / "other").mkdir()
    (cache / "other" / "rows.npz").write_bytes(b"PK")  # torn
    read, real = [], frozen.evaluation_dataset

    def watched(domain, *args, rows, **more):
        read.extend(os.path.basename(path) for path in domain.paths[slice(*rows)] if domain.name == "target")
        return real(domain, *args, rows=rows, **more)

    monkeypatch.setattr(frozen, "evaluation_dataset", watched)
    image_store._stores.clear()
    task = folder_task(tmp_path / "source", tmp_path / "target")
    with pytest.warns(UserWarning, match="cannot be read"):
        grown = frozen.frozen_task(config(place), task).target
    assert sorted(read) == sorted(lost | {"00.png", "6.png", "10x.jpg"}) and len(read) < len(task.target)
    assert [bad.path for bad in grown.bad_images] == [spoilt]
    monkeypatch.setenv("ISRA_CACHE", str(tmp_path / "empty"))
    image_store._stores.clear()
    with pytest.warns(UserWarning, match="cannot be read"):
        anew = frozen.frozen_task(config(place), task).target
    np.testing.assert_allclose(grown.arrays, anew.arrays, rtol=1e-5, atol=1e-6)
    assert grown.labels.tolist() == anew.labels.tolist() and len(grown) == len(first)


@pytest.fixture
def spoilt(place, tmp_path):
    """The folders with a target image that looks whole and can't be decoded; the path of that."""
    for part in ("source", "target"):
        shutil.copytree(place / part, tmp_path / part)
    return undecodable(tmp_path / "target" / "a" / "10x.jpg")


def test_an_image_that_only_decoding_refuses_is_left_out_and_stays_named(place, spoilt, cache, tmp_path, monkeypatch):
    """The features of the next image stood in its row, under its label, and the cache never told again."""
    monkeypatch.setattr(feature_cache, "CHUNK", 8)
    whole = frozen.frozen_task(config(place), folder_task(place / "source", place / "target")).target
    task = folder_task(tmp_path / "source", tmp_path / "target")
    row = list(task.target.paths).index(spoilt)
    assert len(task.target) == len(whole) + 1 and not task.target.bad_images
    with pytest.warns(UserWarning, match="cannot be read"):
        first = frozen.frozen_task(config(place), task).target
    read = []
    monkeypatch.setattr(frozen, "evaluation_dataset", lambda *args, **more: read.append(more))
    for found in (first, frozen.frozen_task(config(place), task).target):  # the second one from the cache
        assert found.labels.tolist() == np.delete(task.target.labels, row).tolist() and not read
        np.testing.assert_allclose(found.arrays, whole.arrays, rtol=1e-4, atol=1e-5)
        assert [bad.path for bad in found.bad_images] == [spoilt] and "damaged" in found.bad_images[0].reason
    with pytest.raises(UserError, match="10x.jpg.*--on-bad-image skip"):
        frozen.frozen_task(config(place, on_bad_image="error"), task)


def test_a_list_of_bad_images_is_not_trusted_for_ever(place, spoilt, cache, tmp_path, monkeypatch):
    """Without its list a chunk is made anew; so is one of whose images one has become readable."""
    task = folder_task(tmp_path / "source", tmp_path / "target")
    with pytest.warns(UserWarning, match="cannot be read"):
        first = frozen.frozen_task(config(place), task).target
    (listed,) = cache.glob("*/*.json")
    text = listed.read_text()
    listed.unlink()
    image_store._stores.clear()  # as in another process: a store remembers which files were bad
    with pytest.warns(UserWarning, match="cannot be read"):
        assert len(frozen.frozen_task(config(place), task).target) == len(first)
    assert listed.read_text() == text
    stamp = os.stat(spoilt)
    save(tmp_path / "target" / "a" / "10x.jpg", pixels(seed=1))
    with open(spoilt, "ab") as file:
        file.write(bytes(max(stamp.st_size - os.path.getsize(spoilt), 0)))
    os.utime(spoilt, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # same size and time, as after a change of permissions
    image_store._stores.clear()
    found = frozen.frozen_task(config(place), task).target
    assert len(found) == len(first) + 1 and not found.bad_images and not list(cache.glob("*/*.json"))


def test_another_image_or_other_weights_have_features_of_their_own(place, cache, tmp_path):
    frozen.frozen_task(config(place), folder_task(place / "source", place / "target"))
    assert len(list(cache.iterdir())) == 2
    path = place / "target" / "a" / "0.png"
    os.utime(path, ns=(1, 1))
    frozen.frozen_task(config(place), folder_task(place / "source", place / "target"))
    assert len(list(cache.iterdir())) == 3
    frozen.frozen_task(config(place, image_size=48), folder_task(place / "source", place / "target"))
    assert len(list(cache.iterdir())) == 5


def test_stopped_and_resumed_it_ends_with_the_same_bits(place, tmp_path):
    class Stop(RunCallback):
        def on_step(self, step, logs):
            if step == 5:
                os.kill(os.getpid(), signal.SIGTERM)

    given = config(place, method="shot", semantic=False, deterministic=True)
    run(given, tmp_path / "whole", quiet=True)
    with pytest.raises(Interrupted):
        run(given, tmp_path / "cut", callbacks=[Stop()], quiet=True)
    run(given, tmp_path / "cut", resume=True, quiet=True)
    assert (tmp_path / "cut" / "source_model.keras").is_file()
    for one, other in zip(weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole")):
        np.testing.assert_array_equal(one, other)
    source, _ = load_run(tmp_path / "cut")
    assert keras.models.load_model(tmp_path / "cut" / "source_model.keras").input_shape == source.input_shape


def test_features_of_other_photos_are_not_gone_on_with(place, tmp_path):
    """Of features only their number and labels were compared: renamed photos, in another order, went unnoticed."""
    task = folder_task(place / "source", place / "target")
    facts = data_facts(frozen.frozen_task(config(place), task))
    check_same_data(facts, facts, "run")
    shutil.copytree(place / "target", tmp_path / "target")
    (tmp_path / "target" / "a" / "0.png").rename(tmp_path / "target" / "a" / "9.png")
    other = data_facts(frozen.frozen_task(config(place), folder_task(place / "source", tmp_path / "target")))
    with pytest.raises(UserError, match="other files or labels in the target"):
        check_same_data(facts, other, "run")
    older = {**facts, "target": {name: facts["target"][name] for name in ("samples", "digest")}}
    check_same_data(older, other, "run")  # of a version that did not keep the names


def test_a_benchmark_of_own_folders_keeps_run_folders(place, tmp_path):
    given = SMALL | SIZES | {"backbone": "mobilenet_v2", "weights": str(place / "base.weights.h5"),
                             "freeze_backbone": True, "deterministic": False}  # fmt: skip
    folders = (str(place / "source"), str(place / "target"))
    cell = Cell(FOLDERS, "source-target", "source_only", "off", 0, as_given(given))
    line = cells.run_cell(cell, work=tmp_path / "work", folders=folders)
    assert line["status"] == "done" and load_run(line["run"])[1]["kind"] == "images"


@pytest.mark.parametrize("given, words", [
    ({"weights": "none"}, "trained --weights"),
    ({"distribute": "mirrored"}, "--distribute none"),
    ({"dataset": "office_caltech10_features", "source_dir": None, "target_dir": None}, "has features"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(place, tmp_path, given, words):
    from tests.training.small_task import features_task

    with pytest.raises(UserError, match=words):
        wrong = config(place, **given)
        task = features_task() if wrong.dataset else images_task()
        frozen.frozen_task(wrong, task)


def test_a_folder_that_cannot_be_made_is_named(place, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ISRA_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="ISRA_CACHE"):
        frozen.frozen_task(config(place), folder_task(place / "source", place / "target"))


def test_a_cache_that_can_only_be_read_serves_what_is_in_it(place, cache, monkeypatch):
    task = folder_task(place / "source", place / "target")
    first = frozen.frozen_task(config(place), task)

    def refused(self, *args, **more):
        raise PermissionError(13, "Permission denied", "lock")

    monkeypatch.setattr(feature_cache.FileLock, "acquire", refused)
    again = frozen.frozen_task(config(place), task)
    np.testing.assert_array_equal(again.target.arrays, first.target.arrays)
    next(cache.glob("*/00000000.npy")).unlink()
    monkeypatch.setattr("pathlib.Path.write_bytes", refused)
    with pytest.raises(UserError, match="Expected a folder for features .* Permission denied.* ISRA_CACHE"):
        frozen.frozen_task(config(place), task)


def test_waiting_for_another_process_is_told(cache, capsys):
    folder = cache / "x"
    folder.mkdir(parents=True)
    held, free = threading.Event(), threading.Event()

    def other():
        with feature_cache.FileLock(folder / ".lock"):
            held.set()
            free.wait(1.5)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    with feature_cache.locked(folder, "shop"):
        assert not thread.is_alive() or thread.join() is None
    assert "waiting for another process that computes the features of shop" in capsys.readouterr().err


def test_a_home_folder_in_the_cache_s_name(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ISRA_CACHE", "~/mine")
    assert feature_cache.cache_folder() == tmp_path / "mine" / "features"
    assert resolve(source_dir="~/a", target_dir="~/b").source_dir == str(tmp_path / "a")
