"""A training process that meets a fault: `python -m benchmarks.reliability_probes.training SIDE OUT OPTIONS`.

Both sides train the same layers on the same rows with the same seed: Dense, batch normalisation, ReLU, dropout, Dense.
OPTIONS is JSON: dropout, shuffle (null, "fit" or "dataset"; this project always shuffles), save_freq, epochs,
double, learning_rate, on_nan, and a `fault` that comes after step `at`; "watch" is none: it samples memory, time and
open files every `at` steps.
The last line of the output is JSON; final.npz in OUT holds the weights.
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROWS, BATCH, EPOCHS, WIDTH, SEED = 64, 8, 4, 2048, 0
EPOCH = ROWS // BATCH
STEPS = EPOCH * EPOCHS
DEFAULTS = {"dropout": 0.0, "shuffle": None, "save_freq": EPOCH, "epochs": EPOCHS, "double": False, "learning_rate": 0.01,
            "on_nan": None, "fault": None, "at": 0}  # fmt: skip


def stock_model(options):
    """The layers of the project's "afn" head, all of them stock Keras."""
    import keras
    from keras import layers

    from tests.training import small_task

    head = [layers.Dense(WIDTH), layers.BatchNormalization(momentum=0.9), layers.ReLU()]
    drop = [layers.Dropout(options["dropout"])] if options["dropout"] else []
    model = keras.Sequential([keras.Input((small_task.WIDTH,)), *head, *drop, layers.Dense(len(small_task.CLASSES))])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(options["learning_rate"], momentum=0.9, nesterov=True)

    def poisoned(labels, logits):
        return loss(labels, logits) * keras.ops.where(optimizer.iterations == options["at"] - 1, float("nan"), 1.0)

    model.compile(optimizer, poisoned if options["fault"] == "nan" else loss)
    return model


def train_stock(out, options):
    """`fit` with `BackupAndRestore` and `ModelCheckpoint`, deterministic as Keras's documentation says."""
    import keras
    import numpy as np
    import tensorflow as tf

    from tests.training import small_task

    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    source = small_task.features_task(rows=ROWS).source
    model, fault, done = stock_model(options), Fault(out, options), 0

    class Hook(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            nonlocal done
            done += 1
            fault.step(int(self.model.optimizer.iterations.numpy()))

    frequency = "epoch" if options["save_freq"] == EPOCH else options["save_freq"]
    stops = {None: [], "stop": [keras.callbacks.TerminateOnNaN()]}
    callbacks = [
        *stops.get(options["on_nan"], [keras.callbacks.TerminateOnNaN(raise_error=True)]),
        keras.callbacks.BackupAndRestore(out / "backup", save_freq=frequency, double_checkpoint=options["double"]),
        keras.callbacks.ModelCheckpoint(out / "model.keras", save_freq=frequency),
        Hook(),
    ]
    rows = (source.arrays, source.labels)
    if options["shuffle"] == "dataset":
        rows = (tf.data.Dataset.from_tensor_slices(rows).shuffle(ROWS, seed=SEED).batch(BATCH),)
    size = BATCH if len(rows) == 2 else None
    shuffle = options["shuffle"] == "fit"
    model.fit(*rows, batch_size=size, epochs=options["epochs"], verbose=0, callbacks=callbacks, shuffle=shuffle)
    np.savez(out / "final.npz", *model.get_weights())
    return {
        "iterations": int(model.optimizer.iterations.numpy()),
        "steps_here": done,
        "parameters": model.count_params(),
        "learning_rate": round(float(model.optimizer.learning_rate.numpy()), 6),
        "samples": fault.samples,
    }


def train_ours(out, options):
    """`isra_keras.training.runner.run` with source only, the same network."""
    import numpy as np

    from isra_keras.training.callbacks import RunCallback
    from isra_keras.training.checkpoint import CheckpointFolder
    from isra_keras.training.interrupt import Interrupted
    from isra_keras.training.runner import run
    from tests.training import small_task

    fault, done, last = Fault(out, options), 0, {}

    class Hook(RunCallback):
        def on_step(self, step, logs):
            nonlocal done
            done += 1
            last.update(logs)
            fault.step(step)

    config = small_task.features_config(
        method="source_only", semantic=False, iterations=EPOCH * options["epochs"], eval_interval=options["save_freq"], batch_size=BATCH,
        feature_dim=WIDTH, learning_rate=options["learning_rate"], seed=SEED, schedule={"name": "constant"},
        network_options={"bottleneck": "afn", "dropout": options["dropout"]},
    )  # fmt: skip
    if options["fault"] == "nan":
        poison(options["at"])
    try:
        run(config, out, resume=True, callbacks=[Hook()], task=small_task.features_task(rows=ROWS), quiet=True)
    except Interrupted as stopped:  # as isra_keras.train, which adds the command
        print(f"stopped at step {stopped.step} of {config.iterations}; the state is saved.", file=sys.stderr)
        sys.exit(128 + stopped.signal)
    _, arrays, _ = CheckpointFolder(out / "checkpoints").load_newest()
    weights = [value for name, value in arrays.items() if name.split("/")[1] == "network"]
    np.savez(out / "final.npz", *weights)
    iterations = next(value for name, value in arrays.items() if name.endswith("/iteration"))
    return {
        "iterations": int(iterations),
        "steps_here": done,
        "parameters": sum(value.size for value in weights),
        "learning_rate": round(float(last["learning_rate"]), 6),
        "samples": fault.samples,
    }


def poison(step):
    """The loss of this step becomes NaN."""
    import keras

    from isra_keras.model import AdaptationModel

    original = AdaptationModel.loss_terms

    def poisoned(self, views, context):
        terms = original(self, views, context)
        bad = keras.ops.where(context.step == step - 1, float("nan"), 1.0)  # a factor: gradients are NaN too
        return terms | {"classification": terms["classification"] * bad}

    AdaptationModel.loss_terms = poisoned


class Fault:
    """Kills, asks to stop, fills the disk or waits after a step, or watches all steps, as the options say."""

    def __init__(self, out, options):
        self.out, self.kind, self.at, self.samples = out, options["fault"], options["at"], []

    def step(self, number):
        if self.kind == "watch" and number % self.at == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            handles = len(os.listdir("/proc/self/fd"))
            self.samples.append((number, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, time.process_time(), handles))
        if number != self.at:
            return
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.kind == "ask":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.kind == "full":
            largest = max(path.stat().st_size for path in self.out.rglob("*") if path.is_file())
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        elif self.kind == "wait":
            print("waiting", flush=True)
            ends = time.monotonic() + 40
            while not (self.out.parent / "go").exists() and time.monotonic() < ends:
                time.sleep(0.05)


def main(argv=None):
    """Trains one side; returns the exit code."""
    side, out, text = argv or sys.argv[1:]
    Path(out).mkdir(parents=True, exist_ok=True)
    values = {"stock": train_stock, "ours": train_ours}[side](Path(out), DEFAULTS | json.loads(text))
    print(json.dumps(values), flush=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "stock":
        sys.exit(main())
    from isra_keras.cli import run as run_cli

    sys.exit(run_cli(lambda argv: main()))
