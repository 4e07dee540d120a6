"""run: a term, features or weights that are not finite end it by name, and are never the newest checkpoint."""

import json
import os
import signal

import keras
import numpy as np
import pytest

from isra_keras.errors import NotFinite
from isra_keras.model import AdaptationModel
from isra_keras.training import runner
from isra_keras.training.callbacks import RunCallback
from tests.training.test_runner import At, config, lines, train


def poison(monkeypatch, term):
    """Makes a term NaN from step 6 on."""
    original = AdaptationModel.loss_terms

    def poisoned(self, views, context):
        terms = original(self, views, context)
        factor = keras.ops.where(context.step >= 5, float("nan"), 1.0)  # a factor, so that gradients are NaN too
        return terms | {term: terms[term] * factor}

    monkeypatch.setattr(AdaptationModel, "loss_terms", poisoned)


@pytest.mark.parametrize("term", ["alignment"] + [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("classification", "adversarial", "class2vec", "receptors", "target_entropy", "complement_entropy")
])  # fmt: skip
def test_nan_names_the_term_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, term):
    poison(monkeypatch, term)
    out = tmp_path / "run"
    with pytest.raises(NotFinite) as caught:
        train(out, semantic=True)
    assert f"infinity in {term} at step 6" in str(caught.value) and caught.value.exit_code == 3
    batch = json.loads((out / "bad_batch.json").read_text())
    assert batch["step"] == 6 and batch["terms"] == [term]
    assert all(len(batch[domain]) == config().batch_size for domain in ("source", "target"))
    checkpoints = sorted((out / "checkpoints").glob("step_*.npz"))
    assert [path.name for path in checkpoints] == ["step_00000004.npz"]
    with np.load(checkpoints[0]) as arrays:
        assert all(np.isfinite(arrays[name]).all() for name in arrays.files if arrays[name].dtype.kind == "f")


def test_asked_to_stop_after_a_nan_it_does_not_save_it(tmp_path, monkeypatch):
    """Losses are looked at now and then only; a stop in between must not make the NaN the newest checkpoint."""

    class Stopping(RunCallback):
        def on_step(self, step, logs):
            if step == 6:
                os.kill(os.getpid(), signal.SIGTERM)

    poison(monkeypatch, "classification")
    init = runner.Training.__init__

    def rare(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.log_every = 100

    monkeypatch.setattr(runner.Training, "__init__", rare)
    with pytest.raises(NotFinite, match="classification at step 6"):
        train(tmp_path / "run", callbacks=[Stopping()])
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step_*.npz")] == ["step_00000004.npz"]
    assert json.loads((tmp_path / "run" / "bad_batch.json").read_text())["source"]


def test_weights_that_are_not_finite_are_neither_scored_nor_saved(tmp_path):
    """The loss of the last step before an evaluation is of the weights before it."""
    out = tmp_path / "run"

    def spoil():
        spoiled.model.network.get_layer("classifier").trainable_variables[0].assign(np.full((8, 5), np.inf))

    class Keep(RunCallback):
        def on_evaluation(self, entry, model):
            spoiled.model = model

    spoiled = At(8, spoil)
    with pytest.raises(NotFinite, match="features and logits of the target at step 8"):
        train(out, callbacks=[Keep(), spoiled])
    assert [entry["step"] for entry in lines(out, "eval")] == [4]
    assert sorted(path.name for path in (out / "checkpoints").glob("*.npz") if "step" in path.name) == ["step_00000004.npz"]
