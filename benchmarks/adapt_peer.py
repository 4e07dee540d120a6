"""Iterations a second of DANN and CDAN+E here and in `adapt` (the nearest library on Keras), on the same features.

    python benchmarks/adapt_peer.py                       skips the other side where `adapt` is not installed
    python benchmarks/adapt_peer.py --python venv/bin/python    an interpreter that has it: pip install adapt==0.4.5

Both train the same network on the same arrays (PACS features, photo to the first four classes of art painting, 1280 to
256 to 7; made ones without ISRA_TEST_DATA), SGD with Nesterov momentum and decay, batches of 36 + 36, all cores. Two
processes live side by side and take turns, two of adapt's epochs each; medians over turns, the first one left out. "bare"
is the compiled `train_step` on one batch alone, of both; "cpu_ms" is processor time of a whole iteration, which a busy
machine changes less than the clock; "products_share" is how much of our bare step its large matrix products alone take,
which both sides need. Writes benchmarks/results/adapt_peer.jsonl (adapt_peer_quick.jsonl).
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import time

from measure import data_folder, short, table, write

BATCH, WIDTH, HIDDEN = 36, 256, 1024
METHODS = ("dann", "cdan")
EPOCH = 47  # iterations of one pass over 1,670 source images


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=os.environ.get("ADAPT_PYTHON", sys.executable), help="one that has adapt")
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--side", help=argparse.SUPPRESS)  # child
    parser.add_argument("--out", help="write the lines there instead")
    args = parser.parse_args(argv)
    if args.side:
        answer(*args.side.split(":"))
        return
    has = subprocess.run([args.python, "-c", "import adapt.feature_based"], capture_output=True).returncode == 0
    if not has:
        print(
            "Skipped: adapt can't be imported. `pip install adapt==0.4.5` into an environment, then --python or ADAPT_PYTHON."
        )
        return
    lines = [compare(method, args) for method in METHODS]
    write("adapt_peer" + "_quick" * args.quick, lines, args.out)
    print(table(lines, list(lines[0])))


def compare(method, args):
    """The line of a method."""
    sides = {"ours": sys.executable, "adapt": args.python}
    processes = {
        side: subprocess.Popen([python, __file__, "--side", f"{side}:{method}"], stdin=subprocess.PIPE, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for side, python in sides.items()
    }  # fmt: skip
    turns, middle = {side: [] for side in sides}, {}
    for number in range(-1, 3 if args.quick else 7):
        for side, process in processes.items():
            process.stdin.write("\n")
            process.stdin.flush()
            found = json.loads(process.stdout.readline() or f'"{side} failed on {method}"')
            if isinstance(found, str):
                raise SystemExit(found)
            if number >= 0:
                turns[side].append(found)
    for side, process in processes.items():
        process.stdin.close()
        process.wait()
        middle[side] = {key: statistics.median(one[key] for one in turns[side]) for key in turns[side][0]}
    ours, theirs = middle["ours"], middle["adapt"]
    return {
        "method": method, "ours_per_second": short(ours["rate"]), "adapt_per_second": short(theirs["rate"]),
        "ratio": short(ours["rate"] / theirs["rate"]), "bare_ratio": short(ours["bare"] / theirs["bare"]),
        "ours_cpu_ms": short(ours["cpu_ms"]), "adapt_cpu_ms": short(theirs["cpu_ms"]),
        "cpu_ratio": short(theirs["cpu_ms"] / ours["cpu_ms"]),
        "products_share": short(ours["bare"] / ours["products"]), "turns": len(turns["ours"]), "target": 2.0,
        "met": ours["rate"] >= 2.0 * theirs["rate"],
    }  # fmt: skip


def answer(side, method):
    """Child: a JSON line of rates for every line of input."""
    turn = {"ours": ours, "adapt": theirs}[side](method)
    for _ in sys.stdin:
        print(json.dumps(turn()), flush=True)


def arrays():
    """(source (M, 1280) float32, labels (M,) int32, target (N, 1280))."""
    import numpy as np

    if data_folder() is None:
        draw = np.random.default_rng(0)
        labels = draw.integers(0, 7, 1670)
        means = draw.normal(size=(7, 1280))
        noise = [draw.normal(size=(rows, 1280)) for rows in (1670, 1103)]
        target = means[draw.integers(0, 4, 1103)] + noise[1]
        return (means[labels] + noise[0]).astype("float32"), labels.astype("int32"), target.astype("float32")
    with np.load(data_folder() / "features" / "pacs_mobilenetv2.npz") as file:
        features, domain, names = file["features"].astype("float32"), file["domain"], file["cls"]
    classes = sorted(set(names))
    labels = np.array([classes.index(name) for name in names], "int32")
    source, target = domain == "photo", (domain == "art_painting") & (labels < 4)
    return features[source], labels[source], features[target]


def ours(method):
    """A function that trains two epochs by `DomainPairs` and `train_on`, then `train_on` alone, and returns rates."""
    import keras

    import isra_keras
    from isra_keras.data.domain import Domain, Task
    from isra_keras.data.pairs import DomainPairs, own_threads
    from isra_keras.methods import get_method
    from isra_keras.model import AdaptationModel

    source, labels, target = arrays()
    names = tuple(map(str, range(int(labels.max()) + 1)))
    domains = [Domain("source", names, labels, None, source), Domain("target", names, [-1] * len(target), None, target)]
    task = Task("source-target", *domains, names, None, "features", None)
    keras.utils.set_random_seed(0)
    network = isra_keras.build_network("features", len(names), WIDTH, (source.shape[1],), "none")
    model = AdaptationModel(network, get_method(method)(dropout=0.0), max_iterations=10000)
    model.compile()
    batches = iter(own_threads(DomainPairs(task, BATCH, 0).dataset(0, 100 * EPOCH)))
    batch = next(batches)

    def turn():
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(2 * EPOCH):
            logs = model.train_on(next(batches))
        float(logs["loss"])
        values = rates(began, cpu, 2 * EPOCH)
        values["bare"] = bare_rate(lambda: model.train_on(batch), lambda logs: float(logs["loss"]))
        return values | {"products": bare_rate(products, float)}

    width = WIDTH * (len(names) if method == "cdan" else 1)
    products = bare_products(source.shape[1], width)
    return turn


def bare_products(inputs, width):
    """A function of the step's larger matrix products alone: each layer forward, for its kernel, for its input."""
    import tensorflow as tf

    rows = 2 * BATCH
    sizes = ((inputs, WIDTH, False), (width, HIDDEN, True), (HIDDEN, HIDDEN, True))
    layers = [(tf.random.normal((rows, i)), tf.random.normal((i, o)), tf.random.normal((rows, o)), more)
              for i, o, more in sizes]  # fmt: skip

    @tf.function
    def step():
        total = 0.0
        for x, kernel, gradient, to_input in layers:
            total += (x @ kernel)[0, 0] + tf.matmul(x, gradient, transpose_a=True)[0, 0]
            if to_input:
                total += tf.matmul(gradient, kernel, transpose_b=True)[0, 0]
        return total

    return step


