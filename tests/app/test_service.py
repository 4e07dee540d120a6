"""The service without a browser: runs that lack something, warnings."""

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
