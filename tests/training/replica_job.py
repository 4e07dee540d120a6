"""One process of a distributed test: `python -m tests.training.replica_job KIND CASE...`; a JSON line for each case.

With KIND "mirrored" it makes two logical CPU devices; with "multi_worker" TF_CONFIG says which worker it is. Every case
trains with one replica and with two, from the same weights on the same batches, and prints the largest error of an array
relative to its largest value (of the golden trajectories: to its largest change).
A process of its own, since devices are set up before TensorFlow starts and a failed collective poisons the process.
"""

import json
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
FEW = {"iterations": 4, "eval_interval": 1, "batch_size": 12}
"""Four steps: later a ReLU or an argmax flips here and there by a rounding alone, with one replica too."""
NOISE = re.compile("bottleneck[/_](dense|hidden)[/_]bias")
"""A bias before batch normalisation: its gradient is 0 but for rounding."""
SHOT = {"method": "shot", "semantic": False, "method_options": {"threshold": 0, "source_share": 0.5}}
NORMALISED = {"method": "source_only", "network_options": {"bottleneck": "bn_relu"}}
CASES = {
    "odd_middle": ("features", {"method": "ba3us", "method_options": {"mu": 2}, "sync_batch_norm": True}),
    "images": ("images", {"method": "ba3us", "method_options": {"mu": 2}, "augment": True}),
    "shot": ("features", SHOT | {"sync_batch_norm": True}),
    "a2kt": ("features", {"method": "a2kt", "sync_batch_norm": True, "optimizer": "sgd"}),
    "slm": ("features", {"method": "slm", "semantic": False, "sync_batch_norm": True}),
    "san": ("features", {"method": "san", "sync_batch_norm": True}),
    "sync": ("features", NORMALISED | {"sync_batch_norm": True}),
    "plain": ("features", NORMALISED),
}  # fmt: skip


def make(kind):
    """`Replicated` of two CPUs, set up before TensorFlow does anything else."""
    import tensorflow as tf

    if kind == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from isra_keras.training.distribution import make_distribution
    from tests.training.small_task import features_config

    return make_distribution(features_config(distribute=kind, batch_size=12))


def golden(kind, distribution):
    """Largest error of the weights' changes over the five golden steps, and whether their graphs are of few passes."""
    from isra_keras.semantic import weights_norm
    from isra_keras.training.replica import share
    from tests.golden_tools import golden_cases, load, named_weights, relative_error
    from tests.test_model_golden import batch_of, build_ba3us

    numbers = load(golden_cases(kind)[0])
    with distribution.scope():
        model, hyper = build_ba3us(numbers, semantic=kind.startswith("isra"))
    few_passes, traced = weights_norm._in_few_passes, []
    weights_norm._in_few_passes = lambda *args: traced.append(1) or few_passes(*args)
    initial, worst = {name: v.numpy() for name, v in named_weights(model).items()}, 0.0
    for step in range(int(hyper["max_iterations"]) + 1):
        last = step == int(hyper["max_iterations"])
        if numbers[f"step{step}/target_mean_entropy_at_eval"] >= 0 and (
            step % int(hyper["test_interval"]) == 0 or last
        ):
            model.update(model.predict_domain([{"images": numbers["data/target_x"]}]))
        batch = batch_of(numbers, step)
        rows = {name: len(part["images"]) for name, part in batch.items()}
        first, stop, count = distribution.own_rows()
        spans = {name: slice(share(n, first, count)[0], share(n, stop - 1, count)[1]) for name, n in rows.items()}
        own = {d: {name: values[spans[d]] for name, values in part.items()} for d, part in batch.items()}
        distribution.train_on(model, own, True, rows)
        for name, variable in named_weights(model).items():
            expected = numbers[f"step{step}/after/{name}"] - initial[name]
            worst = max(worst, relative_error(variable.numpy() - initial[name], expected))
    return {"error": worst, "few_passes": bool(traced)}


