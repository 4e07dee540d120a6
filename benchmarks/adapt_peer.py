"""Iterations a second of DANN and CDAN+E here and in `adapt` (the nearest library on Keras), on the same features.

    python benchmarks/adapt_peer.py                       skips the other side where `adapt` is not installed
    python benchmarks/adapt_peer.py --python venv/bin/python    an interpreter that has it: pip install adapt==0.4.5

Both train the same network on the same arrays (PACS features, photo to the first four classes of art painting, 1280 to
256 to 7; made ones without ISRA_TEST_DATA), SGD with Nesterov momentum, batches of 36 + 36. The two take turns, each in
a process of its own, with all cores; a round's rate leaves out what is compiled or traced first. "bare" is their
`train_step` on one batch in a `tf.function` without their `fit`, as ours is measured in `model.train_on` too: what the
loop around the step costs. Writes benchmarks/results/adapt_peer.jsonl (adapt_peer_quick.jsonl).
"""

import argparse
import json
import os
import subprocess
import sys
import time

from measure import data_folder, short, table, write

BATCH, WIDTH, HIDDEN = 36, 256, 1024
METHODS = ("dann", "cdan")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=os.environ.get("ADAPT_PYTHON", sys.executable), help="one that has adapt")
    parser.add_argument("--steps", type=int, default=184)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--side", help=argparse.SUPPRESS)  # child
    parser.add_argument("--out", help="write the lines there instead")
    args = parser.parse_args(argv)
    if args.side:
        print(json.dumps(SIDES[args.side.split(":")[0]](args.side.split(":")[1], args.steps)))
        return
    has = subprocess.run([args.python, "-c", "import adapt.feature_based"], capture_output=True).returncode == 0
    if not has:
        print("Skipped adapt: it can't be imported. `pip install adapt==0.4.5` into an environment; then --python.")
    lines = [compare(method, args, has) for method in METHODS]
    if has:
        write("adapt_peer" + "_quick" * args.quick, lines, args.out)
    print(table(lines, list(lines[0])))


def compare(method, args, has):
    """The line of a method."""
    import statistics

    found = {"ours": []} | ({"adapt": []} if has else {})
    for _ in range(1 if args.quick else args.rounds):
        for side, values in found.items():
            values.append(child(side, method, args))
    middle = {
        side: {key: statistics.median(one[key] for one in values) for key in values[0]} for side, values in found.items()
    }
    line = {"method": method, "steps": args.steps, "ours_per_second": short(middle["ours"]["rate"]),
            "ours_bare_per_second": short(middle["ours"]["bare"])}  # fmt: skip
    if has:
        theirs = middle["adapt"]
        line |= {"adapt_per_second": short(theirs["rate"]), "adapt_bare_per_second": short(theirs["bare"]),
                 "ratio": short(middle["ours"]["rate"] / theirs["rate"]),
                 "bare_ratio": short(middle["ours"]["bare"] / theirs["bare"]), "target": 2.0,
                 "met": middle["ours"]["rate"] >= 2.0 * theirs["rate"]}  # fmt: skip
    return line


def child(side, method, args):
    """Rates of one process."""
    python = args.python if side == "adapt" else sys.executable
    command = [python, __file__, "--side", f"{side}:{method}", "--steps", str(args.steps)]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(f"{side} failed on {method}: {found.stderr.strip().splitlines()[-1]}")
    return json.loads(found.stdout.splitlines()[-1])


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


def ours(method, steps):
    """This library's two rates: `DomainPairs` and `train_on`, and `train_on` alone."""
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
    batches = iter(own_threads(DomainPairs(task, BATCH, 0).dataset(0, 2 * steps + 10)))
    batch = next(batches)
    for _ in range(9):
        model.train_on(next(batches))
    started = time.perf_counter()
    for _ in range(steps):
        logs = model.train_on(next(batches))
    float(logs["loss"])
    rate = steps / (time.perf_counter() - started)
    return {"rate": rate, "bare": bare_rate(lambda: model.train_on(batch), lambda logs: float(logs["loss"]), steps)}


def theirs(method, steps):
    """adapt's two rates: `fit`, and its `train_step` compiled on one batch."""
    import contextlib
    import io

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
    an_epoch = -(-max(len(source), len(target)) // BATCH)
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: moments.append(time.perf_counter()))
    with contextlib.redirect_stdout(io.StringIO()):
        epochs = 2 + -(-steps // an_epoch)  # the first one compiles
        model.fit(source, wanted, epochs=epochs, batch_size=BATCH, verbose=0, callbacks=[clock])
    rate = an_epoch * (epochs - 1) / (moments[-1] - moments[0])
    batch = ((tf.constant(source[:BATCH]), tf.constant(wanted[:BATCH])), tf.constant(target[:BATCH]))
    step = tf.function(lambda: model.train_step(batch))
    return {"rate": rate, "bare": bare_rate(step, lambda logs: float(logs["disc_loss"]), steps)}


def bare_rate(step, wait, steps):
    """Steps a second of a function on one batch."""
    for _ in range(3):
        wait(step())
    started = time.perf_counter()
    for _ in range(steps):
        logs = step()
    wait(logs)
    return steps / (time.perf_counter() - started)


SIDES = {"ours": ours, "adapt": theirs}

if __name__ == "__main__":
    main()
