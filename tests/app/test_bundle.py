import shutil

import numpy as np
import pytest

from app.bundle import BUNDLED, FILES, bundle
from app.runs import choose_run
from isra_keras.data import glyphs
from isra_keras.errors import UserError
from isra_keras.run_folder import load_run, load_semantic


def test_without_runs_the_bundled_one_opens(tmp_path):
    assert choose_run(root=tmp_path) == BUNDLED
    (tmp_path / "mine").mkdir()
    shutil.copyfile(BUNDLED / "model.keras", tmp_path / "mine" / "model.keras")
    assert choose_run(root=tmp_path) == tmp_path / "mine"


def test_the_bundled_model_reads_handwriting():
    network, info = load_run(BUNDLED)
    images, labels = glyphs.handwritten()
    outputs = network.predict(images[::9].astype("float32"), verbose=0)
    names = [info["class_names"][k] for k in outputs["logits"].argmax(1)]
    right = np.mean(np.array(names) == labels[::9].astype(str))
    assert right > 0.5 and len(info["class_names"]) == 36
    assert load_semantic(BUNDLED) is not None


def test_takes_what_the_app_reads_and_nothing_else(tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(BUNDLED, run)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "step.npz").write_bytes(b"large")
    assert bundle(run, out) == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == set(FILES)
    with pytest.raises(UserError, match="not there"):
        bundle(tmp_path / "none", out)
    assert (out / "model.keras").is_file()


def test_what_is_bundled_can_be_bundled_again_and_an_interrupted_copy_loses_nothing(tmp_path, monkeypatch):
    """The folder was emptied before anything was read."""
    out = tmp_path / "out"
    shutil.copytree(BUNDLED, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert bundle(out, out) == sum(map(len, before.values()))

    def stopped(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copyfile", stopped)
        bundle(BUNDLED, out)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
