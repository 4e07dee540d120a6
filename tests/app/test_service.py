"""The service without a browser: runs that lack something, warnings."""

import json

import numpy as np
import pytest

from app.service import RunService
from isra_keras.errors import UserError
from isra_keras.remarks import UNLIKE, UNSURE
from tests.app.runs import make_app_run


def test_without_the_dataset_the_rest_works(tmp_path):
    service = RunService(make_app_run(tmp_path / "run", data=False))
    service.index.thread.join(60)
    assert not service.index.ready and "not on this machine" in service.index.status
    assert service.index.strongest(0) == [] and service.index.example(1) is None
    assert service.warnings(np.zeros((1, 16)), np.array([0.1])) == [""]
    assert service.warnings(np.zeros((1, 16)), np.array([1.95])) == [UNSURE]


def test_whoever_starts_it_is_told_why_there_are_no_source_images(tmp_path, capsys):
    """A wrong --data-dir, and one for a run of folders that are there, were passed over without a word."""
    from types import SimpleNamespace

    from app.source_index import SourceIndex

    config = {"source_dir": str(tmp_path), "target_dir": str(tmp_path)}
    run = make_app_run(tmp_path / "run", semantic=False)
    (run / "config.json").write_text(json.dumps(config))
    index = SourceIndex(SimpleNamespace(folder=run), data_dir="elsewhere")
    index.start()
    index.thread.join(60)
    told = capsys.readouterr().err
    assert "note: source images can't be shown: Expected --data-dir for a dataset; the run is of the folders" in told
    assert "not on this machine" in index.status and str(tmp_path) not in index.status


def test_warning_of_the_unlike(served):
    service = served[1]
    assert service.index.ready
    means = service.index.border.means
    against = -10 * means.mean(axis=0, keepdims=True)
    assert service.warnings(7 * means[:1], np.array([0.1])) == [""]  # the length of the features plays no part
    assert service.warnings(against, np.array([0.1])) == [UNLIKE]


def test_strongest_source_images_are_those_with_the_largest_response(served):
    service = served[1]
    best = service.index.strongest(2, 3)
    images = np.stack([image for image, _ in best]).astype("float32")
    answers = service.maps.explain(images).responses[:, 2]
    assert (np.diff(answers) <= 1e-5).all()
    assert answers[0] == pytest.approx(service.index.responses[:, 2].max(), abs=1e-4)


def test_source_images_that_went_bad_are_not_shown_as_others(served, monkeypatch):
    """The image that was read in the place of one bore its class, and a disk that was gone ended the whole explanation."""
    index = served[1].index
    best = index.strongest(2, 3)

    class Reader:
        def read(self, asked):
            if len(asked) != 3:
                raise ValueError("numpy_function: UserError: Expected readable images")
            images, used = real.read(np.where(asked == asked[1], index.indices[0], asked).astype("int32"))
            return images, used

    real = index.reader
    monkeypatch.setattr(index, "reader", Reader())
    left = index.strongest(2, 3)
    assert [name for _, name in left] == [best[0][1], best[2][1]]
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(left, best[::2]))
    monkeypatch.setattr(index, "target", (index.target[0], Reader()))
    monkeypatch.setattr(index, "status", "")
    assert index.strongest(2, 4) == [] and index.example(1) is None and "no longer be read" in index.status


def test_source_images_have_the_names_of_their_own_folders(served, monkeypatch):
    """A class that was added to the source since shifted the names of all after it."""
    from dataclasses import replace

    import isra_keras.evaluate
    from app.source_index import SourceIndex

    service, rebuild = served[1], isra_keras.evaluate.rebuild_task

    def with_one_more(config, data_dir=None):
        task = rebuild(config, data_dir)
        names = ("!", *task.class_names)
        sides = (replace(side, class_names=names, labels=side.labels + 1) for side in (task.source, task.target))
        return replace(task, **dict(zip(("source", "target"), sides)), class_names=names)

    monkeypatch.setattr(isra_keras.evaluate, "rebuild_task", with_one_more)
    index = SourceIndex(service)
    index.build()
    assert [name for _, name in index.strongest(2)] == [name for _, name in service.index.strongest(2)]


def test_runs_on_features_are_refused(tmp_path):
    from tests.small_run import make_run

    with pytest.raises(UserError, match="precomputed features"):
        RunService(make_run(tmp_path / "run", kind="features"))


def test_models_with_code_are_refused(tmp_path):
    """A lambda in model.keras is code: safe mode does not load it."""
    import keras

    folder = make_app_run(tmp_path / "run")
    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(folder / "model.keras")
    with pytest.raises(UserError, match="can't be loaded"):
        RunService(folder)


def test_answers_that_are_no_numbers_are_none(served, image, monkeypatch):
    """"nan %" of the first class was shown as an answer."""
    import gradio as gr

    from app.attention_tab import AttentionHandlers
    from app.compare_tab import CompareHandlers
    from app.predict_tab import PredictHandlers

    service, files = served[1:3]
    logits = np.full((1, len(service.class_names)), np.nan)
    monkeypatch.setattr(service, "predict", lambda images: {"logits": logits, "features": np.zeros((1, 16))})
    row = service.classify([image])[0]
    assert row["class"] is None and row["entropy"] is None and row["note"] == "the model's answer is not finite"
    assert "can't be used: the model's answer is not finite" in PredictHandlers(service, files, "").summary([row])
    explained = service.explain(service.read(image).image)
    monkeypatch.setattr(service, "explain", lambda image: explained | {"probabilities": logits[0]})
    look = CompareHandlers(service, {}).look(service, image)
    assert look["row"] == ["—", "", "", row["note"]] and look["picture"].shape == (448, 448, 3)
    handlers = CompareHandlers(service, {"same": "x"})
    handlers.loaded["same"] = service
    assert "no answer to compare" in handlers.compare(image, "same")[3]
    with pytest.raises(gr.Error, match="the model's answer is not finite"):
        AttentionHandlers(service, files).explain(image)


def test_a_sure_answer_has_no_entropy(served, image, monkeypatch):
    """Not -1e-7, shown as -0.000."""
    logits = 1000 * np.eye(1, len(served[1].class_names))
    monkeypatch.setattr(served[1], "predict", lambda images: {"logits": logits, "features": np.zeros((1, 16))})
    assert str(served[1].classify([image])[0]["entropy"]) == "0.0"
