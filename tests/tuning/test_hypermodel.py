"""Trials: the same numbers as `isra_keras.run`, usable from a notebook, failing with a reason."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras_tuner")
import keras  # noqa: E402
import keras_tuner  # noqa: E402
import tensorflow as tf  # noqa: E402

from isra_keras.data.domain import BadImage, Domain, Task  # noqa: E402
from isra_keras.data.protocols import protocols  # noqa: E402
from isra_keras.data.tasks import load_task  # noqa: E402
from isra_keras.errors import UserError  # noqa: E402
from isra_keras.methods import METHODS  # noqa: E402
from isra_keras.training.recipes import resolve  # noqa: E402
from isra_keras.training.runner import run  # noqa: E402
from tuning import ISRAHyperModel, objective, records  # noqa: E402
from tuning import space as spaces  # noqa: E402
from tuning.hypermodel import config_of  # noqa: E402
from tuning.objectives import ORACLE, parse_objective  # noqa: E402
from tuning.oracles import make_oracle  # noqa: E402
from tuning.tensorboard import HParamsLog  # noqa: E402
from tuning.tuner import SearchTuner  # noqa: E402

NAMES = ("a", "b", "c")


def domain(name, classes, shift, rng):
    labels = np.repeat(np.arange(classes), 12).astype("int32")
    rows = np.eye(3, 6)[labels] * 3 + rng.normal(0, 0.7, (len(labels), 6)) + shift
    return Domain(name, NAMES, labels, None, rows.astype("float32"))


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    return Task("s-t", domain("s", 3, 0.0, rng), domain("t", 2, 0.4, rng), NAMES, None, "features", None)


def settings(**given):
    return resolve(**({"source_dir": "s", "target_dir": "t", "backbone": "features", "weights": "none", "iterations": 6,
                       "eval_interval": 3, "batch_size": 6, "feature_dim": 8, "num_topics": 4,
                       "method": "source_only"} | given))  # fmt: skip


class Silent:
    def trial_began(self, trial):
        pass

    def trial_ended(self, trial):
        pass


def tuner_of(task, folder, trials=2, model=None, failures=3):
    model = model or ISRAHyperModel(task, settings(), names=["class2vec_weight", "alignment_weight"])
    goal = parse_objective("sel:mean_entropy")
    oracle = make_oracle("random", objective(goal.name), trials, 5, 2, 2, failures)
    return SearchTuner(oracle, model, folder, HParamsLog(folder, model.space, goal, Silent()))


@pytest.mark.parametrize("method, semantic, seeds", [("source_only", True, 2), ("shot", False, 1)])
def test_trial_is_what_the_runner_would_train(task, tmp_path, method, semantic, seeds):
    config = settings(method=method, semantic=semantic)
    model = ISRAHyperModel(task, config, seeds=seeds)
    hp = keras_tuner.HyperParameters()
    metrics = model.fit(hp, model.build(hp), folder=tmp_path / "notes")
    results = []
    for seed in range(seeds):
        keras.backend.clear_session()
        results.append(run(model.configuration(hp, seed), tmp_path / f"run{seed}", task=task, quiet=True).selected)
    assert metrics["sel:mean_entropy"] == pytest.approx(
        np.mean([item.scores["mean_entropy"] for item in results]), abs=1e-5
    )
    assert metrics[ORACLE] == pytest.approx(np.mean([item.accuracy for item in results]))
    again = model.fit(hp, None, folder=tmp_path / "notes")  # from the notes: no model is needed
    assert again == metrics


@pytest.mark.slow
@pytest.mark.parametrize("semantic", [True, False])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_can_be_searched(task, method, semantic):
    model = ISRAHyperModel(task, settings(method=method, semantic=semantic))
    hp = keras_tuner.HyperParameters()
    model.declare_hyperparameters(hp)
    assert set(hp.values) == {item.name for item in model.space} <= set(spaces.SEMANTIC if semantic else spaces.PLAIN)
    metrics = model.fit(hp, model.build(hp))
    assert np.isfinite(metrics["sel:mean_entropy"]) and 0 <= metrics[ORACLE] <= 1


def test_search_leaves_trials_models_and_hparams(task, tmp_path):
    folder = tmp_path / "s"
    tuner = tuner_of(task, folder)
    tuner.search()
    rows = records.read_rows(folder)
    assert [row.status for row in rows] == ["COMPLETED"] * 2
    assert all(row.score == row.metrics["sel:mean_entropy"] for row in rows)
    best = tuner.get_best_models()[0]
    evaluation = best.predict_domain([{"images": task.target.arrays}])
    from isra_keras.selection import SCORES

    entropy = SCORES["mean_entropy"][0](evaluation.features, evaluation.logits)
    assert entropy == pytest.approx(min(row.score for row in rows), abs=1e-4)
    assert len(list(folder.glob("trial_*/checkpoint*"))) == 1  # of the best alone
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard" / "trial_0")).Reload()
    assert "sel:mean_entropy" in events.Tags()["tensors"]
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_notebook_use(task, tmp_path, capsys):
    model = ISRAHyperModel(task, settings(), names=["num_topics"])
    tuner = keras_tuner.BayesianOptimization(
        model, objective=objective("sel:snd"), max_trials=2, directory=tmp_path, project_name="n", seed=1
    )
    tuner.search_space_summary()
    tuner.search(callbacks=[keras.callbacks.TensorBoard(str(tmp_path / "tb"))], verbose=0)
    tuner.results_summary()
    text = capsys.readouterr().out
    assert "num_topics" in text and "sel:snd" in text and 'direction="max"' in text
    assert len(tuner.get_best_models(2)) == 2
    assert len(list((tmp_path / "tb").glob("*/execution0"))) == 2


def test_files_that_go_bad_in_a_trial_are_counted(task, tmp_path, monkeypatch):
    known, late = BadImage("a.png", "empty file"), BadImage("b.png", "gone")
    monkeypatch.setattr("tuning.trial.late_bad_images", lambda domain, size: (known, late))
    scanned = replace(task, target=Domain("t", NAMES, task.target.labels, None, task.target.arrays, (known,)))
    tuner_of(scanned, tmp_path / "s", 1).search()
    (row,) = records.read_rows(tmp_path / "s")
    assert row.outcomes[0]["late_bad_images"] == 1


@pytest.mark.parametrize("everything", [True, False])
def test_a_trial_whose_adaptation_collapsed_says_that_it_fell_back(task, tmp_path, monkeypatch, everything):
    from isra_keras.selection import collapse

    def reasons(signals, limits=None):
        return ("it looks so",) if everything else ()

    monkeypatch.setattr(collapse, "collapse_reasons", reasons)
    config = settings(method="dann", semantic=False, warmup=0.5)
    tuner_of(task, tmp_path / "s", 1, ISRAHyperModel(task, config, names=["learning_rate"])).search()
    (row,) = records.read_rows(tmp_path / "s")
    assert row.outcomes[0]["fell_back"] == everything


class Stopping(keras.callbacks.Callback):
    """Stops at the first evaluation."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def test_trial_that_a_callback_stops_in_its_first_stage_has_weights(task, tmp_path):
    model = ISRAHyperModel(task, settings(method="shot", semantic=False), names=["learning_rate"])
    tuner = keras_tuner.RandomSearch(model, objective=objective("sel:snd"), max_trials=1, directory=tmp_path,
                                     project_name="n", seed=1)  # fmt: skip
    tuner.search(callbacks=[Stopping()], verbose=0)
    (best,) = tuner.get_best_models()
    found = best.predict_domain([{"images": task.target.arrays}])
    from isra_keras.selection import SCORES

    score = tuner.oracle.get_best_trials()[0].score
    assert SCORES["snd"][0](found.features, found.logits) == pytest.approx(score, abs=1e-4)


