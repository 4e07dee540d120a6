"""Saved models load in a fresh process that has imported nothing but Keras and the package."""

import importlib
import pkgutil
import subprocess
import sys

import keras
import pytest

import isra_keras
from isra_keras.registration import PACKAGE, Deferred, deferred
from tests.test_fit import make_model, make_pairs
from tests.training.small_task import features_task


def load_anew(code, path):
    """Runs code in a new process and returns what it printed."""
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


LOAD = "; model = keras.models.load_model(sys.argv[1]); print(type(model).__name__, type(model.method).__name__)"


@pytest.mark.parametrize("imports", ["import sys, isra_keras, importlib.util; importlib.util.find_spec('keras'); import keras", "import sys, keras, isra_keras"])
def test_whole_model_in_a_fresh_process(tmp_path, imports):
    model = make_model()
    model.fit(make_pairs(features_task(), model).dataset(0, 1), verbose=0)
    model.save(tmp_path / "a.keras")
    assert load_anew(imports + LOAD, tmp_path / "a.keras") == "AdaptationModel BA3US"


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
