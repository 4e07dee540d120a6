"""run: the folder's content, selection, stop and resume, stages, precision."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from isra_keras.errors import UserError
from isra_keras.run_folder import load_run
from isra_keras.training import runner
from isra_keras.training.callbacks import RunCallback
from isra_keras.training.interrupt import Interrupted
from isra_keras.training.record import Events
from isra_keras.training.results import RunResult, save_network
from isra_keras.training.runner import run
from tests.training.small_task import CLASSES, features_config, features_task, images_config, images_task


def config(**given):
    """Without ISRA, unless a test looks at its terms, and without determinism, which is for the whole process: tests/faults."""
    return features_config(**({"deterministic": False, "semantic": False} | given))


def train(out, resume=False, callbacks=(), task=None, **given):
    return run(config(**given), out, resume, callbacks, task or features_task(), quiet=True)


def lines(out, kind):
    entries = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["kind"] == kind]


class At(RunCallback):
    """Does something after a step."""

    def __init__(self, step, action):
        self.step, self.action, self.seen = step, action, []

    def on_step(self, step, logs):
        self.seen.append(step)
        if step == self.step:
            self.action()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, train(out, iterations=12, semantic=True)


@pytest.fixture
def copied(finished, tmp_path):
    """The finished run of 12 steps in a folder of the test's own."""
    return shutil.copytree(finished[0], tmp_path / "copied")


def test_what_a_run_leaves(finished):
    out, result = finished
    names = {path.name for path in out.iterdir()}
    assert names - {".lock"} == {"config.json", "metrics.jsonl", "checkpoints", "tensorboard", "model.keras", "model.json",
                                 "semantic.keras", "report", "result.json"}  # fmt: skip
    assert [entry["step"] for entry in lines(out, "eval")] == [4, 8, 12]
    assert [entry["step"] for entry in lines(out, "train")] == list(range(1, 13))
    assert {"classification", "adversarial", "alignment", "loss"} <= set(lines(out, "train")[0])
    assert "class_weights" in lines(out, "eval")[0] and not list(out.rglob("*.part"))
    assert result.samples == 40 and set(result.class_weights) == set(CLASSES)
    assert RunResult.load(out / "result.json") == result


def test_selection_is_label_free_and_the_model_is_the_selected_one(finished):
    out, result = finished
    entries = lines(out, "eval")
    best = min(entries, key=lambda entry: entry["scores"]["mean_entropy"])
    assert result.selected.step == best["step"] and result.last.step == 12
    assert result.oracle.accuracy == max(entry["oracle_accuracy"] for entry in entries)
    network, info = load_run(out)
    task = features_task()
    logits = network.predict(task.target.arrays, verbose=0)["logits"]
    assert (logits.argmax(-1) == task.target.labels).mean() == pytest.approx(result.selected.accuracy)
    assert info["class_names"] == list(CLASSES) and info["selected_step"] == best["step"]