def test_examples_name_a_folder_for_each_search():
    import tuning

    page = (Path(tuning.__file__).parent / "README.md").read_text(encoding="utf-8")
    for text in (page, tuning.__doc__, ISRAHyperModel.__doc__):
        calls = re.findall(r"keras_tuner\.\w+\(\w.*?\.search\(\)", text, re.DOTALL)
        assert calls and all("project_name=" in call for call in calls)


class Failing(ISRAHyperModel):
    """Its first trial fails with `error`."""

    error, count = None, 0

    def run_seed(self, *args):
        self.count += 1
        if self.count == 1:
            raise self.error
        return super().run_seed(*args)


@pytest.mark.parametrize(
    "error, text", [(MemoryError(), "out of memory"), (ValueError("odd shape"), "ValueError: odd")]
)
def test_failed_trial_has_its_reason_and_the_search_goes_on(task, tmp_path, capfd, error, text):
    model = Failing(task, settings(), names=["class2vec_weight"])
    model.error = error
    tuner_of(task, tmp_path / "s", 2, model).search()
    rows = records.read_rows(tmp_path / "s")
    assert [row.status for row in rows] == ["FAILED", "COMPLETED"]
    assert rows[0].reason.startswith(text)
    told = capfd.readouterr()
    assert "Traceback" not in told.out + told.err  # the table stands alone
    kept = (tmp_path / "s" / "trial_0" / "failure.txt").read_text()
    assert ("in run_seed" in kept) == (not isinstance(error, MemoryError))


