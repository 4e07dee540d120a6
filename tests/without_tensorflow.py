"""Trains where TensorFlow cannot be imported; run by tests/test_backends.py with KERAS_BACKEND=jax or torch."""

import sys

sys.modules["tensorflow"] = None  # every import of it fails from here on

import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

import keras  # noqa: E402
import numpy as np  # noqa: E402

from isra_keras import AdaptationModel, PartwiseSGD, SemanticAlignment, build_network, get_method  # noqa: E402

WIDTH, CLASSES, ROWS = 6, 4, 8


def make_model(method, semantic=True, seed=3, **options):
    """A compiled model with BN in its bottleneck and dropout in its discriminator."""
    keras.utils.set_random_seed(seed)
    method = get_method(method)(**options)
    network = build_network("features", CLASSES, 5, image_shape=(WIDTH,), weights="none", bottleneck="bn")
    plugin = SemanticAlignment(3, receptor_width=4, reference_quirks=True) if semantic else None
    model = AdaptationModel(network, method, plugin, max_iterations=10, eval_interval=2, seed=seed)
    model.compile()
    return model


def make_batch(step, middle=2):
    """NumPy arrays, as they come."""
    draw = np.random.default_rng(step)

    def part(rows):
        return {
            "images": draw.normal(size=(rows, WIDTH)).astype("float32"),
            "labels": draw.integers(0, CLASSES, rows).astype("int32"),
            "indices": np.arange(rows, dtype="int32"),
        }

    return {"source": part(ROWS), "target": part(ROWS), "middle": part(middle)}


def check_two_steps():
    """State of every kind after two steps and an evaluation, and after saving and loading."""
    model = make_model("ba3us", discriminator_width=8)
    before = {v.path: v.numpy() for v in model.state_variables().values()}
    logs = [model.train_on(make_batch(0)), model.train_on(make_batch(1, middle=1))]
    values = [float(value) for each in logs for value in each.values()]
    assert np.all(np.isfinite(values)) and {"class2vec", "receptors", "alignment", "receptor_r2"} <= set(logs[0])
    assert int(model.step) == 2 and float(model.semantic.last_middle) == 1.0
    same = [v.path for v in model.state_variables().values() if np.array_equal(v.numpy(), before[v.path])]
    assert not [path for path in same if "class_weights" not in path], same  # BN's statistics moved, momenta too
    weights = model.update(model.predict_domain([{"images": make_batch(2)["target"]["images"]}] * 2))
    np.testing.assert_allclose(model.class_weights.numpy(), weights)
    assert abs(weights.sum() - 1.0) < 1e-5 and int(model.has_class_weights) == 1
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        loaded = keras.models.load_model(Path(folder) / "model.keras")
    for each in (model, loaded):
        each.train_on(make_batch(2))
    for first, second in zip(model.state_variables().values(), loaded.state_variables().values(), strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), rtol=1e-5, atol=1e-7, err_msg=first.path)


def check_draws():
    """Dropout is a function of (seed, step): a step taken again from the same weights is the same, another is not."""
    model = make_model("dann", semantic=False, discriminator_width=8)
    model.compile(PartwiseSGD(0.0, weight_decay=0.0))  # the weights stay
    batch = {name: part for name, part in make_batch(0).items() if name != "middle"}
    found = []
    for step in (3, 4, 3):
        model.step.assign(step)
        found.append(float(model.train_on(batch)["adversarial"]))
    assert found[0] == found[2] != found[1], found


def check_unreached_weights():
    """Weights that no term reaches keep their value: no decay either."""
    model = make_model("iwan", semantic=False, variant="paper", discriminator_width=8)
    model.begin_stage(model.stages()[0])
    unreached = [v for part in ("discriminator_weight", "discriminator_adversarial")
                 for v in getattr(model.method, part).trainable_variables]  # fmt: skip
    before = [v.numpy() for v in unreached]
    batch = {name: part for name, part in make_batch(0).items() if name != "middle"}
    assert set(model.train_on(batch)) == {"classification", "loss", "learning_rate"}
    for variable, value in zip(unreached, before):
        np.testing.assert_array_equal(variable.numpy(), value)
    model.begin_stage(model.stages()[1])
    model.train_on(batch)
    assert not any(np.array_equal(v.numpy(), value) for v, value in zip(unreached, before) if value.any())


def check_fit():
    """Keras's own loops, over a generator of NumPy batches."""
    model = make_model("source_only", semantic=False)
    batches = ((make_batch(step, middle=1 + step // 2),) for step in range(4))  # the middle batch shrinks or grows
    history = model.fit(batches, steps_per_epoch=2, epochs=2, verbose=0)
    assert np.all(np.isfinite(history.history["loss"])) and int(model.step) == 4
    source = make_batch(9)["source"]
    found = model.evaluate(source["images"], source["labels"], verbose=0, return_dict=True)
    logits = model.predict(source["images"], verbose=0)["logits"]
    np.testing.assert_allclose(found["accuracy"], np.mean(logits.argmax(-1) == source["labels"]), atol=1e-6)


if __name__ == "__main__":
    for check in (check_two_steps, check_draws, check_unreached_weights, check_fit):
        check()
    assert sys.modules["tensorflow"] is None
    print(keras.backend.backend(), "trains without TensorFlow")
