"""Files from elsewhere: nothing in them is executed, and only the documented errors come out of their readers."""

import json
import os
import pickle
import warnings
import zipfile

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isra_keras.benchmarking.store import read_lines
from isra_keras.data.image_list import read_list
from isra_keras.data.imagenet_caltech import _validation_rows
from isra_keras.data.tasks import folder_task
from isra_keras.errors import UserError
from isra_keras.run_folder import load_run, read_info
from isra_keras.training.checkpoint import CheckpointFolder
from isra_keras.training.config import TrainConfig
from isra_keras.training.recipes import resolve

EXAMPLES = int(os.environ.get("ISRA_FUZZ_EXAMPLES", "50"))
"""Of each reader; ISRA_FUZZ_EXAMPLES=20000 is about ten minutes."""
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES < 1000
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4), max_leaves=12,
)  # fmt: skip


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def run_dir(tmp_path):
    """A folder with a description of two classes and room for a model."""
    (tmp_path / "model.json").write_text(json.dumps({"class_names": ["a", "b"]}))
    return tmp_path


def test_code_in_a_model_is_refused(run_dir):
    inputs = keras.Input((4,))
    outputs = keras.layers.Lambda(lambda x: x * 2, output_shape=(4,))(inputs)
    keras.Model(inputs, {"logits": outputs}).save(run_dir / "model.keras")
    with pytest.raises(UserError, match="can't be loaded"):
        load_run(run_dir)


def test_a_class_of_another_module_is_refused(run_dir):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2, name="classifier")(inputs)).save(run_dir / "whole.keras")
    with zipfile.ZipFile(run_dir / "whole.keras") as whole, zipfile.ZipFile(run_dir / "model.keras", "w") as changed:
        for name in whole.namelist():
            content = whole.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"][1] |= {"module": "os", "class_name": "mkdir", "registered_name": "mkdir",
                                                  "config": {"path": str(run_dir / "made")}}  # fmt: skip
                content = json.dumps(config)
            changed.writestr(name, content)
    with pytest.raises(UserError, match="can't be loaded"):
        load_run(run_dir)
    assert not (run_dir / "made").exists()


def test_a_pickle_is_never_loaded(tmp_path):
    checkpoints = CheckpointFolder(tmp_path / "checkpoints")
    checkpoints.save(5, {"a": np.ones(3)}, {"selected": None})
    array = np.array([Bomb(tmp_path / "made")], dtype=object)
    np.savez(tmp_path / "bomb.npz", features=array)
    for name in ("model.keras", "bomb.pickle.npz"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "made")))
    (tmp_path / "model.json").write_text(json.dumps({"class_names": ["a"]}))
    with pytest.raises(UserError):
        load_run(tmp_path)
    from isra_keras.predict import _feature_rows

    for name in ("bomb.npz", "bomb.pickle.npz"):
        with pytest.raises(UserError, match="can't be read"):
            list(_feature_rows([str(tmp_path / name)], 3, None))
    assert not (tmp_path / "made").exists()


def only_user_errors(function, *arguments):
    """Whatever the function reads, it returns or raises a `UserError` of one readable line or more."""
    try:
        return function(*arguments)
    except UserError as error:
        assert str(error).strip()
        return None


@fuzz
@given(json_values)
def test_configurations_of_any_json(value):
    only_user_errors(TrainConfig.from_json, json.dumps(value))


GOOD = json.loads(resolve(dataset="glyphs").to_json())


@fuzz
@given(st.sampled_from(sorted(GOOD)), json_values)
def test_configurations_with_one_odd_value(name, value):
    only_user_errors(TrainConfig.from_json, json.dumps(GOOD | {name: value}))


@fuzz
@given(st.text(max_size=60))
def test_configurations_of_any_text(text):
    only_user_errors(TrainConfig.from_json, text)


@fuzz
@given(data=st.data())
def test_checkpoints_with_bytes_changed(tmp_path_factory, data):
    """Any change is noticed; the checkpoint before is used."""
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoints = CheckpointFolder(folder)
    for step in (1, 2):
        checkpoints.save(step, {"a": np.full(20, step, "float32")}, {"selected": None, "step": step})
    path = folder / data.draw(st.sampled_from(["step_00000002.npz", "step_00000002.json"]))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    changed = content[:place] + data.draw(st.binary(max_size=12)) + content[place + data.draw(st.integers(0, 12)) :]
    path.write_bytes(bytes(changed))
    found = only_user_errors(checkpoints.load_newest)
    assert found is not None and np.all(found[1]["a"] == found[0])


@fuzz
@given(json_values, st.text(max_size=30))
def test_descriptions_of_a_run(tmp_path_factory, value, text):
    folder = tmp_path_factory.mktemp("run")
    (folder / "model.keras").write_bytes(b"")
    for content in (json.dumps(value), text, json.dumps({"class_names": value})):
        (folder / "model.json").write_text(content, encoding="utf-8", errors="surrogatepass")
        only_user_errors(read_info, folder)


list_lines = st.lists(
    st.text(max_size=30) | st.sampled_from(["# a", "a.png b", "a.png\tb", "a.png", "a 0", "b.jpg 10", "\0", "\t", ""]),
    max_size=6,
)


@fuzz
@given(list_lines, st.binary(max_size=8))
def test_lists_of_images(tmp_path_factory, lines, more):
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass") + more)
    found = only_user_errors(read_list, path)
    assert found is None or len(found[0]) == len(found[1] or found[0])
    only_user_errors(_validation_rows, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        only_user_errors(folder_task, path, path)


@fuzz
@given(json_values, st.text(max_size=40))
def test_lines_of_a_benchmark(tmp_path_factory, value, text):
    path = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    line = json.dumps({"format": 1, "status": "done", "cell": value})
    path.write_text(f"{line}\n{json.dumps(value)}\n{text}\n", encoding="utf-8", errors="surrogatepass")
    only_user_errors(read_lines, [path])
