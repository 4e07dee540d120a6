"""TF_ENABLE_ONEDNN_OPTS=0 against 1: the ratio of the times of a training step.

    python benchmarks/onednn.py            features cells (dann, cdan, ba3us with ISRA, slm), small_cnn, MobileNetV2
    python benchmarks/onednn.py --quick    fewer steps

Both settings run in processes of their own that live side by side and take turns, some steps each, so that a noisy
machine slows both alike; medians, tracing left out. Batches are random: the time of a step does not depend on them.
`isra_keras` sets it to 1 where the user says nothing. Writes benchmarks/results/onednn.jsonl (onednn_quick.jsonl).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from measure import short, table, write

CASES = {
    "dann, features": ("features", "dann", False, 10),
    "cdan, features": ("features", "cdan", False, 10),
    "ba3us + ISRA, features": ("features", "ba3us", True, 10),
    "slm, features": ("features", "slm", False, 5),
    "ba3us, small_cnn 32 px": ("small_cnn", "ba3us", False, 5),
    "ba3us, mobilenet_v2 96 px": ("mobilenet_v2", "ba3us", False, 1),
}
SHAPES = {"features": (1280,), "small_cnn": (32, 32, 3), "mobilenet_v2": (96, 96, 3)}
ROWS = {"source": 36, "target": 36, "middle": 9}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", help="write the lines there instead")
    args = parser.parse_args(argv)
    if args.child:
        answer()
        return
    sides = {value: start(value) for value in ("0", "1")}
    try:
        lines = []
        for name in CASES:
            lines.append(compare(name, sides, 3 if args.quick else 5))
            write("onednn" + "_quick" * args.quick, lines, args.out)
    finally:
        for process in sides.values():
            process.stdin.close()
            process.wait()
    print(table(lines, list(lines[0])))


def start(value):
    """A process with the setting."""
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": value}
    command = [sys.executable, __file__, "--child"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                            env=environment)  # fmt: skip


def compare(name, sides, rounds):
    """The line of a case: medians over rounds of the mean step of a round; the first round is not counted."""
    seconds = {value: [] for value in sides}
    for number in range(-1, rounds):
        for value, process in sides.items():
            process.stdin.write(name + "\n")
            process.stdin.flush()
            found = json.loads(process.stdout.readline())
            if number >= 0:
                seconds[value].append(found)
    off, on = (1000 * statistics.median(seconds[value]) for value in ("0", "1"))
    return {"step": name, "off_ms": short(off), "on_ms": short(on), "off_over_on": short(off / on)}


def answer():
    """Child: reads names of cases, writes seconds a step, until its input ends."""
    models = {}
    for row in sys.stdin:
        name = row.strip()
        if name not in models:
            models.clear()  # one at a time in memory
            models[name] = make_model(*CASES[name][:3])
        model, batch = models[name]
        steps = CASES[name][3]
        started = time.perf_counter()
        for _ in range(steps):
            logs = model.train_on(batch)
        float(logs["loss"])
        print(json.dumps((time.perf_counter() - started) / steps), flush=True)


def make_model(backbone, method, semantic):
    """(compiled `AdaptationModel`, batch), traced."""
    import keras
    import numpy as np

    from isra_keras.backbones import build_network
    from isra_keras.methods import get_method
    from isra_keras.model import AdaptationModel
    from isra_keras.semantic import SemanticAlignment

    keras.utils.set_random_seed(0)
    draw, shape, objective = np.random.default_rng(0), SHAPES[backbone], get_method(method)()
    network = build_network(backbone, 7, 256, shape, "none", **objective.network_options)
    plugin = SemanticAlignment(32, variant="reference") if semantic else None
    model = AdaptationModel(network, objective, plugin, max_iterations=1000, sizes={"source": 500, "target": 500})
    model.compile()
    batch = {
        part: {
            "images": draw.uniform(0, 255 if len(shape) == 3 else 1, (rows, *shape)).astype("float32"),
            "labels": draw.integers(0, 7, rows).astype("int32"),
            "indices": np.arange(rows, dtype="int32"),
        }
        for part, rows in ROWS.items()
        if part != "middle" or method == "ba3us"
    }
    model.train_on(batch)
    return model, batch


if __name__ == "__main__":
    main()
