"""Plain `model.fit`, as a Keras user writes it in a notebook."""

import json

import keras
import numpy as np
import pytest

from isra_keras import (
    AdaptationModel,
    DomainPairs,
    SemanticAlignment,
    TargetEvaluation,
    build_network,
    evaluation_dataset,
    get_method,
)
from isra_keras.training.steps import batch_of
from tests.training.small_task import CLASSES, SHARED, WIDTH, features_task

STEPS = 24


def make_model(method="ba3us", semantic=True, sizes=None, **options):
    keras.utils.set_random_seed(0)
    method = get_method(method)(**options)
    network = build_network("features", len(CLASSES), 8, (WIDTH,), weights="none", **method.network_options)
    plugin = SemanticAlignment(num_topics=4) if semantic else None
    model = AdaptationModel(network, method, plugin, max_iterations=STEPS, eval_interval=6, sizes=sizes)
    model.compile()
    return model


def make_pairs(task, model):
    def middle(step):
        return model.method.middle_size(step, 8, STEPS, model.eval_interval)

    return DomainPairs(task, batch_size=8, seed=0, middle_size=middle)


def test_ba3us_with_isra_learns_by_plain_fit(tmp_path):
    task = features_task()
    model = make_model()
    evaluation = TargetEvaluation(evaluation_dataset(task.target, 16), labels=task.target.labels)
    seen = []
    stock = [
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(dict(logs))),
    ]
    history = model.fit(make_pairs(task, model).dataset(0, STEPS), callbacks=[evaluation, *stock], verbose=0)
    assert int(model.step) == STEPS == len(seen) and seen[-1]["loss"] < seen[0]["loss"]
    assert {"classification", "adversarial", "alignment", "class2vec", "receptors", "loss"} <= set(history.history)
    assert (tmp_path / "log.csv").read_text().count("\n") == 2
    assert [entry["step"] for entry in evaluation.history] == [6, 12, 18, 24]
    weights = model.class_weights.numpy()
    assert int(model.has_class_weights) == 1 and weights.sum() == pytest.approx(1, rel=1e-5)
    assert weights[:SHARED].sum() > 0.6  # the target's classes are found


def test_without_the_callback_there_are_no_class_weights():
    task, model = features_task(), make_model()
    model.fit(make_pairs(task, model).dataset(0, 7), verbose=0)
    assert int(model.has_class_weights) == 0 and np.all(model.class_weights.numpy() == 1)


@pytest.mark.parametrize("given, said", [
    ({"select": "source_accuracy"}, "received neither and select 'source_accuracy'"),
    ({"select": "dev"}, "source and source_labels"),
    ({"source": []}, "received source alone"),
    ({"source_labels": [0]}, "received source_labels alone"),
])  # fmt: skip
def test_a_score_of_the_source_needs_the_source(given, said):
    """It was found out at the first evaluation, by a KeyError: the steps before it were lost."""
    with pytest.raises(ValueError, match=said):
        TargetEvaluation([], **given)


def test_a_target_that_can_be_read_once_only():
    model = make_model("source_only", semantic=False)
    target = iter([{"images": features_task().target.arrays[:4]}])
    assert len(model.predict_domain(target).logits) == 4
    with pytest.raises(ValueError, match="at least one batch to predict; received none. A generator"):
        model.predict_domain(target)


@pytest.mark.parametrize("given, said", [
    ((np.zeros((4, WIDTH), "float32"), np.zeros(4, "int32")), "as DomainPairs yields"),
    ({"source": {}}, "received a dict of source"),
    ((), "received tuple"),
])  # fmt: skip
def test_what_is_no_batch_is_told(given, said):
    with pytest.raises(ValueError, match=said):
        batch_of(given)
    if isinstance(given, dict):
        with pytest.raises(ValueError, match=said):
            make_model("source_only", semantic=False).train_on(given)