def test_full_disk_ends_the_search_and_fails_no_trial(task, tmp_path):
    model = Failing(task, settings(), names=["class2vec_weight"])
    model.error = tf.errors.ResourceExhaustedError(None, None, "x.v2; No space left on device")
    with pytest.raises(UserError, match="Free some space, then run the same command again"):
        tuner_of(task, tmp_path / "s", 3, model).search()
    assert [row.status for row in records.read_rows(tmp_path / "s")] == ["RUNNING"]
    assert not list((tmp_path / "s").rglob("failure.txt"))


def test_data_that_go_away_end_the_search_and_fail_no_trial(task, tmp_path):
    model = Failing(task, settings(), names=["class2vec_weight"])
    model.error = UserError("Expected readable images. Is the disk still there?")
    with pytest.raises(UserError, match="still there. .*fails no trial.* the same command goes on"):
        tuner_of(task, tmp_path / "s", 1, model).search()
    assert [row.status for row in records.read_rows(tmp_path / "s")] == ["RUNNING"]
    assert not list((tmp_path / "s").rglob("failure.txt"))
    tuner_of(task, tmp_path / "s", 1, model).search()
    assert [row.status for row in records.read_rows(tmp_path / "s")] == ["COMPLETED"]


def test_loss_that_is_not_finite_fails_and_too_many_end_the_search(task, tmp_path):
    config = settings(learning_rate=1e30, iterations=4)
    tuner = tuner_of(task, tmp_path / "s", 4, ISRAHyperModel(task, config, names=["class2vec_weight"]), failures=2)
    with pytest.raises(RuntimeError, match="consecutive failures"):
        tuner.search()
    rows = [row for row in records.read_rows(tmp_path / "s") if row.reason]
    assert {row.status for row in rows} == {"FAILED"}, "that which ended the search is not run again"
    text = (tmp_path / "s" / "trial_0" / "failure.txt").read_text()
    assert "finite" in text and "at step" in text and "checkpoint" not in text and len(rows) == 2
    assert not list((tmp_path / "s").rglob("bad_batch.json"))


def test_process_killed_again_and_again_in_a_trial_fails_it(task, tmp_path):
    tuner = tuner_of(task, tmp_path / "s", 1)
    folder = tmp_path / "s" / "trial_0"
    folder.mkdir(parents=True)
    (folder / "attempts.json").write_text("3")
    tuner.search()
    assert "killed 3 times" in records.read_rows(tmp_path / "s")[0].reason


