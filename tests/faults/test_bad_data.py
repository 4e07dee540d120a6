"""A folder with every kind of bad and odd file: used, or named and counted; nothing hangs, nothing is lost."""

import csv
import os
import warnings

import numpy as np
import pytest
from PIL import Image

from isra_keras import predict, train
from isra_keras.data.decode import IMAGE_SUFFIXES
from isra_keras.errors import UserError
from tests.app.bad_uploads import uploads

OPTIONS = ["--backbone", "small_cnn", "--weights", "none", "--image-size", "40", "--crop-size", "32",
           "--iterations", "4", "--eval-interval", "2", "--batch-size", "6", "--num-topics", "4", "--feature-dim", "8",
           "--warmup", "0", "--quiet"]  # fmt: skip
NOT_UTF8 = b"caf\xe9 \xff.png"


@pytest.fixture
def folders(tmp_path):
    """(source with two classes, target with all kinds of files, {path of an image file: whether it can be read})."""
    rng = np.random.default_rng(0)
    for name in ("cup", "mug"):
        (tmp_path / "shop" / name).mkdir(parents=True)
        for index in range(6):
            pixels = rng.integers(0, 255, (40, 40, 3), dtype="uint8")
            Image.fromarray(pixels).save(tmp_path / "shop" / name / f"{index}.png")
    target = tmp_path / "photos"
    (target / "deep" / "er").mkdir(parents=True)
    known = {}
    for number, (name, (content, reason)) in enumerate(uploads().items()):
        path = (target, target / "deep", target / "deep" / "er")[number % 3] / name
        path.write_bytes(content)
        if path.suffix in IMAGE_SUFFIXES:
            known[str(path)] = reason is None
    odd = os.path.join(os.fsencode(target), NOT_UTF8)
    with open(odd, "wb") as file:
        file.write(uploads()["plain.png"][0])
    known[os.fsdecode(odd)] = True
    (target / "deep" / "loop").symlink_to(target)
    (target / "gone.jpg").symlink_to(target / "nowhere.jpg")
    known[str(target / "gone.jpg")] = False
    os.mkfifo(target / "pipe.jpg")  # whoever opens it waits for ever
    return tmp_path / "shop", target, known


def call(*arguments):
    return train.main([str(argument) for argument in arguments] + OPTIONS)


def test_bad_files_are_named_and_the_rest_is_used(folders, tmp_path):
    source, target, known = folders
    assert len(known) >= 30
    out = tmp_path / "run"
    with pytest.warns(UserWarning, match="cannot be read"):
        assert call("--source-dir", source, "--target-dir", target, "--out", out) == 0
    with open(out / "report" / "bad_images.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        named = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    bad = {path for path, readable in known.items() if not readable}
    assert set(named) == bad and all(named.values())

    assert predict.main([str(out), str(target), "--out", str(tmp_path / "rows.csv"), "--quiet"]) == 0
    with open(tmp_path / "rows.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["path"] for row in rows) == sorted(known)  # each once, whatever its name, loops followed once
    assert {row["path"] for row in rows if row["error"]} == bad


def test_bad_files_are_refused_if_asked(folders, tmp_path):
    source, target, _ = folders
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError, match="cannot be read"):
            call("--source-dir", source, "--target-dir", target, "--out", tmp_path / "run", "--on-bad-image", "error")
    assert not (tmp_path / "run").exists()
