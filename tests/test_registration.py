"""Saved models load in a fresh process that has imported nothing but Keras and the package."""

import importlib
import pkgutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import isra_keras
from isra_keras.backbones import build_network
from isra_keras.registration import PACKAGE, Deferred, deferred
from tests.test_fit import make_model, make_pairs
from tests.training.small_task import features_task


def load_anew(code, path):
    """Runs code in a new process and returns what it printed."""
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


LOAD = """
import numpy as np
outputs = {}
for name in %r:
    model = keras.models.load_model(f"{sys.argv[1]}/{name}.keras", safe_mode=True)
    images = np.load(f"{sys.argv[1]}/{name}.npy")
    outputs[name] = model.predict(images, verbose=0)["logits"]
    if name == "model":
        print(type(model).__name__, type(model.method).__name__, int(model.step), model.semantic.num_topics)
np.savez(sys.argv[1] + "/outputs.npz", **outputs)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder with a trained model and a network of our own layers, each with images, and {name: its logits}."""
    folder = tmp_path_factory.mktemp("saved")
    model, task = make_model(), features_task()
    model.fit(make_pairs(task, model).dataset(0, 1), verbose=0)
    network = build_network("small_cnn", 7, 16, (32, 32, 3), "none", bottleneck="afn", classifier="weight_norm")
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    logits = {}
    for name, one, images in (("model", model, task.target.arrays), ("network", network, pixels)):
        one.save(folder / f"{name}.keras")
        np.save(folder / f"{name}.npy", images)
        logits[name] = one.predict(images, verbose=0)["logits"]
    return folder, logits


@pytest.mark.parametrize("imports, order", [
    ("import sys, isra_keras, importlib.util; importlib.util.find_spec('keras'); import keras", ("network", "model")),
    ("import sys, keras, isra_keras", ("model", "network")),
])  # fmt: skip
def test_saved_in_a_fresh_process(saved, imports, order):
    folder, logits = saved
    assert load_anew(imports + LOAD % (order,), folder) == "AdaptationModel BA3US 1 4"
    with np.load(folder / "outputs.npz") as found:
        np.testing.assert_array_equal(found["model"], logits["model"])
        np.testing.assert_allclose(found["network"], logits["network"], rtol=0, atol=1e-6)


def test_every_registered_class_is_in_the_table():
    for found in pkgutil.walk_packages(isra_keras.__path__, "isra_keras."):
        if not found.name.endswith("__main__"):
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                if error.name not in ("torch", "jax"):  # a step of another backend, which need not be installed
                    raise
    known = keras.saving.get_custom_objects()
    names = {name.split(">")[1] for name in known if name.startswith(f"{PACKAGE}>")}
    assert names == set(deferred())
    for name, module in deferred().items():
        assert known[f"{PACKAGE}>{name}"] is getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)


def test_a_deferred_class_is_not_imported_before_it_is_needed():
    with pytest.raises(AttributeError):
        Deferred("Nothing", "nowhere").__deepcopy__
    assert Deferred("InverseDecay", "training.schedules").from_config({"initial": 0.1}).initial == 0.1


def test_neither_keras_nor_tensorflow_is_loaded():
    code = "import sys, isra_keras; print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    assert load_anew(code, "") == "[]"