def test_a_finished_run_is_only_read(finished):
    out, result = finished
    watch = At(0, None)
    before = (out / "metrics.jsonl").read_bytes()
    again = train(out, resume=True, callbacks=[watch], iterations=12, semantic=True)
    assert again == result and watch.seen == [] and (out / "metrics.jsonl").read_bytes() == before
    with pytest.raises(UserError, match="--resume"):
        train(out, iterations=12, semantic=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_asked_to_stop_it_saves_and_goes_on(tmp_path, number):
    out = tmp_path / "run"
    with pytest.raises(Interrupted) as caught:
        train(out, callbacks=[At(3, lambda: os.kill(os.getpid(), number))])
    assert (caught.value.signal, caught.value.step) == (number, 3)
    assert (out / "checkpoints" / "step_00000003.json").is_file() and not (out / "model.keras").exists()
    with open(out / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 4, "loss": 77}\n{"kind": "tr')  # of a process that came further
    further = Events(out / "tensorboard")
    further.write({"kind": "train", "step": 4, "stage": "adapt", "loss": 77.0}), further.close()
    watch = At(0, None)
    train(out, resume=True, callbacks=[watch])
    assert watch.seen == [4, 5, 6, 7, 8]
    assert [entry["step"] for entry in lines(out, "train")] == list(range(1, 9))
    assert all(entry["loss"] != 77 for entry in lines(out, "train"))
    events = EventAccumulator(str(out / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    for tag, kind in (("train/loss", "train"), ("target/mean_entropy", "eval"), ("collapse/agreement", "eval")):
        assert [event.step for event in events.Tensors(tag)] == [entry["step"] for entry in lines(out, kind)]


def test_a_broken_checkpoint_is_named_and_the_one_before_is_used(copied, capsys):
    (copied / "result.json").unlink()
    path = copied / "checkpoints" / "step_00000012.npz"
    path.write_bytes(path.read_bytes()[:-100])
    watch = At(0, None)
    train(copied, resume=True, callbacks=[watch], iterations=12, semantic=True)
    text = capsys.readouterr().err
    assert str(path) in text and "resuming at step 8 of 12" in text and watch.seen == [9, 10, 11, 12]


def test_resume_of_another_configuration_is_refused(copied):
    (copied / "result.json").unlink()
    with pytest.raises(UserError, match="learning_rate 0.001 -> 0.5"):
        train(copied, resume=True, iterations=12, semantic=True, learning_rate=0.5)


@pytest.mark.parametrize("steps, given", [
    (12, {"semantic": True}), (8, {"method": "shot", "method_options": {"source_share": 0.5}}),
])  # fmt: skip
def test_a_finished_run_may_be_made_longer_but_not_shorter(copied, tmp_path, steps, given):
    out, more = copied, steps + 6
    if "method" in given:
        out = tmp_path / "run"
        train(out, iterations=steps, **given)
    before, watch = lines(out, "train"), At(0, None)
    longer = train(out, resume=True, callbacks=[watch], iterations=more, eval_interval=4, **given)
    assert watch.seen == list(range(steps + 1, more + 1)) and longer.last.step == more
    assert lines(out, "train")[:steps] == before and [e["step"] for e in lines(out, "eval")] == [*range(4, more, 4), more]
    assert {line["stage"] for line in lines(out, "train")[len(before) :]} == {"adapt"}
    assert train(out, resume=True, iterations=more, eval_interval=4, **given).last == longer.last  # only read
    with pytest.raises(UserError, match=f"iterations {more} -> {steps}"):
        train(out, resume=True, iterations=steps, **given)


def test_a_model_file_that_was_cut_off_is_written_anew_from_the_checkpoints(copied):
    out = copied
    whole = keras.models.load_model(out / "model.keras").get_weights()
    (out / "model.keras").write_bytes((out / "model.keras").read_bytes()[:1000])
    with pytest.raises(UserError, match="1,000 bytes.*--resume"):
        load_run(out)
    (out / "result.json").unlink()
    train(out, resume=True, iterations=12, semantic=True)
    again = load_run(out)[0].get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))


def test_no_room_for_the_model_names_path_and_bytes_and_keeps_the_old_file(copied, monkeypatch):
    out = copied
    network, before = load_run(out)[0], (out / "model.keras").read_bytes()

    def full(self, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(network), "save", full)
    with pytest.raises(UserError, match=f"{4 * network.count_params():,} bytes.*model.keras.*disk"):
        save_network(network, out / "model.keras")
    assert (out / "model.keras").read_bytes() == before and not list(out.glob(".part*"))


@pytest.mark.parametrize("precision", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_two_stages_under_mixed_precision(tmp_path, precision):
    out = tmp_path / "run"
    result = train(out, method="shot", semantic=True, precision=precision, method_options={"threshold": 0, "source_share": 0.5})
    assert keras.config.dtype_policy().name == "float32"
    assert [entry["stage"] for entry in lines(out, "train")] == ["source"] * 4 + ["adapt"] * 4
    assert result.selected.step > 4
    names = np.load(out / "checkpoints" / "step_00000008.npz").files
    assert any("momentum" in name for name in names)
    assert any("dynamic_scale" in name for name in names) == (precision == "mixed_float16")
    assert any("step_counter" in name for name in names) == (precision == "mixed_float16")


@pytest.mark.parametrize("given", [{"method": "shot", "method_options": {"source_share": 0.5}}, {"warmup": 0.5}])
def test_the_source_model_is_kept(tmp_path, given):
    out = tmp_path / "run"
    train(out, **given)
    source, images = keras.models.load_model(out / "source_model.keras"), features_task().target.arrays
    first, last = (model.predict(images, verbose=0)["logits"] for model in (source, load_run(out)[0]))
    assert first.shape == last.shape and not np.array_equal(first, last)


def test_warm_up_gives_the_first_class_weights(tmp_path):
    train(tmp_path / "run", warmup=0.5)
    steps, evaluations = lines(tmp_path / "run", "train"), lines(tmp_path / "run", "eval")
    assert [line["step"] for line in steps if "adversarial" in line] == [5, 6, 7, 8]
    assert [entry["stage"] for entry in evaluations] == ["warmup", "adapt"]
    assert evaluations[0]["class_weights"] is not None and evaluations[0]["signals"]["agreement"] == 1.0


def test_the_step_after_the_last_has_no_middle_batch_as_in_the_authors_script(tmp_path, monkeypatch):
    tables = []

    class Seen(runner.DomainPairs):
        def __init__(self, *args, middle_size, **more):
            tables.append(middle_size)
            super().__init__(*args, middle_size=middle_size, **more)

    monkeypatch.setattr(runner, "DomainPairs", Seen)
    train(tmp_path / "run", iterations=4, eval_interval=2, batch_size=8, warmup=0.0, method="ba3us",
          method_options={"mu": 2, "discriminator_width": 4}, reference_quirks=True, semantic=False)  # fmt: skip
    assert tables == [[4, 4, 2, 2, 0]]


@pytest.mark.parametrize("method, semantic, steps", [("slm", False, 4), ("dann", True, 5)])
def test_the_step_after_the_last_is_of_the_script_of_isra_alone(tmp_path, method, semantic, steps):
    options = {"discriminator_width": 4}
    train(tmp_path / "run", iterations=4, eval_interval=2, warmup=0.0, method=method, semantic=semantic,
          method_options=options, reference_quirks=True)  # fmt: skip
    assert max(line["step"] for line in lines(tmp_path / "run", "train")) == steps


def test_unlabelled_target(tmp_path):
    result = train(tmp_path / "run", task=features_task(labelled=False))
    assert result.oracle is None and result.selected.accuracy is None


def test_nothing_is_written_before_data_and_network_are_fine(tmp_path):
    for given in ({"batch_size": 41}, {"method_options": {"nu": 1}}, {"backbone": "small_cnn"}):
        with pytest.raises(UserError):
            train(tmp_path / "run", **given)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind, knows, warned", [("features", 0.5, True), ("images", 1.1, False), ("images", 0.0, True)])
def test_collapse_is_told_unless_the_source_model_is_too_weak_to_compare_with(tmp_path, monkeypatch, capsys, kind, knows, warned):
    """A network from nothing has to know the source first; then it has a refuge like any other."""
    from isra_keras.selection.collapse import CollapseWatch
    from isra_keras.training import guarded

    original = CollapseWatch.check

    def runaway(self, step, logits, class_weights=None):
        if step > 4:  # all rows taken for one class
            logits = np.zeros_like(logits) + np.eye(logits.shape[1])[0] * 9
        return original(self, step, logits, class_weights)

    monkeypatch.setattr(CollapseWatch, "check", runaway)
    monkeypatch.setattr(guarded, "KNOWS_SOURCE", knows)
    monkeypatch.setattr(guarded, "FRESH_LIMITS", None)  # of five classes one is a fifth
    if kind == "features":
        train(tmp_path / "run")
    else:
        config = images_config(deterministic=False, semantic=False, warmup=0.5)
        step = run(config, tmp_path / "run", task=images_task(), quiet=True).selected.step
        assert step == (4 if warned else 8)
        first, last = lines(tmp_path / "run", "eval")
        assert "source_accuracy" in first["scores"] and ("collapsed" in last) == warned
    assert ("may have collapsed" in capsys.readouterr().err) == warned
    assert lines(tmp_path / "run", "eval")[-1]["signals"]["largest_share"] == 1.0


@pytest.fixture
def collapsing(monkeypatch):
    """Call it with steps whose evaluations are then found collapsed."""
    from isra_keras.selection.collapse import CollapseWatch

    def at(*steps):
        old = CollapseWatch.check

        def check(self, step, logits, class_weights=None):
            signals = old(self, step, logits, class_weights)
            self.reasons = ("told so",) if step in steps else ()
            return signals

        monkeypatch.setattr(CollapseWatch, "check", check)

    return at


def test_a_collapsed_evaluation_is_not_selected_before_a_sound_one(tmp_path, collapsing):
    given = {"iterations": 12, "warmup": 4 / 12, "eval_interval": 2}
    picked = train(tmp_path / "free", guard=False, **given).selected.step
    assert picked > 4
    collapsing(picked)
    guarded = train(tmp_path / "guarded", **given)
    assert 4 < guarded.selected.step != picked and guarded.last.step == 12
    collapsed = [entry["step"] for entry in lines(tmp_path / "guarded", "eval") if entry["collapsed"]]
    assert collapsed == [picked]


def test_if_all_collapse_the_model_from_before_adaptation_is_kept(tmp_path, collapsing):
    """Also where the run is stopped and goes on: the refuge is part of its state."""
    given = {"iterations": 12, "warmup": 4 / 12, "eval_interval": 2}
    collapsing(6, 8, 10, 12)
    with pytest.raises(Interrupted):
        train(tmp_path / "run", callbacks=[At(7, lambda: os.kill(os.getpid(), signal.SIGTERM))], **given)
    result = train(tmp_path / "run", resume=True, **given)
    assert result.selected.step == 4 and result.last.step == 12 and result.oracle.step > 4
    shipped, source = (keras.models.load_model(tmp_path / "run" / name) for name in ("model.keras", "source_model.keras"))
    for a, b in zip(shipped.weights, source.weights):
        np.testing.assert_array_equal(a, b)
    assert load_run(tmp_path / "run")[1]["selected_step"] == 4


def test_source_only_has_not_collapsed_by_adapting(tmp_path, collapsing, capsys):
    """With a warm-up it was held to that one's model, warned of, and told to be compared with source only."""
    collapsing(6, 8)
    result = train(tmp_path / "run", method="source_only", warmup=0.5, eval_interval=2)
    assert result.selected.step > 4 and "may have collapsed" not in capsys.readouterr().err
    assert not any("collapsed" in entry for entry in lines(tmp_path / "run", "eval"))


def test_without_a_stage_before_the_best_of_the_collapsed_is_kept(tmp_path, finished, collapsing):
    collapsing(4, 8, 12)
    assert train(tmp_path / "run", iterations=12, semantic=True).selected == finished[1].selected


def test_what_adapts_is_no_reference_and_no_refuge(tmp_path, collapsing):
    """SLM's warm start is adversarial: what collapsed in it was kept as the model from before adaptation."""
    given = {"method": "slm", "semantic": False, "iterations": 12, "eval_interval": 2,
             "method_options": {"warm_share": 0.5, "discriminator_width": 4}}  # fmt: skip
    collapsing(8, 10, 12)
    result = train(tmp_path / "run", **given)
    assert result.selected.step > 6 and not (tmp_path / "run" / "source_model.keras").exists()
    signals = [entry["signals"]["agreement"] for entry in lines(tmp_path / "run", "eval")]
    assert signals[0] == 1.0 and signals[2] < 1.0, "the first evaluation stays what others are compared with"


def test_a_deterministic_sum_does_not_depend_on_whose_memory_is_free():
    """In a process of its own: determinism cannot be taken back."""
    code = """
import numpy as np, tensorflow as tf
from isra_keras.training.determinism import make_deterministic
make_deterministic()
rows = [tf.constant(np.random.default_rng(i).normal(size=1000).astype("float32")) for i in range(3)]
def total(keep):
    def function(rows):
        a, b, c = [tf.math.sin(row) for row in rows]
        return (a + b + c, a, b) if keep else (a + b + c,)
    return tf.function(function, autograph=False)(rows)[0].numpy()
assert np.array_equal(total(keep=False), total(keep=True))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_model_is_forgotten_after_its_run(tmp_path, monkeypatch):
    """Searches and grids train hundreds in one process."""
    import gc
    import weakref

    seen, original = [], runner.Training.__init__

    def remembered(self, *args, **kwargs):
        original(self, *args, **kwargs)
        seen.append(weakref.ref(self.model))

    monkeypatch.setattr(runner.Training, "__init__", remembered)
    train(tmp_path / "run", warmup=0.5, semantic=True)
    keras.backend.clear_session()
    gc.collect()
    assert len(seen) == 1 and seen[0]() is None


def test_other_data_are_not_gone_on_with(copied):
    """Labels and samples are numbers: a class folder that was renamed would turn one class into another."""
    task = features_task()
    fewer = replace(task.target, labels=task.target.labels[1:], arrays=task.target.arrays[1:])
    turned = replace(task.source, labels=task.source.labels[::-1])
    for other, told in (
        (replace(task, class_names=("ant", "cat", "dog", "eel", "wasp")), "classes that are gone: bee, that are new: wasp"),
        (replace(task, target=fewer), "40 samples of the target then, 39 now"),
        (replace(task, source=turned), "other files or labels in the source"),
    ):
        with pytest.raises(UserError, match=f"the data that the run in .*{told}"):
            train(copied, True, task=other, iterations=14, semantic=True)
        assert RunResult.load(copied / "result.json").last.step == 12  # the finished run is as it was
    assert train(copied, True, task=task, iterations=14, semantic=True).last.step == 14
