"""AdaptationModel as a Keras user meets it: fit, save and load, precision, XLA, dropout, state."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from isra_keras.backbones import build_network
from isra_keras.methods import get_method
from isra_keras.methods.ba3us import BA3US
from isra_keras.methods.source_only import SourceOnly
from isra_keras.model import AdaptationModel
from isra_keras.semantic import SemanticAlignment
from isra_keras.training.draws import seed_draws, seed_generators

CLASSES, WIDTH = 6, 12


def make_network():
    inputs = keras.Input((WIDTH,), name="images")
    pooled = keras.layers.Dense(10, activation="relu", name="backbone")(inputs)
    features = keras.layers.Dense(8, name="bottleneck", dtype="float32")(pooled)
    logits = keras.layers.Dense(CLASSES, name="classifier", dtype="float32")(features)
    return keras.Model(inputs, {"pooled": pooled, "features": features, "logits": logits}, name="network")


def make_model(variant="reference", seed=0, method=None, semantic=True):
    keras.utils.set_random_seed(seed)
    scale = 0.01 if variant == "paper" else 1.0  # the paper's own scale: see equivalent_weights
    plugin = SemanticAlignment(4, scale, scale, receptor_width=5, variant=variant) if semantic else None
    return AdaptationModel(
        make_network(), method or BA3US(discriminator_width=8), plugin, max_iterations=20, eval_interval=5, seed=seed
    )


def make_batch(step, middle=2):
    draw = np.random.default_rng(step)

    def part(n, labels=True):
        batch = {"images": draw.normal(size=(n, WIDTH)).astype("float32"), "indices": np.arange(n, dtype="int32")}
        return batch | ({"labels": draw.integers(0, CLASSES, n).astype("int32")} if labels else {})

    return {"source": part(8), "target": part(8, labels=False), "middle": part(middle)}


def batches(steps, middle=lambda step: 2):
    def generate():
        for step in range(steps):
            yield make_batch(step, middle(step))

    def spec(labels=True):
        images = {"images": tf.TensorSpec((None, WIDTH)), "indices": tf.TensorSpec((None,), tf.int32)}
        return images | ({"labels": tf.TensorSpec((None,), tf.int32)} if labels else {})

    signature = {"source": spec(), "target": spec(labels=False), "middle": spec()}
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


def weights_of(model):
    return {name: v.numpy() for name, v in model.state_variables().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert np.array_equal(first[name], second[name]), name


def test_fit_equals_train_on_and_takes_a_shrinking_middle_batch():
    by_hand, fitted = make_model(), make_model()
    by_hand.compile(), fitted.compile()
    for step in range(6):
        by_hand.train_on(make_batch(step, max(3 - step, 0)))
    history = fitted.fit(batches(6, lambda step: max(3 - step, 0)), epochs=1, verbose=0)
    assert "alignment" in history.history
    assert_same(weights_of(by_hand), weights_of(fitted))


@pytest.mark.parametrize("xla", [False, True])
def test_one_step_is_compiled_for_all_sizes_of_the_middle_batch_or_with_xla_for_each(monkeypatch, xla):
    own, traced = AdaptationModel.train_step, []

    def counted(self, batch, *more, **options):
        traced.append(batch["middle"]["images"].shape[0])
        return own(self, batch, *more, **options)

    monkeypatch.setattr(AdaptationModel, "train_step", counted)
    sizes = [3, 2, 1, 3]
    given = {"method": SourceOnly(), "semantic": False} if xla else {}  # XLA is slow, and any model gets these batches
    by_hand, fitted = make_model(**given), make_model(**given)
    by_hand.compile(jit_compile=xla), fitted.compile(jit_compile=xla)
    for step, size in enumerate(sizes):
        by_hand.train_on(make_batch(step, size))
    expected = [3, 2, 1] if xla else [None]
    assert traced == expected
    traced.clear()
    fitted.fit(batches(4, sizes.__getitem__), epochs=2, verbose=0)
    assert traced == expected


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_eager_graph_and_xla_agree(variant):
    results = []
    for mode in ("eager", "graph", "xla") if variant == "paper" else ("eager", "graph"):
        keras.utils.set_random_seed(0)  # the method draws its weights before the model is made
        model = make_model(variant, method=BA3US(discriminator_width=8, dropout=0.0))
        model.compile(jit_compile=mode == "xla")
        step = model.train_step if mode == "eager" else model.train_on
        for index in range(3):
            logs = step(make_batch(index))
        results.append({k: float(v) for k, v in logs.items()})
    for name, value in results[0].items():
        np.testing.assert_allclose([r[name] for r in results], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        model = make_model()
        model.compile()
        for index in range(3):
            logs = model.train_on(make_batch(index))
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert all(np.isfinite(float(v)) for v in logs.values())
    assert (type(model.optimizer).__name__ == "LossScaleOptimizer") == (policy == "mixed_float16")
    assert model.semantic.receptors.hidden_kernel.dtype == "float32"


def test_dropout_is_a_function_of_seed_and_step():
    first, second, other = (make_model(semantic=False) for _ in range(3))
    other.seed = 1
    for model in (first, second, other):
        model.compile()
        model.step.assign(7)
    logs = [float(model.train_on(make_batch(0))["adversarial"]) for model in (first, second, other)]
    assert logs[0] == logs[1] != logs[2]
    # The generators' own state does not matter: a resumed run draws what the uninterrupted one did.
    restored = make_model(semantic=False)
    restored.compile()
    restored.step.assign(7)
    for generator in seed_generators(restored):
        generator.state.assign(generator.state + 5)
    assert float(restored.train_on(make_batch(0))["adversarial"]) == logs[0]


def test_state_restores_exactly():
    straight, resumed = make_model(), make_model(seed=0)
    straight.compile(), resumed.compile()
    for step in range(3):
        straight.train_on(make_batch(step))
    evaluation = straight.predict_domain([{"images": make_batch(9)["target"]["images"]}])
    straight.update(evaluation)
    saved = weights_of(straight)
    for name, variable in resumed.state_variables().items():
        variable.assign(saved[name])
    for model in (straight, resumed):
        for step in range(3, 6):
            model.train_on(make_batch(step))
    assert_same(weights_of(straight), weights_of(resumed))


def test_class_weights_come_from_the_target():
    model = make_model()
    model.compile()
    images = make_batch(0)["target"]["images"]
    weights = model.update(model.predict_domain([{"images": images[:5]}, {"images": images[5:]}]))
    expected = keras.ops.softmax(model(images)["logits"]).numpy().mean(0)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    assert int(model.has_class_weights) == 1


def test_switch_off_is_the_plain_method_bit_for_bit():
    """Weights of network and discriminator follow the same path with the terms at weight 0 as without the plug-in."""
    plain, zero = make_model(semantic=False), make_model()
    zero.semantic.class2vec_weight = zero.semantic.alignment_weight = 0.0
    for a, b in zip(zero.network.weights + zero.method.weights, plain.network.weights + plain.method.weights):
        a.assign(b)
    for model in (plain, zero):
        model.compile()
        model.method.dropout1 = None
    plain.method.discriminator.dropout1.rate = plain.method.discriminator.dropout2.rate = 0.0
    zero.method.discriminator.dropout1.rate = zero.method.discriminator.dropout2.rate = 0.0
    for step in range(2):
        for model in (plain, zero):
            model.train_on(make_batch(step))
    for a, b in zip(zero.network.weights, plain.network.weights):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_evaluate_gives_accuracy():
    model = make_model(method=SourceOnly(), semantic=False)
    model.compile()
    source = make_batch(0)["source"]
    scores = model.evaluate(source["images"], source["labels"], verbose=0, return_dict=True)
    logits = model.predict(source["images"], verbose=0)["logits"]
    assert scores["accuracy"] == pytest.approx((logits.argmax(-1) == source["labels"]).mean())


def test_predict_and_evaluate_speak_of_the_same_logits():
    """A2KT's final logits are those of two classifiers, not the network's."""
    model = make_model(method=get_method("a2kt")(), semantic=False)
    model.compile()
    head = model.method.weights
    for number, weight in enumerate(head):
        weight.assign(np.random.default_rng(number).uniform(0.1, 1.0, weight.shape).astype(weight.dtype))
    source = make_batch(0)["source"]
    logits = model.predict(source["images"], verbose=0)["logits"]
    np.testing.assert_allclose(logits, model.predict_domain([{"images": source["images"]}]).logits, rtol=1e-5)
    assert not np.allclose(logits, model.network(source["images"])["logits"])
    scores = model.evaluate(source["images"], source["labels"], verbose=0, return_dict=True)
    assert scores["accuracy"] == pytest.approx((logits.argmax(-1) == source["labels"]).mean())


def test_warm_up_trains_on_source_labels_alone():
    class Watched(BA3US):
        begun, evaluated = (), 0

        def on_stage_begin(self, stage, network):
            self.begun += (stage.name,)

        def on_evaluation(self, evaluation):
            self.evaluated += 1

    model = AdaptationModel(make_network(), Watched(discriminator_width=8), SemanticAlignment(4, receptor_width=5),
                            max_iterations=20, eval_interval=5, warmup=0.25)  # fmt: skip
    model.compile()
    warm, adapt = model.stages()
    assert (warm.name, warm.share, adapt.name, adapt.share) == ("warmup", 0.25, "adapt", 0.75)
    model.begin_stage(warm)
    model.semantic.class2vec_weight = 1e6  # the topics' gradient does not reach the network, however large
    network, method = model.network.get_weights(), model.method.get_weights()
    plain = AdaptationModel(model.network, BA3US(discriminator_width=8), max_iterations=20, warmup=0.25)
    plain.compile()
    plain.begin_stage(warm)
    logs = model.train_on(make_batch(0))
    assert {"classification", "class2vec", "receptors"} <= set(logs) and not {"alignment", "adversarial"} & set(logs)
    learned = model.network.get_weights()
    model.network.set_weights(network)
    plain.train_on(make_batch(0))
    for mine, other in zip(learned, model.network.get_weights()):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-8)
    for before, after in zip(method, model.method.get_weights()):
        np.testing.assert_array_equal(before, after)
    assert not int(model.has_class_weights)
    weights = model.update(model.predict_domain([make_batch(1)["target"]]))
    assert int(model.has_class_weights) and weights.shape == (CLASSES,)
    assert model.method.begun == () and model.method.evaluated == 1
    assert int(model.step) == 1
    model.begin_stage(adapt)
    assert int(model.step) == 0, "ramps and learning rate start together"
    assert {"adversarial", "alignment"} <= set(model.train_on(make_batch(1)))
    assert model.method.begun == ("adapt",) and model.context().max_iterations == 15


def test_smoothed_class_weights_keep_their_share():
    model = make_model(semantic=False)
    model.weight_smoothing = 0.75
    target = [make_batch(0)["target"]]
    first = model.update(model.predict_domain(target))  # nothing to smooth with yet
    np.testing.assert_array_equal(first, model.method.class_weights(model.predict_domain(target)))
    model.network.get_layer("classifier").kernel.assign_add(np.eye(8, CLASSES) * 3.0)
    fresh = model.method.class_weights(model.predict_domain(target))
    np.testing.assert_allclose(model.update(model.predict_domain(target)), 0.75 * first + 0.25 * fresh, rtol=1e-6)
    assert not np.allclose(first, fresh)


@pytest.mark.parametrize("name", ["warmup", "weight_smoothing"])
def test_shares_are_checked(name):
    with pytest.raises(ValueError, match="in \\[0, 1\\)"):
        AdaptationModel(make_network(), BA3US(discriminator_width=8), **{name: 1.0})


def test_saved_in_a_later_stage_it_goes_on_there(tmp_path):
    model = make_model(method=get_method("shot")(), semantic=False)
    model.compile()
    model.begin_stage(model.stages()[1])
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").stage == model.stages()[1]


def test_a_stage_thaws_only_what_a_stage_froze(tmp_path):
    """A backbone that its user had frozen learned from the first stage on, without a word."""
    network = make_network()
    network.get_layer("backbone").trainable = False
    model = AdaptationModel(network, get_method("shot")(), max_iterations=8)
    model.compile(run_eagerly=True)
    source, adapt = model.stages()

    def learning():
        return [network.get_layer(name).trainable for name in ("backbone", "bottleneck", "classifier")]

    model.begin_stage(source)
    assert learning() == [False, True, True] and model.run_eagerly, "compiled as before"
    model.begin_stage(adapt)
    assert learning() == [False, True, False]
    model.begin_stage(source)
    assert learning() == [False, True, True]
    model.begin_stage(adapt)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    network = loaded.network
    loaded.begin_stage(source)
    assert learning() == [False, True, True]


def test_a_stage_leaves_layers_frozen_within_a_part():
    """Who freezes the first blocks of a backbone had them trained from the first `begin_stage` on, without a word."""
    network = build_network("small_cnn", CLASSES, 5, (32, 32, 3), "none")
    inner = next(layer for layer in network.get_layer("backbone")._flatten_layers() if getattr(layer, "kernel", None) is not None)
    inner.trainable = False
    model = AdaptationModel(network, get_method("shot")(), sizes={"target": 4})
    model.compile()
    learns = len(model.trainable_variables)
    for stage in model.stages():
        model.begin_stage(stage)
        assert not inner.trainable and network.get_layer("backbone").trainable
    assert not network.get_layer("classifier").trainable
    model.begin_stage(model.stages()[0])
    assert not inner.trainable and len(model.trainable_variables) == learns


def test_labels_in_a_column_are_labels():
    """(n,) against (n, 1) was compared all with all."""
    model, part = make_model(semantic=False), make_batch(0)["source"]
    model.compile()
    images, labels = np.asarray(part["images"]), np.asarray(part["labels"])
    plain, column = (model.evaluate(images, given, verbose=0, return_dict=True) for given in (labels, labels[:, None]))
    assert plain == pytest.approx(column)


def test_each_part_of_the_network_learns_as_the_methods_recipe_says():
    assert make_model().default_multipliers()["bottleneck"] == (10.0, 2.0)
    pada = make_model(method=get_method("pada")(), semantic=False).default_multipliers()
    assert pada["bottleneck"] == pada["discriminator"] == (10.0, 1.0) and pada["backbone"] == (1.0, 1.0)
    slm = make_model(method=get_method("slm")(), semantic=False).default_multipliers()
    assert slm["backbone"] == (0.1, 1.0) and slm["selector"] == (10.0, 2.0)


@pytest.mark.parametrize("rate", [0.25, keras.optimizers.schedules.ExponentialDecay(0.25, 1, 0.5)])
def test_a_stage_takes_a_rate_or_a_schedule(rate):
    model = make_model()
    model.compile()
    model.begin_stage(model.stages()[0], rate)
    assert float(model.optimizer.learning_rate) == 0.25
    model.compile(keras.optimizers.SGD(1.0))
    model.begin_stage(model.stages()[0], rate)
    assert float(model.optimizer.learning_rate) == 0.25


def test_what_fit_cannot_do_is_refused():
    with pytest.raises(ValueError, match="steps_per_execution 1, .* received 4"):
        make_model().compile(steps_per_execution=4)


def test_evaluate_weighs_samples():
    model = make_model()
    model.compile()
    x, y = np.random.default_rng(0).normal(size=(8, WIDTH)).astype("float32"), np.arange(8) % CLASSES
    half = np.repeat([1.0, 0.0], 4).astype("float32")
    assert model.evaluate(x, y, sample_weight=half, verbose=0) == pytest.approx(model.evaluate(x[:4], y[:4], verbose=0), rel=1e-5)


def test_half_precision_leaves_features_their_digits():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = AdaptationModel(keras.Model(i := keras.Input((2,), name="images"),
                                            {name: keras.layers.Dense(2, name=part, dtype="float32", kernel_initializer="identity")(i)
                                             for name, part in (("pooled", "backbone"), ("features", "bottleneck"), ("logits", "classifier"))},
                                            name="network"), SourceOnly())  # fmt: skip
        x = np.array([[2049.0, 70000.0]], "float32")  # neither is a half
        np.testing.assert_array_equal(np.asarray(model(x)["logits"]), x)
    finally:
        keras.config.set_dtype_policy(before)


def test_no_draw_of_a_step_comes_again_in_the_next():
    """Each call of a generator adds one to its state: steps that lay one apart drew the same, shifted by one call."""
    model, states = make_model(semantic=False), []
    generator = seed_generators(model)[0]
    for step in range(3):
        model.step.assign(step)
        seed_draws(model)
        states += [tuple(keras.ops.convert_to_numpy(generator.next())) for _ in range(5)]
    assert len(set(states)) == len(states)


def test_export_is_of_the_network_that_predicts(tmp_path):
    model = make_model(semantic=False)
    images = np.random.default_rng(0).normal(size=(3, *model.network.input_shape[1:])).astype("float32")
    model.export(str(tmp_path / "saved"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    served = loaded.serve(images)["logits"]
    np.testing.assert_allclose(served, model.predict(images, verbose=0)["logits"], rtol=1e-5, atol=1e-6)
    model.compile()
    with pytest.raises(ValueError, match=r"Expected \(images, labels\) to evaluate on; received a dict of images"):
        model.evaluate(tf.data.Dataset.from_tensors({"images": images}), verbose=0)


def test_one_hot_labels_are_refused_with_what_to_give():
    """They were read as so many more labels, and failed in a comparison of shapes."""
    model, part = make_model(semantic=False), make_batch(0)["source"]
    model.compile()
    images, labels = np.asarray(part["images"]), np.asarray(part["labels"])
    with pytest.raises(ValueError, match=r"class number for each image.*received shape \(.*argmax"):
        model.evaluate(images, np.eye(9)[labels], verbose=0)
