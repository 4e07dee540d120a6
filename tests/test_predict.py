"""predict: rows, order, bad files, output formats, resuming, constant memory, errors."""

import csv
import io
import json
import os
import re
import shutil
import types
from contextlib import contextmanager
from itertools import islice

import numpy as np
import pytest

from isra_keras import cli, predict
from isra_keras.data.image_folder import image_files
from isra_keras.row_output import alone
from tests.small_run import NAMES, colour_image, make_run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "one")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index in range(9):
        colour_image(folder / f"sub{index % 2}" / f"{NAMES[index % 3]}_{index}.png", NAMES[index % 3])
    (folder / "broken.jpg").write_bytes(b"<html>404</html>")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not an image")
    return folder


def rows_of(path):
    with open(path, newline="") as file:
        return {os.path.basename(row["path"]): row for row in csv.DictReader(file)}


def test_csv_of_a_folder(run_dir, photos, tmp_path, capsys):
    out = tmp_path / "p.csv"
    assert cli.run(predict.main, [str(run_dir), str(photos), "--out", str(out), "--batch-size", "4"]) == 0
    rows = rows_of(out)
    assert len(rows) == 11 and "notes.txt" not in rows
    for name, row in rows.items():
        if name in ("broken.jpg", "empty.png"):
            assert row["error"] and row["class"] == row["probability"] == row["entropy"] == ""
        else:
            assert row["class"] == name.split("_")[0] and row["error"] == ""
            assert 0.9 < float(row["probability"]) <= 1 and 0 <= float(row["entropy"]) < 0.5
    assert "11 rows, 2 unreadable" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == [".p.csv.model", "p.csv"]


def test_probability_and_entropy_are_right(run_dir, photos, capsys):
    image = photos / "sub0" / "blue_0.png"
    assert predict.main([str(run_dir), str(image), "--format", "jsonl", "--top-k", "9", "--quiet"]) == 0
    row = json.loads(capsys.readouterr().out)
    network, info = predict.load_run(run_dir)
    values, reason = predict.load_image(image, 32, None)
    logits = np.asarray(network(values[None])["logits"], "float64")[0]
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert reason == "" and [t["class"] for t in row["top"]] == [NAMES[i] for i in np.argsort(-p)]
    assert row["probability"] == pytest.approx(p.max(), abs=2e-6)
    assert row["entropy"] == pytest.approx(-(p * np.log(p + 1e-7)).sum(), abs=2e-6)
    assert list(row) == ["path", "class", "probability", "entropy", "error", "top"]


def test_top_k_columns(run_dir, photos, capsys):
    assert (
        predict.main([str(run_dir), str(photos / "sub0"), str(photos / "broken.jpg"), "--top-k", "2", "--quiet"]) == 0
    )
    table = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert table[0] == ["path", "class", "probability", "entropy", "error", "class_2", "probability_2"]
    assert {len(row) for row in table} == {7} and len(table) == 1 + 5 + 1


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_resume_skips_rows_and_mends_the_cut_one(run_dir, photos, tmp_path, suffix, capsys):
    out, whole = tmp_path / f"p.{suffix}", tmp_path / f"whole.{suffix}"
    command = [str(run_dir), str(photos), "--batch-size", "3"]
    predict.main([*command, "--out", str(whole)])
    text = whole.read_bytes()
    lines = text.splitlines(keepends=True)
    (tmp_path / f"p.{suffix}.part").write_bytes(b"".join(lines[:5]) + lines[5][:7])
    capsys.readouterr()
    assert predict.main([*command, "--out", str(out), "--resume"]) == 0
    assert sorted(out.read_bytes().splitlines()) == sorted(text.splitlines())
    done = 4 if suffix == "csv" else 5
    assert f"{11 - done} rows" in capsys.readouterr().err
    assert predict.main([*command, "--out", str(out), "--resume"]) == 0  # nothing left to do
    assert sorted(out.read_bytes().splitlines()) == sorted(text.splitlines())


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("first, second, said", [
    ([], ["--top-k", "2"], "Expected the columns"),
    ([], ["--format", "jsonl"], "Expected JSON lines"),
    (["--format", "jsonl"], ["--format", "csv"], "Expected the columns"),
    (["--format", "jsonl"], ["--format", "jsonl", "--top-k", "2"], "Expected rows of 2 classes .* has 1"),
    (["--format", "jsonl", "--top-k", "3"], ["--format", "jsonl", "--top-k", "2"], "Expected rows of 2 classes .* has 3"),
])  # fmt: skip
def test_resume_with_other_options_is_refused_and_leaves_the_rows(run_dir, photos, tmp_path, capsys, first, second, said):
    """They were renamed before they were looked at, and the next call without --resume wiped them."""
    command = [str(run_dir), str(photos), "--out", str(tmp_path / "p.csv"), "--quiet"]
    predict.main([*command, *first])
    before = files_in(tmp_path)
    assert cli.run(predict.main, [*command, "--resume", *second]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error) and "Use the options of the first call" in error and error.count("\n") == 1
    assert files_in(tmp_path) == before


