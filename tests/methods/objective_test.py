"""`run_objective_test`: what every method has to pass, whatever it computes."""

import tempfile
from pathlib import Path

import keras
import numpy as np

from isra_keras.backbones import build_network
from isra_keras.model import AdaptationModel
from isra_keras.training.optimizer import PartwiseSGD
from isra_keras.training.schedules import InverseDecay

CLASSES, WIDTH, ROWS, BATCH = 5, 12, 16, 8


def run_objective_test(method_class, policies=("mixed_bfloat16", "mixed_float16"), **options):
    """Two steps a stage, finite terms, config, save and load, mixed precision, one XLA step.

    Args:
        method_class: an `Objective` subclass that is a method.
        policies: mixed precisions to try.
        **options: its constructor's arguments; keep the parts small.
    """
    _check_config(method_class(**options))
    plain = make_model(method_class, **options)
    run_stages(plain)
    assert_pairwise_sums(plain)
    _check_saving(plain)
    for policy in policies:
        keras.mixed_precision.set_dtype_policy(policy)
        try:
            run_stages(make_model(method_class, **options), steps=1, eager=True)
        finally:
            keras.mixed_precision.set_dtype_policy("float32")
    _check_compiled(method_class, options)


def optimizer():
    return PartwiseSGD(InverseDecay(1e-3))


def make_model(method_class, seed=0, semantic=None, **options):
    """`AdaptationModel` of the method over the network that it asks for, on `WIDTH`-d inputs; 8-d features."""
    keras.utils.set_random_seed(seed)
    method = method_class(**options)
    network = build_network(
        "features", CLASSES, feature_dim=8, image_shape=(WIDTH,), weights="none", **dict(method.network_options)
    )
    sizes = {"source": ROWS, "target": ROWS}
    return AdaptationModel(network, method, semantic, max_iterations=20, eval_interval=5, sizes=sizes)


def make_batch(model, step):
    """A batch as the data pipeline yields it for this step of the model's current stage."""
    draw = np.random.default_rng(step)

    def part(rows, labels):
        batch = {"images": draw.normal(size=(rows, WIDTH)).astype("float32"),
                 "indices": draw.integers(0, ROWS, rows).astype("int32")}  # fmt: skip
        return batch | ({"labels": draw.integers(0, CLASSES, rows).astype("int32")} if labels else {})

    batch = {"source": part(BATCH, True), "target": part(BATCH, False)}
    middle = model.method.middle_size(step, BATCH, model.max_iterations, model.eval_interval)
    if middle:
        batch["middle"] = part(middle, True)
    if not model.stage.uses_source:
        del batch["source"]
    return batch


def evaluate(model, seed=1):
    """`Evaluation` of a target set of `ROWS` rows, with the source's where the method asks for it."""
    draw = np.random.default_rng(seed)
    evaluation = model.predict_domain([{"images": draw.normal(size=(ROWS, WIDTH)).astype("float32")}])
    if model.method.needs_source_evaluation:
        evaluation.source = model.predict_domain([{"images": draw.normal(size=(ROWS, WIDTH)).astype("float32")}])
        evaluation.source.labels = draw.integers(0, CLASSES, ROWS).astype("int32")
    return evaluation


def run_stages(model, steps=2, eager=False):
    """All stages, `steps` steps each before and as many after an evaluation; every value finite, weights changed."""
    model.compile(optimizer())
    train = model.train_step if eager else model.train_on
    stages = model.method.stages()
    assert abs(sum(stage.share for stage in stages) - 1.0) < 1e-6
    before = [v.numpy() for v in model.trainable_variables]
    for stage in stages:
        if len(stages) > 1:
            model.begin_stage(stage)
        for step in range(2 * steps):
            if step == steps:
                weights = model.update(evaluate(model))
                assert weights is None or (np.shape(weights) == (CLASSES,) and np.all(np.isfinite(weights)))
            assert_finite(train(make_batch(model, step)))
    after = [v.numpy() for v in model.trainable_variables]
    assert all(np.all(np.isfinite(v)) for v in after)
    assert len(after) != len(before) or any(not np.array_equal(a, b) for a, b in zip(before, after))


def assert_pairwise_sums(model):
    """No graph that it trained by has an `AddN` of three or more inputs, whose order depends on what memory is free.

    Nothing to see on other backends than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        return
    graphs = [traced.graph for step in model._compiled_steps.values() for traced in step._list_all_concrete_functions()]
    assert graphs
    for graph in graphs:
        wide = [op.name for op in graph.get_operations() if op.type == "AddN" and len(op.inputs) > 2]
        assert not wide, wide


def assert_finite(logs):
    """Every term of a step is a finite float32 scalar."""
    for name, value in logs.items():
        value = keras.ops.convert_to_numpy(value)
        assert value.shape == () and value.dtype == "float32", (name, value.shape, value.dtype)
        assert np.isfinite(value), (name, float(value))


def _check_config(method):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(method))
    assert type(copy) is type(method)
    assert copy.get_config() == method.get_config()


def _check_saving(model):
    """The loaded model has the same state and takes the same next step."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
    loaded.stage = model.stage
    for part in ("backbone", "bottleneck", "classifier"):
        assert loaded.network.get_layer(part).trainable == model.network.get_layer(part).trainable
    for each in (model, loaded):
        each.compile(optimizer())
    _assert_same_state(model, loaded)
    batch = make_batch(model, 7)
    first, second = float(model.train_step(batch)["loss"]), float(loaded.train_step(batch)["loss"])
    assert abs(first - second) <= 1e-5 * abs(first)  # sums that threads share are rounded in any order
    _assert_same_state(model, loaded, rtol=1e-4, atol=1e-6)


def _check_compiled(method_class, options):
    """A step under XLA is finite and equal to the eager one, unless something is drawn: XLA draws other numbers."""
    eager, compiled = (make_model(method_class, **options) for _ in range(2))
    draws = False
    for layer in (*eager._flatten_layers(), *compiled._flatten_layers()):
        if hasattr(layer, "rate"):
            layer.rate = 0.0
        else:
            draws = draws or bool(layer._seed_generators)
    eager.compile(optimizer()), compiled.compile(optimizer(), jit_compile=True)
    expected, logs = eager.train_step(make_batch(eager, 0)), compiled.train_on(make_batch(compiled, 0))
    assert_finite(logs)
    if not draws:
        np.testing.assert_allclose(logs["loss"], expected["loss"], rtol=1e-3, err_msg="XLA against eager")


def _assert_same_state(first, second, rtol=0.0, atol=0.0):
    values, others = first.state_variables(), second.state_variables()
    assert len(values) == len(others)
    for (name, a), b in zip(values.items(), others.values()):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=rtol, atol=atol, err_msg=name)