def trained(distribution, kind, options):
    """({variable: array} before, after, class weights, features of the target) of a few steps."""
    import numpy as np

    from isra_keras.data.pairs import DomainPairs
    from isra_keras.training.build import build_model
    from isra_keras.training.determinism import policy
    from isra_keras.training.predicting import DomainPredictor
    from tests.training import small_task

    task = small_task.images_task() if kind == "images" else small_task.features_task()
    config = (small_task.images_config if kind == "images" else small_task.features_config)(
        **(FEW | {"deterministic": False} | options)
    )
    with policy(config), distribution.scope():
        model = build_model(config, task)
        predict = DomainPredictor(config, task, model, distribution, lambda done, total: None)
        before = {name: np.array(v.numpy()) for name, v in model.state_variables().items()}
        for number, (stage, length) in enumerate(zip(model.stages(), lengths(config, model))):
            model.begin_stage(stage)
            model.step.assign(0)
            sizes = [
                model.method.middle_size(step, config.batch_size, length, config.eval_interval)
                for step in range(length)
            ]
            pairs = DomainPairs(
                task, config.batch_size, number, middle_size=sizes, uses_source=stage.uses_source,
                augment=config.augment, replicas=distribution.own_rows(),
            )  # fmt: skip
            for step, batch in enumerate(pairs.dataset(0, length)):
                distribution.train_on(model, batch, True, pairs.rows(step))
                if step % 2 or step == length - 1:
                    distribution.average_statistics(model)
                    evaluation, indices = predict(task.target)
                    if model.method.needs_source_evaluation:
                        evaluation.source, rows = predict(task.source)
                        evaluation.source.labels = np.asarray(task.source.labels)[rows]
                    model.update(evaluation)
        assert indices.tolist() == list(range(len(task.target)))
        after = {name: np.array(v.numpy()) for name, v in model.state_variables().items()}
    return before, after, evaluation


def lengths(config, model):
    from isra_keras.training.build import stage_lengths

    return stage_lengths(config.iterations, model.stages())


def compared(name, distribution):
    """Errors of two replicas against one: of all variables' changes, and of the last evaluation's logits."""
    import keras
    import numpy as np

    from isra_keras.training.distribution import Distribution, Replicated
    from tests.golden_tools import relative_error

    kind, options = CASES[name]
    two = Replicated(distribution.strategy, distribution.workers, distribution.worker)
    two.sync_batch_norm = options.get("sync_batch_norm", False)
    results = []
    for found in (Distribution(), two):
        keras.backend.clear_session()
        results.append(trained(found, kind, options))
    (before, one, alone), (_, other, shared) = results
    errors = {path: relative_error(second, first) for (path, first), second in zip(one.items(), other.values(), strict=True)
              if not NOISE.search(path)}  # fmt: skip
    moved = sum(bool(first.shape == start.shape and np.abs(first - start).max(initial=0) > 1e-4)
                for first, start in zip(one.values(), before.values()))  # fmt: skip
    worst = max(errors, key=errors.get)
    weights = [values[next(key for key in values if key.endswith("/class_weights"))] for values in (one, other)]
    return {"error": errors[worst], "where": worst, "moved": moved,
            "logits": relative_error(shared.logits, alone.logits), "class_weights": relative_error(*weights)}  # fmt: skip


def keras_layer(distribution):
    """Largest error of Keras's own batch normalisation over both replicas: outputs, gradient of the inputs, statistics."""
    import keras
    import numpy as np
    import tensorflow as tf

    from isra_keras.training.distribution import synchronised, this_replica
    from isra_keras.training.replica import share
    from isra_keras.training.tf_replica import own_rows
    from tests.golden_tools import relative_error

    inputs = np.random.default_rng(0).normal(3, 2, (7, 4, 4, 3)).astype("float32")

    def network():
        return keras.Sequential([keras.Input((4, 4, 3)), keras.layers.BatchNormalization(momentum=0.9)])

    def step(model, images):
        loss = tf.reduce_sum(model(images, training=True) ** 3)
        return tf.gradients(loss, images)[0]

    def shared(part):
        replica = this_replica(distribution.strategy, {"source": len(inputs)})
        with own_rows():
            gradient = step(model, part)
        return replica.sum(replica._placed(gradient, len(inputs)))

    alone = network()
    expected = tf.function(lambda: step(alone, tf.constant(inputs)))().numpy()
    with distribution.scope():
        model = network()
    parts = distribution.strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(inputs[slice(*share(7, context.replica_id_in_sync_group, 2))])
    )

    @tf.function(autograph=False)
    def run():
        with synchronised(model):
            return distribution.strategy.run(shared, args=(parts,))

    found = distribution.strategy.experimental_local_results(run())[0].numpy()
    pairs = [(v.numpy(), w.numpy()) for v, w in zip(model.variables, alone.variables, strict=True)]
    config = model.layers[-1].get_config()
    return {"error": max(relative_error(one, other) for one, other in [(found, expected), *pairs]),
            "left_alone": not config["synchronized"] and "_moments" not in vars(model.layers[-1])}  # fmt: skip


def main(kind, *cases):
    distribution = make(kind)
    for case in cases:
        if case == "keras_layer":
            found = keras_layer(distribution)
        else:
            found = golden(case, distribution) if case.endswith("trajectory") else compared(case, distribution)
        print(json.dumps({"case": case, **found}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