def test_resume_with_another_run_is_refused(run_dir, photos, tmp_path, capsys):
    """Its rows would be mixed with those of the first; a copy of the first is the same one."""
    command = [str(photos), "--out", str(tmp_path / "p.csv"), "--quiet"]
    assert cli.run(predict.main, [str(run_dir), *command]) == 0
    before = files_in(tmp_path)
    other = tmp_path.parent / f"{tmp_path.name}-other"
    shutil.copytree(run_dir, other)
    network, _ = predict.load_run(other)
    network.get_layer("classifier").set_weights([np.eye(3), np.ones(3)])
    network.save(other / "model.keras")
    assert cli.run(predict.main, [str(other), *command, "--resume"]) == 2
    assert cli.run(predict.main, [str(run_dir), "--with", str(other), *command, "--resume"]) == 2
    assert "Expected the RUN (and --with) that made the rows of" in capsys.readouterr().err
    assert files_in(tmp_path) == before
    shutil.copytree(run_dir, other.parent / f"{other.name}-copy")
    assert cli.run(predict.main, [str(other.parent / f"{other.name}-copy"), *command, "--resume"]) == 0
    assert files_in(tmp_path) == before and capsys.readouterr().err == ""


def test_no_images_leave_finished_rows_alone(run_dir, photos, tmp_path, capsys):
    out = tmp_path / "rows" / "p.csv"
    out.parent.mkdir()
    (tmp_path / "nothing").mkdir()
    command = [str(run_dir), "--out", str(out), "--quiet"]
    assert cli.run(predict.main, [*command, str(photos)]) == 0
    before = files_in(out.parent)
    for more in ([], ["--resume"]):
        assert cli.run(predict.main, [*command, str(tmp_path / "nothing"), *more]) == 2
        assert "there is none" in capsys.readouterr().err and files_in(out.parent) == before


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_second_call_with_the_same_out_is_refused(run_dir, photos, tmp_path, capsys, more):
    """Both wrote to OUT.part: the first lost rows and ended well, the second ended in a traceback."""
    out = tmp_path / "p.csv"
    command = [str(run_dir), str(photos), "--out", str(out), "--quiet"]
    with alone(out):
        (tmp_path / "p.csv.part").write_text("rows of the first\n")
        before = files_in(tmp_path)
        assert cli.run(predict.main, [*command, *more]) == 2
        error = capsys.readouterr().err
        assert "Expected to be alone at --out" in error and "another --out" in error and error.count("\n") == 1
        assert files_in(tmp_path) == before
        assert cli.run(predict.main, [*command[:-2], str(tmp_path / "q.csv")]) == 0  # another one is free
    (tmp_path / ".p.csv.part.lock").write_text("")  # of a process that was killed
    (tmp_path / "p.csv.part").unlink()
    assert cli.run(predict.main, [*command, *more]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [".p.csv.model", ".q.csv.model", "p.csv", "q.csv"]


def test_listing_is_lazy(tmp_path, monkeypatch):
    """Only folders whose images are asked for are listed."""
    for folder in range(40):
        for index in range(10):
            path = tmp_path / f"{folder:02d}" / f"{index}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(str(folder)) or scandir(folder))
    assert len(list(islice(predict.iter_images([tmp_path]), 50))) == 50
    assert listed == [str(tmp_path), *(str(tmp_path / f"{folder:02d}") for folder in range(5))]
    listed.clear()
    monkeypatch.setattr(predict, "load_image", lambda path, *sizes: (np.zeros((32, 32, 3)), ""))
    network = types.SimpleNamespace(
        input_shape=(None, 32, 32, 3), predict_on_batch=lambda x: {"logits": np.zeros((len(x), 3))}
    )
    info = {"class_names": NAMES, "kind": "images", "image_size": None, "crop_size": None}
    batches = list(islice(predict.predict_rows(network, info, [tmp_path], batch_size=8), 20))
    assert sum(map(len, batches)) == 160 and len(listed) <= 1 + (160 + 5 * 8) / 10


def test_rows_come_by_name(tmp_path, monkeypatch):
    """Whatever the order of the file system: a folder's images, then its folders, each to the bottom."""
    names = ["IMG_0012.jpg", "IMG_0013.jpg", "a/1.png", "a/10.png", "a/2.png", "a/deep/0.png", "b/0.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    scandir = os.scandir

    @contextmanager
    def backwards(folder):
        with scandir(folder) as entries:
            yield iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

    monkeypatch.setattr(os, "scandir", backwards)
    assert [os.path.relpath(path, tmp_path) for path in predict.iter_images([tmp_path])] == names
    given = [tmp_path / "b" / "0.png", tmp_path / "a" / "deep"]  # as they are named
    assert list(predict.iter_images(given)) == [str(given[0]), str(given[1] / "0.png")]


def test_broken_files_do_not_stop_a_batch_of_only_broken_ones(run_dir, tmp_path, capsys):
    for index in range(5):
        (tmp_path / f"{index}.jpg").write_bytes(b"x")
    assert predict.main([str(run_dir), str(tmp_path), "--batch-size", "2", "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_other_files_of_a_folder_are_told(run_dir, tmp_path, capsys):
    """480 photos of a phone got no row and no word."""
    photos = tmp_path / "photos"
    colour_image(photos / "red.png", "red")
    for name in ("sub/a.HEIC", "b.heic", "c.jp2", ".hidden.heic", "Thumbs.db"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"x")
    assert cli.run(predict.main, [str(run_dir), str(photos), "--out", str(tmp_path / "p.csv")]) == 0
    error = capsys.readouterr().err
    assert "warning: Passed over 3 files with other endings (2 .heic, 1 .jp2)" in error and "to JPEG first" in error
    (photos / "red.png").unlink()
    assert cli.run(predict.main, [str(run_dir), str(photos)]) == 2
    error = capsys.readouterr().err
    assert "there is none" in error and "Passed over 3 files" in error


def test_features_run(tmp_path, capsys):
    run = make_run(tmp_path / "run", kind="features")
    np.savez(tmp_path / "f.npz", features=np.eye(3, dtype="float32") * 255, path=np.array(["r.jpg", "g.jpg", "b.jpg"]))
    assert predict.main([str(run), str(tmp_path / "f.npz"), "--quiet"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["path"], row["class"]) for row in rows] == [("r.jpg", "red"), ("g.jpg", "green"), ("b.jpg", "blue")]
    np.savez(tmp_path / "b.npz", features=np.eye(3) * 255, path=np.array([b"r.jpg", b"caf\xc3\xa9.jpg", b"caf\xe9.jpg"]))
    found = [row["path"] for rows in predict.predict_rows(*predict.load_run(run), [tmp_path / "b.npz"]) for row in rows]
    assert found == ["r.jpg", "café.jpg", "caf\udce9.jpg"]  # bytes, which were called b'r.jpg'
    np.save(tmp_path / "wrong.npy", np.zeros((2, 4)))
    assert cli.run(predict.main, [str(run), str(tmp_path / "wrong.npy")]) == 2
    assert "features (n, 3)" in capsys.readouterr().err
    np.savez(tmp_path / "short.npz", features=np.eye(3), path=np.array(["r.jpg"]))
    assert cli.run(predict.main, [str(run), str(tmp_path / "short.npz")]) == 2
    assert "Expected a path for each of 3 rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, t: a.__setitem__(0, str(t / "none")), "Expected a run folder"),
        (lambda a, t: a.__setitem__(0, str(t)), "Expected model.keras in the run folder"),
        (lambda a, t: a.__setitem__(1, str(t / "no.jpg")), "received '.*no.jpg', which is not there"),
        (lambda a, t: a.extend(["--top-k", "0"]), "--top-k of at least 1"),
        (lambda a, t: a.extend(["--resume"]), "Expected --out FILE with --resume"),
        (lambda a, t: a.extend(["--out", str(t / "no" / "p.csv")]), "existing folder for --out"),
        (lambda a, t: a.extend(["--out", str(t)]), "Expected a file for --out; .* is a folder"),
        (lambda a, t: a.extend(["--out", os.devnull]), "is no plain file"),
    ],
)
def test_refuses_with_one_sentence(run_dir, photos, tmp_path, capsys, change, words):
    arguments = [str(run_dir), str(photos)]
    change(arguments, tmp_path)
    assert cli.run(predict.main, arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and re.search(words, error)
    assert list(tmp_path.iterdir()) == []


def test_run_folder_errors(tmp_path, capsys):
    make_run(tmp_path / "seed0"), make_run(tmp_path / "seed1")
    assert cli.run(predict.main, [str(tmp_path), str(tmp_path)]) == 2
    assert "holds 2: seed0, seed1" in capsys.readouterr().err
    (tmp_path / "seed0" / "model.json").write_text("{")
    assert cli.run(predict.main, [str(tmp_path / "seed0"), str(tmp_path)]) == 2
    assert "missing or broken" in capsys.readouterr().err
    (tmp_path / "seed1" / "model.json").write_text('{"class_names": ["a"]}')
    assert cli.run(predict.main, [str(tmp_path / "seed1"), str(tmp_path)]) == 2
    assert "Expected 3 class names" in capsys.readouterr().err
    (tmp_path / "seed1" / "model.keras").write_bytes(b"x")
    assert cli.run(predict.main, [str(tmp_path / "seed1"), str(tmp_path)]) == 2
    assert re.search(r"model.keras' \(1 bytes\) can't be loaded.*--resume", capsys.readouterr().err)


def test_a_batch_size_beyond_the_images_costs_nothing(run_dir, photos, capsys):
    """The one batch was filled up to it: gigabytes of zeros."""
    assert predict.main([str(run_dir), str(photos), "--batch-size", "100000000", "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12


def test_batches_have_one_shape_once_one_was_full(photos):
    shapes = []
    network = types.SimpleNamespace(
        input_shape=(None, 32, 32, 3),
        predict_on_batch=lambda x: shapes.append(len(x)) or {"logits": np.zeros((len(x), 3))},
    )
    info = {"class_names": NAMES, "kind": "images", "image_size": None, "crop_size": None}
    assert sum(len(rows) for rows in predict.predict_rows(network, info, [photos], batch_size=4)) == 11
    assert set(shapes) == {4}
    assert sum(len(rows) for rows in predict.predict_rows(network, info, [photos / "sub1"], batch_size=8)) == 4
    assert shapes[-1] == 4


def test_the_images_of_a_folder_are_those_that_train_finds(tmp_path):
    """Nothing hidden, folders behind links too, and no link leads round for ever."""
    from isra_keras.data.image_folder import image_files

    root, other = tmp_path / "root", tmp_path / "other"
    for path in (root / "a.jpg", root / ".hidden.jpg", root / "sub" / "._mac.jpg", root / "sub" / "b.png",
                 root / ".trash" / "c.png", other / "d.png"):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (root / "link").symlink_to(other)
    (root / "sub" / "up").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    found = sorted(predict.iter_images([root]))
    assert found == image_files(root)
    assert [os.path.relpath(path, root) for path in found] == ["a.jpg", "gone.jpg", "link/d.png", "sub/b.png"]


def test_answers_that_are_no_numbers_are_errors_and_sure_ones_have_no_entropy(photos):
    info = {"class_names": NAMES, "kind": "images", "image_size": None, "crop_size": None}
    answers = {}
    for kind, logits in (("nan", [np.nan] * 3), ("sure", [1000, 0, 0])):
        network = types.SimpleNamespace(
            input_shape=(None, 32, 32, 3), predict_on_batch=lambda x: {"logits": np.tile(logits, (len(x), 1))}
        )
        (answers[kind],) = predict.predict_rows(network, info, [photos / "sub0"])
    errors = {row["error"] for row in answers["nan"]}
    assert errors == {"the model's answer is not finite"} and not any(row["top"] for row in answers["nan"])
    assert {str(row["entropy"]) for row in answers["sure"]} == {"0.0"}  # not -1e-7


def test_images_without_an_answer_are_not_called_unreadable(photos, tmp_path, capsys):
    run = make_run(tmp_path / "run")
    network, _ = predict.load_run(run)
    network.get_layer("classifier").set_weights([np.full((3, 3), np.nan), np.zeros(3)])
    network.save(run / "model.keras")
    assert cli.run(predict.main, [str(run), str(photos)]) == 0
    assert "11 rows, 2 unreadable, 9 without a finite answer," in capsys.readouterr().err


def small_images(tmp_path, kind, shape=(40, 40)):
    """(`Task` of three images in memory or in files, their files): smooth ones, since crops of noise look all alike."""
    from PIL import Image

    from isra_keras.data.domain import Domain, Task

    y, x = np.mgrid[: shape[0], : shape[1]]
    arrays = np.stack([np.stack([6 * x, 6 * y, 3 * (x + y) + 9 * k], axis=-1) for k in range(3)]).clip(0, 255).astype("uint8")
    files = [str(tmp_path / f"{k}.png") for k in range(3)]
    for path, pixels in zip(files, arrays):
        Image.fromarray(pixels).save(path)
    stored = {"paths": files, "arrays": None} if kind == "files" else {"paths": None, "arrays": arrays}
    domain = Domain("own", tuple(NAMES), np.arange(3, dtype="int32"), **stored)
    return Task("own", domain, domain, tuple(NAMES), None, "images", None if kind == "files" else 40), files


@pytest.mark.parametrize("kind, size, crop", [
    ("arrays", None, 28), ("arrays", None, None), ("files", None, 28), ("files", 32, 28), ("files", 256, None),
])  # fmt: skip
def test_pixels_are_those_of_the_evaluation(tmp_path, kind, size, crop):
    """Without a size images were resized to the crop, while the evaluation had cropped out of the whole."""
    from isra_keras.data.reader import make_reader
    from isra_keras.run_folder import resized_to
    from isra_keras.training.config import TrainConfig
    from isra_keras.training.results import describe_model

    task, files = small_images(tmp_path, kind)
    config = TrainConfig(image_size=size, crop_size=crop)
    seen = np.asarray(make_reader(task.target, size, crop, cache=False).read(np.arange(3, dtype="int32"))[0])
    info = describe_model(config, task, 1, None, False)
    for path, pixels in zip(files, seen):
        assert np.array_equal(predict.load_image(path, resized_to(info, seen.shape[1:3]), crop)[0], pixels)
    again = make_reader(task.target, info["image_size"], info["crop_size"], cache=False)
    assert np.array_equal(again.read(np.arange(3, dtype="int32"))[0], seen)  # and what `evaluate` reads by it


def test_sizes_of_what_is_no_square_image(tmp_path):
    from dataclasses import replace

    from isra_keras.training.config import TrainConfig
    from isra_keras.training.results import describe_model

    config = TrainConfig(image_size=None, crop_size=None)
    task, _ = small_images(tmp_path, "arrays", (40, 30))
    assert describe_model(config, task, 1, None, False)["image_size"] is None
    rows = replace(task.target, arrays=np.zeros((3, 5), "float32"))
    task = replace(task, target=rows, kind="features")
    assert describe_model(config, task, 1, None, False)["image_size"] is None
    assert describe_model(replace(config, freeze_backbone=True), task, 1, None, False)["image_size"] == 256


def test_lists_as_train_takes_them(tmp_path):
    for name in ("a.png", "b c.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "photos.txt").write_text("a.png\tcup\nb c.png\tmug\n")
    assert list(predict.iter_images([tmp_path / "photos.txt"])) == [str(tmp_path / name) for name in ("a.png", "b c.png")]


def test_figures_of_a_run_below_the_folder_are_no_images(tmp_path):
    for name in ("a.png", "runs/mine/report/curves.png", "runs/notes/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "runs" / "mine" / "config.json").write_text("{}")
    (tmp_path / "runs" / "mine" / "checkpoints").mkdir()
    expected = [str(tmp_path / "a.png"), str(tmp_path / "runs" / "notes" / "b.png")]
    assert list(predict.iter_images([tmp_path])) == image_files(tmp_path) == expected