def test_endless_pairs_in_epochs_equal_one_pass():
    task, results = features_task(), []
    for epochs in (1, 3):
        model = make_model()
        pairs = make_pairs(task, model)
        data = pairs.dataset(0, STEPS) if epochs == 1 else pairs.dataset()
        steps = {} if epochs == 1 else {"steps_per_epoch": STEPS // epochs}
        model.fit(data, epochs=epochs, verbose=0, **steps)
        results.append(model.network.get_weights())
    for one, three in zip(*results):
        np.testing.assert_allclose(one, three, rtol=1e-4, atol=1e-6)


def test_source_only_with_a_stock_checkpoint_predicts_and_evaluates(tmp_path):
    task, model = features_task(), make_model("source_only", semantic=False)
    backup = keras.callbacks.ModelCheckpoint(tmp_path / "m.keras", monitor="loss", save_freq="epoch")
    history = model.fit(make_pairs(task, model).dataset(), epochs=3, steps_per_epoch=8, callbacks=[backup], verbose=0)
    assert len(history.history["loss"]) == 3 and history.history["loss"][-1] < history.history["loss"][0]
    loaded = keras.models.load_model(tmp_path / "m.keras")
    images, labels = task.source.arrays, task.source.labels
    logits = loaded.predict(images, verbose=0)["logits"]
    np.testing.assert_allclose(logits, model.predict(images, verbose=0)["logits"], rtol=1e-6)
    scores = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert scores["accuracy"] == pytest.approx((logits.argmax(-1) == labels).mean()) and scores["accuracy"] > 0.6
    json.dumps(history.history, default=float)


def test_a_fit_for_each_stage_and_none_beyond():
    task, steps = features_task(), []
    model = make_model("shot", sizes={"source": len(task.source), "target": len(task.target)}, source_share=0.5)
    pairs, target = make_pairs(task, model), evaluation_dataset(task.target, 16)
    with pytest.raises(ValueError, match="at most 12 steps in stage 'source'.*begin_stage.*'adapt'"):
        model.fit(pairs.dataset(0, 13), verbose=0)
    for stage in model.stages():
        model.begin_stage(stage)
        source = {"source": evaluation_dataset(task.source, 16), "source_labels": task.source.labels}
        callback = TargetEvaluation(target, **source)
        logs = model.fit(pairs.dataset(0, model.steps_of_stage()), callbacks=[callback], verbose=0).history
        steps.append(int(model.step))
    assert steps == [12, 12] and {"pseudo", "alignment"} <= set(logs)
    model.fit(pairs.dataset(12, 14), verbose=0)  # of the last stage nobody waits for the end


def test_shot_with_isra_needs_the_source_in_its_first_stage():
    task = features_task()
    model = make_model("shot", sizes={"source": len(task.source), "target": len(task.target)})
    with pytest.raises(ValueError, match="source_labels"):
        model.fit(make_pairs(task, model).dataset(0, 6), callbacks=[TargetEvaluation(evaluation_dataset(task.target, 16))],
                  verbose=0)  # fmt: skip


def test_the_best_weights_are_those_of_the_method_too():
    """A2KT predicts with its prototypes as well, which move on after the best evaluation."""
    task = features_task()
    model = make_model("a2kt", False, sizes={"source": len(task.source), "target": len(task.target)})
    target = evaluation_dataset(task.target, 16)
    evaluation = TargetEvaluation(target, select="bnm")
    model.fit(make_pairs(task, model).dataset(0, STEPS), callbacks=[evaluation], verbose=0)
    from isra_keras.selection import score_all

    scores = {entry["step"]: entry["bnm"] for entry in evaluation.history}
    found = model.predict_domain(target)
    assert evaluation.best_step < STEPS  # else there is nothing to go back to
    assert score_all(found.features, found.logits)["bnm"] == pytest.approx(scores[evaluation.best_step], rel=1e-5)


def test_one_callback_for_all_stages_keeps_the_adaptation():
    """A warm-up's entropy was the lowest: its weights came back at the end, without a word."""
    task, model = features_task(), make_model()
    model.warmup = 0.5
    pairs, callback = make_pairs(task, model), TargetEvaluation(evaluation_dataset(task.target, 16))
    for stage in model.stages():
        model.begin_stage(stage)
        if stage.name == "adapt":
            callback.best_value = -1.0  # nothing is surer
        model.fit(pairs.dataset(0, model.steps_of_stage()), callbacks=[callback], verbose=0)
    assert [(entry["stage"], entry["step"]) for entry in callback.history] == [
        ("warmup", 6), ("warmup", 12), ("adapt", 6), ("adapt", 12)]  # fmt: skip
    assert callback.best_step in (6, 12) and callback.best_value > 0


def test_shot_without_the_number_of_target_samples():
    task, model = features_task(), make_model("shot", semantic=False, source_share=0.5)
    with pytest.raises(ValueError, match="received .* labels and no number. .*sizes="):
        model.fit(make_pairs(task, model).dataset(0, 12), callbacks=[TargetEvaluation(evaluation_dataset(task.target, 16))], verbose=0)
