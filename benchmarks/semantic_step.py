"""The semantic step against a loop over topics in PyTorch and against bare matrix products; many topics in blocks.

    python benchmarks/semantic_step.py            ratios at the sizes of the paper, about two minutes on two cores
    python benchmarks/semantic_step.py --many     time and memory against J, d and n up to J = 1,024, d = 2,048, n = 512

A step: receptors forward, their gradient with the L1 norm's, attention, alignment and its gradient to the features. The
floor is three batched matrix products of the same sizes (receptors forward, gradient of their kernels, attention), by
TensorFlow or PyTorch, whichever is faster here. Every measurement is a process of its own; the sides take turns, and of
all turns the shortest counts. One line each in benchmarks/results/semantic_step.jsonl.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import isra_keras  # noqa: E402, F401  sets what TensorFlow starts with

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "semantic_step.jsonl"
FIGURE = ROOT / "benchmarks" / "figures" / "semantic_step_many.png"
SIZES = ((512, 256), (256, 64), (2048, 64), (2048, 16))
MANY = (
    [{"depth": 2048, "topics": topics, "rows": 512} for topics in (64, 128, 256, 512, 1024)]
    + [{"depth": depth, "topics": 256, "rows": 512} for depth in (256, 512, 1024)]
    + [{"depth": 2048, "topics": 256, "rows": rows} for rows in (64, 128, 256)]
)
WIDTH = 128
POOLLESS = {"TF_ENABLE_ONEDNN_OPTS": "0"}
"""oneDNN brings an allocator that gives nothing back: what initialisers took would hide what a step takes."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--many", action="store_true", help="many topics instead")
    parser.add_argument("--rows", type=int, nargs="+", default=[81, 512])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a measurement in this very process, as JSON
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(**json.loads(args.one))))
        return
    lines = many() if args.many else ratios(args.rows, args.turns)
    kept = [line for line in read(args.out) if line["probe"] != ("many" if args.many else "ratio")]
    args.out.write_text("".join(json.dumps(line) + "\n" for line in kept + lines), encoding="utf-8")
    if args.many:
        draw(lines, FIGURE)


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def ratios(rows, turns):
    """A line for each size."""
    lines = []
    for count in rows:
        for depth, topics in SIZES:
            size = {"depth": depth, "topics": topics, "rows": count}
            best = {}
            for _ in range(turns):
                for side in ("ours", "loop", "tensorflow_floor", "torch_floor"):
                    found = alone(side=side, **size)
                    best[side] = min(found["ms"], best.get(side, found["ms"]))
            floor = min(best.pop("tensorflow_floor"), best.pop("torch_floor"))
            line = {"probe": "ratio", **size, "cores": os.cpu_count(), **{f"{k}_ms": round(v, 2) for k, v in best.items()},
                    "floor_ms": round(floor, 2), "loop_over_ours": round(best["loop"] / best["ours"], 2),
                    "ours_over_floor": round(best["ours"] / floor, 2)}  # fmt: skip
            lines.append(line)
            print(f"d {depth:5} J {topics:4} n {count:4}: ours {line['ours_ms']:8.1f} ms, loop {line['loop_ms']:8.1f} ms "
                  f"({line['loop_over_ours']:.1f} x ours), floor {floor:8.1f} ms (ours {line['ours_over_floor']:.2f} x)",
                  flush=True)  # fmt: skip
    return lines


def many():
    """A line for each size; at J = 64 the attention made whole beside it."""
    lines = []
    for size in MANY:
        found = {"probe": "many", **size, **alone(side="ours", repeats=2, **size)}
        found["extra_mb"] = alone(POOLLESS, side="ours", repeats=1, **size)["extra_mb"]
        if size["topics"] == 64:
            whole = alone(POOLLESS, side="ours", repeats=1, block=None, **size)
            found["whole_mb"] = whole["extra_mb"]
            found["difference"] = abs(whole["alignment"] - found["alignment"]) / abs(whole["alignment"])
        lines.append(found)
        print(f"J {size['topics']:4} d {size['depth']:4} n {size['rows']:3}: {found['ms'] / 1e3:6.2f} s, "
              f"{found['extra_mb']:6.0f} MB beyond weights and gradients ({found['weights_mb']:.0f} MB each)"
              + (f"; whole {found['whole_mb']:.0f} MB, results differ by {found['difference']:.1e}"
                 if "whole_mb" in found else ""), flush=True)  # fmt: skip
    return lines

TICKS = (([0.3, 1, 3, 10], ["0.3", "1", "3", "10"]), ([100, 200, 400, 800], ["100", "200", "400", "800"]))