class Counted(ISRAHyperModel):
    """Keeps how many attempts are counted as a seed begins."""

    def run_seed(self, config, notes, *args):
        self.counts = [*getattr(self, "counts", ()), int((notes / "attempts.json").read_text())]
        return super().run_seed(config, notes, *args)


def test_process_killed_now_and_then_in_a_trial_that_gets_on_does_not_fail_it(task, tmp_path):
    model = Counted(task, settings(), seeds=2, names=["class2vec_weight"])
    tuner = tuner_of(task, tmp_path / "s", 1, model)
    (tmp_path / "s" / "trial_0").mkdir(parents=True)
    (tmp_path / "s" / "trial_0" / "attempts.json").write_text("2")
    tuner.search()
    assert model.counts == [3, 1] and records.read_rows(tmp_path / "s")[0].status == "COMPLETED"


def test_configuration_and_values_beside_it_are_refused(task):
    with pytest.raises(UserError, match=r"received one and iterations, select. .*config=resolve\("):
        ISRAHyperModel(task, settings(), iterations=400, select="snd")


def test_budget_shortens_the_training():
    from tuning.hypermodel import shortened

    assert shortened(settings(), 1).iterations == 3
    assert shortened(settings(), 9).iterations == 6 == shortened(settings(), None).iterations
    assert spaces.apply(settings(), {"tuner/epochs": 1}) == settings()


def made_of(dataset, source, target, named=True, **changed):
    """A task with a benchmark's domains and classes, as `load_task` would make it, of one sample each."""
    protocol = protocols()[dataset]
    sides = [Domain(name, protocol.classes, [0], None, np.zeros((1, 8, 8, 3), "uint8")) for name in (source, target)]
    made = Task("x", *sides, protocol.classes, None, protocol.kind, None, dataset if named else None)
    return replace(made, **changed)


@pytest.mark.parametrize("named", [True, False])
def test_data_sets_that_share_their_domains_are_told_apart(named):
    for dataset, backbone in (("office31", "resnet50"), ("office_caltech10", "mobilenet_v2"),
                              ("office_caltech10_features", "features")):  # fmt: skip
        for pair in (("amazon", "webcam"), ("dslr", "amazon")):
            config = config_of(made_of(dataset, *pair, named), {})
            assert (config.dataset, config.backbone, (config.source, config.target)) == (dataset, backbone, pair)


def test_a_task_of_frozen_features_keeps_its_data_set_and_backbone():
    config = config_of(made_of("office_caltech10", "dslr", "webcam", kind="features"), {})
    assert (config.dataset, config.backbone, config.freeze_backbone) == ("office_caltech10", "mobilenet_v2", True)
    assert load_task("glyphs").dataset == "glyphs"


def test_two_data_sets_that_fit_are_refused_until_one_is_named(monkeypatch):
    twin = replace(protocols()["office31"], name="office31_again")
    monkeypatch.setattr("tuning.hypermodel.protocols", lambda: protocols() | {twin.name: twin})
    task = made_of("office31", "dslr", "webcam", named=False)
    with pytest.raises(UserError, match="office31, office31_again. Name it: dataset="):
        config_of(task, {})
    config = config_of(task, {"dataset": "office31"})
    assert (config.source, config.target) == ("dslr", "webcam")  # and not the data set's default pair
    strange = replace(task, class_names=("a", "b"))  # somebody's own folders of these names
    assert config_of(strange, {}).dataset is None


def test_a_frozen_backbone_computes_its_features_once(task, monkeypatch):
    asked = []

    def freeze(config, images):
        asked.append(images.kind)
        return task

    monkeypatch.setattr("tuning.hypermodel.freeze", freeze)
    images = replace(task, kind="images", image_size=8)
    config = settings(backbone="mobilenet_v2", weights="imagenet", freeze_backbone=True)
    model = ISRAHyperModel(images, config, names=["class2vec_weight"])
    for _ in range(2):
        assert model.build(keras_tuner.HyperParameters()).network.input_shape[1:] == (6,)
    assert asked == ["images"] and model.task is task