def theirs(method):
    """The same of adapt: `fit` for three epochs, of which the last two count, and its `train_step` on one batch."""
    import numpy as np
    import tensorflow as tf
    from adapt.feature_based import CDAN, DANN
    from tensorflow import keras

    source, labels, target = arrays()
    classes, dense = int(labels.max()) + 1, keras.layers.Dense
    width = WIDTH * classes if method == "cdan" else WIDTH
    encoder = keras.Sequential([keras.Input((source.shape[1],)), dense(WIDTH)])
    head = keras.Sequential([keras.Input((WIDTH,)), dense(classes, activation="softmax")])
    layers = [dense(HIDDEN, activation="relu"), dense(HIDDEN, activation="relu"), dense(1, activation="sigmoid")]
    discriminator = keras.Sequential([keras.Input((width,)), *layers])
    model = (DANN if method == "dann" else CDAN)(
        encoder, head, discriminator, Xt=target, lambda_=0.1, verbose=0, random_state=0, loss="categorical_crossentropy",
        optimizer=keras.optimizers.SGD(1e-4, momentum=0.9, nesterov=True, weight_decay=5e-4),
    )  # fmt: skip
    wanted, moments = np.eye(classes, dtype="float32")[labels], []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: moments.append((time.perf_counter(), time.process_time()))
    )
    batch = ((tf.constant(source[:BATCH]), tf.constant(wanted[:BATCH])), tf.constant(target[:BATCH]))
    compiled = []

    def turn():
        moments.clear()
        with contextlib.redirect_stdout(io.StringIO()):
            model.fit(source, wanted, epochs=3, batch_size=BATCH, verbose=0, callbacks=[clock])
        values = rates(*moments[0], 2 * EPOCH, *moments[2])
        if not compiled:
            compiled.append(tf.function(lambda: model.train_step(batch)))
        return values | {"bare": bare_rate(compiled[0], lambda logs: float(logs["disc_loss"]))}

    return turn


def rates(began, cpu, steps, ended=None, cpu_ended=None):
    """{"rate": iterations a second, "cpu_ms": processor time of one}."""
    ended, cpu_ended = ended or time.perf_counter(), cpu_ended or time.process_time()
    return {"rate": steps / (ended - began), "cpu_ms": 1000 * (cpu_ended - cpu) / steps}


def bare_rate(step, wait, steps=20):
    """Steps a second of a function on one batch."""
    for _ in range(2):
        wait(step())
    started = time.perf_counter()
    for _ in range(steps):
        logs = step()
    wait(logs)
    return steps / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