def draw(lines, path):
    """Time and memory against J, d and n, with the exponents of the straight lines through their logarithms."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(9, 5), layout="constrained", sharey="row")
    names = {"topics": ("topics J", {"depth": 2048, "rows": 512}), "depth": ("features d", {"topics": 256, "rows": 512}),
             "rows": ("rows n", {"depth": 2048, "topics": 256})}  # fmt: skip
    for column, (field, (label, fixed)) in enumerate(names.items()):
        shown = sorted((line for line in lines if all(line[k] == v for k, v in fixed.items())), key=lambda one: one[field])
        sizes = np.array([line[field] for line in shown])
        for row, (value, unit) in enumerate((("ms", "seconds a step"), ("extra_mb", "memory beyond weights\nand gradients (MB)"))):
            found = np.array([line[value] for line in shown]) / (1e3 if value == "ms" else 1)
            exponent = np.polyfit(np.log(sizes), np.log(found), 1)[0]
            axes[row, column].loglog(sizes, found, "o-", color="#4c72b0")
            axes[row, column].set_title(f"grows as {label[-1]}$^{{{exponent:.2f}}}$", fontsize=10)
            axes[row, column].set_xticks(sizes, sizes)
            axes[row, column].set_yticks(*TICKS[row])
            axes[row, column].minorticks_off()
            if column == 0:
                axes[row, column].set_ylabel(unit)
        axes[1, column].set_xlabel(label)
    figure.savefig(path, dpi=110)


def alone(more_environment=None, **what):
    """A measurement in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps(what)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | (more_environment or {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"Measuring {what} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(side, depth, topics, rows, repeats=9, block="auto"):
    """{"ms": shortest step, ...} of a side."""
    makers = {"ours": our_step, "loop": loop_step, "tensorflow_floor": tensorflow_floor, "torch_floor": torch_floor}
    step, more = makers[side](depth, topics, rows, block)
    resident = settled_memory()
    step()
    times = []
    while len(times) < repeats and sum(times) < 20:
        started = time.perf_counter()
        value = step()
        times.append(time.perf_counter() - started)
    result = {"ms": 1e3 * min(times)}
    if side == "ours":
        weights = more["weights_mb"]
        result |= {"extra_mb": round(memory("VmHWM") - resident - weights), "alignment": float(value)} | more
    return result


def memory(field):
    """MB, a line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024


def settled_memory():
    """Resident MB once what the initialisers left is given back; the peak is counted anew."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def parts(rows):
    """Rows of source, target and middle batch."""
    middle = rows // 9
    source = (rows - middle) // 2
    return source, rows - middle - source, middle


def our_step(depth, topics, rows, block):
    import keras
    import tensorflow as tf

    from isra_keras.objective import View, Views
    from isra_keras.semantic import SemanticAlignment
    from isra_keras.semantic.weights_norm import in_place

    keras.utils.set_random_seed(0)
    semantic = SemanticAlignment(topics, receptor_width=WIDTH, variant="reference", topic_block=block)
    semantic.build_parts(depth, 10, depth, {})
    domains = [tf.random.stateless_normal((count, depth), (1, number)) for number, count in enumerate(parts(rows))]
    weights = [weight.value for weight in semantic.receptors.trainable_variables]

    @tf.function(autograph=False)
    def step(*domains):
        views = [View(images=None, pooled=None, features=one, logits=None) for one in domains]
        with tf.GradientTape() as tape, in_place(True):  # as the training step
            tape.watch(domains)
            terms = semantic.loss_terms(Views(*views), None)
            total = terms["receptors"] + terms["alignment"]
        gradients = tape.gradient(total, [*domains, *weights])
        return terms["alignment"], gradients

    def run():
        alignment, gradients = step(*domains)
        gradients[0].numpy()
        return alignment.numpy()

    return run, {"weights_mb": round(sum(4 * int(tf.size(weight)) for weight in weights) / 2**20)}


def loop_step(depth, topics, rows, _):
    import torch

    from benchmarks.topic_loop import TopicLoop

    torch.manual_seed(0)
    loop = TopicLoop(depth, topics, WIDTH)
    features = torch.randn(rows, depth, requires_grad=True)
    embeddings = torch.relu(torch.randn(rows, topics))
    return lambda: float(loop.step(features, embeddings, parts(rows)[0])[1]), {}


def tensorflow_floor(depth, topics, rows, _):
    import tensorflow as tf

    features, kernel, slopes = (tf.random.stateless_normal(shape, (2, 3)) for shape in
                                ((rows, depth), (topics, depth, WIDTH), (topics, rows, WIDTH)))  # fmt: skip

    @tf.function(autograph=False)
    def products(features, kernel, slopes):
        return (tf.matmul(features[None], kernel), tf.matmul(features[None], slopes, transpose_a=True),
                tf.matmul(slopes, kernel, transpose_b=True))  # fmt: skip

    return lambda: [one[0, 0, 0].numpy() for one in products(features, kernel, slopes)][0], {}


def torch_floor(depth, topics, rows, _):
    import torch

    features, kernel, slopes = (torch.randn(shape) for shape in
                                ((rows, depth), (topics, depth, WIDTH), (topics, rows, WIDTH)))  # fmt: skip
    copies = features.expand(topics, rows, depth)

    def products():
        made = torch.bmm(copies, kernel), torch.bmm(copies.mT, slopes), torch.bmm(slopes, kernel.mT)
        return float(made[0][0, 0, 0])

    return products, {}


if __name__ == "__main__":
    main()
