"""The semantic step against a loop over topics in PyTorch and against bare matrix products; many topics in blocks.

    python benchmarks/semantic_step.py            ratios at the sizes of the paper, n = 81 and 512
    python benchmarks/semantic_step.py --quick    the same of n = 81, one turn; about a minute on two cores
    python benchmarks/semantic_step.py --many     time and memory against J, d and n up to J = 1,024, d = 2,048, n = 512
    python benchmarks/semantic_step.py --blocks   time against how much attention exists at once (topic_block)

A step: receptors forward, their gradient with the L1 norm's, attention, alignment and its gradient to the features. The
floor is three batched matrix products of the same sizes (receptors forward, gradient of their kernels, attention), by
TensorFlow or PyTorch, whichever is faster here. Each side is a process of its own; the sides take turns, and of all
turns the shortest step counts. Without PyTorch there is no loop, and the floor is TensorFlow's. Of many topics every
size is a process of its own, for its memory. A line each in benchmarks/results/semantic_step.jsonl
(semantic_step_quick.jsonl), written as it comes; lines of other sizes stay.
"""

import argparse
import ctypes
import gc
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import ROOT, renew, short, turns  # noqa: E402

import isra_keras  # noqa: E402, F401  sets what TensorFlow starts with

FIGURE = ROOT / "benchmarks" / "figures" / "semantic_step_many.png"
KEYS = ("probe", "depth", "topics", "rows", "block")
SIZES = ((512, 256), (256, 64), (2048, 64), (2048, 16))
ROWS, TURNS = (81, 512), 3
AIMS = {"loop": 2.0, "floor": 1.5}
"""The loop takes at least so many times our time, we take at most so many times the floor's."""
MANY = (
    [{"depth": 2048, "topics": topics, "rows": 512} for topics in (64, 128, 256, 512, 1024)]
    + [{"depth": depth, "topics": 256, "rows": 512} for depth in (256, 512, 1024)]
    + [{"depth": 2048, "topics": 256, "rows": rows} for rows in (64, 128, 256)]
)
FITS = {"topics": {"depth": 2048, "rows": 512}, "depth": {"topics": 256, "rows": 512},
        "rows": {"depth": 2048, "topics": 256}}  # fmt: skip
"""{what grows: what stays} of the lines in `MANY`."""
BLOCKS = ({"depth": 512, "topics": 256, "rows": 81}, {"depth": 2048, "topics": 64, "rows": 81},
          {"depth": 512, "topics": 256, "rows": 512})  # fmt: skip
BLOCK_MIB = (1, 4, 16, 64)
WIDTH = 128
POOLLESS = {"TF_ENABLE_ONEDNN_OPTS": "0"}
"""oneDNN brings an allocator that gives nothing back: what initialisers took would hide what a step takes."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--many", action="store_true", help="many topics instead")
    parser.add_argument("--blocks", action="store_true", help="sizes of a block of topics instead")
    parser.add_argument("--quick", action="store_true", help="n = 81, one turn")
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--turns", type=int)
    parser.add_argument("--out", type=Path, help="write the lines there instead")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # child: one measurement, as JSON
    parser.add_argument("--side", choices=tuple(MAKERS), help=argparse.SUPPRESS)  # child: one side, size after size
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(**json.loads(args.one))))
        return
    if args.side:
        answer(args.side)
        return
    rows, rounds = args.rows or (ROWS[:1] if args.quick else ROWS), args.turns or (1 if args.quick else TURNS)
    lines = []
    for line in many() if args.many else blocks() if args.blocks else ratios(rows, rounds):
        lines.append(line)
        renew("semantic_step" + "_quick" * args.quick, [line], KEYS, args.out)
    if args.many and not args.out:
        draw(lines, FIGURE)


def ratios(rows, rounds):
    """Yields a line for each size."""
    has_torch = importlib.util.find_spec("torch") is not None
    if not has_torch:
        print("PyTorch is not installed: no loop over topics is measured, and the floor is TensorFlow's alone. "
              "`pip install -c constraints.txt -e '.[bench]'` installs it.", flush=True)  # fmt: skip
    torch = {"torch": version("torch")} if has_torch else {}
    sides = {name: Side(name) for name in MAKERS if has_torch or MAKERS[name] in (our_step, tensorflow_floor)}
    try:
        for count in rows:
            for depth, topics in SIZES:
                size = {"depth": depth, "topics": topics, "rows": count}
                best = dict.fromkeys(sides, float("inf"))
                for _ in range(rounds):
                    for name, side in sides.items():
                        best[name] = min(best[name], side.shortest(size))
                line = torch | {"probe": "ratio"} | size | {"turns": rounds} | ratio_of(best)
                print(f"d {depth:5} J {topics:4} n {count:4}: ours {line['ours_ms']:8.1f} ms, "
                      + (f"loop {line['loop_ms']:8.1f} ms ({line['loop_over_ours']:.1f} x ours), " if has_torch else "")
                      + f"floor {line['floor_ms']:8.1f} ms (ours {line['ours_over_floor']:.2f} x)", flush=True)  # fmt: skip
                yield line
    finally:
        for side in sides.values():
            side.end()


def ratio_of(best):
    """Times and ratios of a size from {side: shortest step in ms}."""
    ours, floor = best["ours"], min(value for name, value in best.items() if name.endswith("floor"))
    loop = {"loop_ms": round(best["loop"], 2)} if "loop" in best else {}
    over = {"loop_over_ours": round(best["loop"] / ours, 2)} if "loop" in best else {}
    line = {"ours_ms": round(ours, 2)} | loop | {"floor_ms": round(floor, 2)} | over
    bound = {"loop_over_floor": round(best["loop"] / floor, 2)} if "loop" in best else {}
    return with_aims(line | {"ours_over_floor": round(ours / floor, 2)}) | bound


def with_aims(line):
    """A line of ratios with its aims and whether they are met, beside the ratios."""
    told = {}
    for name, value in line.items():
        told[name] = value
        if name == "loop_over_ours":
            told |= {"loop_target": AIMS["loop"], "loop_met": value >= AIMS["loop"]}
        if name == "ours_over_floor":
            told |= {"floor_target": AIMS["floor"], "floor_met": value <= AIMS["floor"]}
    return told


def many():
    """Yields a line for each size; at J = 64 the attention made whole beside it."""
    for size in MANY:
        found = {"probe": "many", **size, **alone(repeats=2, **size)}
        pool_less = alone(POOLLESS, repeats=1, **size)
        found["extra_mb"], found["onednn_off_ms"] = pool_less["extra_mb"], pool_less["ms"]
        if size["topics"] == 64:
            whole = alone(POOLLESS, repeats=1, block=None, **size)
            found["whole_mb"] = whole["extra_mb"]
            found["difference"] = abs(whole["alignment"] - found["alignment"]) / abs(whole["alignment"])
        print(f"J {size['topics']:4} d {size['depth']:4} n {size['rows']:3}: {found['ms'] / 1e3:6.2f} s, "
              f"{found['extra_mb']:6.0f} MB beyond weights and gradients ({found['weights_mb']:.0f} MB each)"
              + (f"; whole {found['whole_mb']:.0f} MB, results differ by {found['difference']:.1e}"
                 if "whole_mb" in found else ""), flush=True)  # fmt: skip
        yield found


def blocks():
    """Yields a line for each size and block of topics; the blocks of a size take turns, medians count."""
    from isra_keras.semantic.blocks import block_size

    for size in BLOCKS:
        topic_mib = 4 * size["rows"] * size["depth"] / 2**20
        auto = block_size("auto", size["topics"], size["rows"], size["depth"])
        chosen = sorted({auto, size["topics"], *(min(size["topics"], max(1, round(m / topic_mib))) for m in BLOCK_MIB)})
        steps = {block: our_step(**size, block=block)[0] for block in chosen}
        for block, seconds in turns(steps, rounds=9, warm=2).items():
            line = {"probe": "block", **size, "block": block, "block_mib": short(block * topic_mib),
                    "auto": block == auto, "ms": short(1e3 * seconds)}  # fmt: skip
            print(f"J {size['topics']:4} d {size['depth']:4} n {size['rows']:3}: {block:4} topics at once, "
                  f"{line['block_mib']:7.2f} MiB{' (auto)' if block == auto else '':7} {line['ms']:8.1f} ms", flush=True)  # fmt: skip
            yield line


def exponents(lines):
    """{what grows: {"ms": exponent, "extra_mb": exponent}}: straight lines through the logarithms of `MANY`'s lines."""
    import numpy as np

    found = {}
    for field in FITS:
        shown = growing(lines, field)
        if len({line[field] for line in shown}) > 1:
            found[field] = {value: float(np.polyfit(*(np.log([line[k] for line in shown]) for k in (field, value)), 1)[0])
                            for value in ("ms", "extra_mb")}  # fmt: skip
    return found


def growing(lines, field):
    """Lines of many topics that differ in `field` alone, the smallest first."""
    fixed = {"probe": "many"} | FITS[field]
    return sorted((line for line in lines if fixed.items() <= line.items()), key=lambda line: line[field])


UNITS = (("ms", "seconds a step"), ("extra_mb", "memory beyond weights\nand gradients (MB)"))
TICKS = (([0.3, 1, 3, 10], ["0.3", "1", "3", "10"]), ([100, 200, 400, 800], ["100", "200", "400", "800"]))


def draw(lines, path):
    """Time and memory against J, d and n, with their `exponents`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(9, 5), layout="constrained", sharey="row")
    names, grows = {"topics": "topics J", "depth": "features d", "rows": "rows n"}, exponents(lines)
    for column, (field, label) in enumerate(names.items()):
        shown = growing(lines, field)
        sizes = [line[field] for line in shown]
        for row, (value, unit) in enumerate(UNITS):
            found = [line[value] / (1e3 if value == "ms" else 1) for line in shown]
            axes[row, column].loglog(sizes, found, "o-", color="#4c72b0")
            axes[row, column].set_title(f"grows as {label[-1]}$^{{{grows[field][value]:.2f}}}$", fontsize=10)
            axes[row, column].set_xticks(sizes, sizes)
            axes[row, column].set_yticks(*TICKS[row])
            axes[row, column].minorticks_off()
            if column == 0:
                axes[row, column].set_ylabel(unit)
        axes[1, column].set_xlabel(label)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


class Side:
    """A process that measures one side, size after size.

    Args:
        name: of `MAKERS`.
    """

    def __init__(self, name):
        self.name, self.errors = name, tempfile.TemporaryFile("w+")
        command = [sys.executable, str(Path(__file__).resolve()), "--side", name]
        self.process = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True)  # fmt: skip

    def shortest(self, size):
        """Milliseconds of the shortest of some steps."""
        try:
            self.process.stdin.write(json.dumps(size) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            self.process.wait()
            self.errors.seek(0)
            raise SystemExit(f"Measuring {self.name} at {size} failed:\n{self.errors.read()[-2000:]}") from None

    def end(self):
        """Lets the process go, and waits for it."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()


def answer(side):
    """Child: the shortest step for every line of input, a size; a side's step is made once for a size."""
    out, sys.stdout = sys.stdout, sys.stderr  # nobody else may write between the answers
    known = step = None
    for row in sys.stdin:
        if row != known:
            known, step = row, None  # one at a time in memory
            step = MAKERS[side](**json.loads(row))[0]
            step()
        print(json.dumps(1e3 * min(times_of(step, 9))), file=out, flush=True)


def environment(more=None):
    """Of a child."""
    return os.environ | {"PYTHONPATH": str(ROOT)} | (more or {})


def alone(more_environment=None, **what):
    """A measurement in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps(what)]
    done = subprocess.run(command, env=environment(more_environment), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"Measuring {what} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(depth, topics, rows, repeats, block="auto"):
    """{"ms": shortest step, "extra_mb", "alignment", "weights_mb"} of our side."""
    step, more = our_step(depth, topics, rows, block)
    resident = settled_memory()
    value = step()
    result = {"ms": 1e3 * min(times_of(step, repeats))}
    extra = round(memory("VmHWM") - resident - more["weights_mb"])
    return result | {"extra_mb": extra, "alignment": float(value)} | more


def times_of(step, repeats):
    """Seconds of so many steps, or of fewer that take twenty seconds together."""
    times = []
    while len(times) < repeats and sum(times) < 20:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return times


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


def our_step(depth, topics, rows, block="auto"):
    import keras
    import tensorflow as tf

    from isra_keras.objective import View, Views
    from isra_keras.semantic import SemanticAlignment
    from isra_keras.semantic.kernels import one_by_one

    keras.utils.set_random_seed(0)
    semantic = SemanticAlignment(topics, receptor_width=WIDTH, variant="reference", topic_block=block)
    semantic.build_parts(depth, 10, depth, {})
    domains = [tf.random.stateless_normal((count, depth), (1, number)) for number, count in enumerate(parts(rows))]
    weights = [weight.value for weight in semantic.receptors.trainable_variables]

    @tf.function(autograph=False)
    def step(*domains):
        views = [View(images=None, pooled=None, features=one, logits=None) for one in domains]
        with tf.GradientTape() as tape, one_by_one(True):  # as the training step
            tape.watch(domains)
            terms = semantic.loss_terms(Views(*views), None)
            total = terms["receptors"] + terms["alignment"]
        gradients = tape.gradient(total, [*domains, *weights])
        return terms["alignment"], terms["receptors"], gradients

    def run():
        alignment, receptors, gradients = step(*domains)
        gradients[0].numpy()
        receptors.numpy()
        return alignment.numpy()

    return run, {"weights_mb": round(sum(4 * int(tf.size(weight)) for weight in weights) / 2**20)}


def loop_step(depth, topics, rows):
    import torch

    from benchmarks.topic_loop import TopicLoop

    torch.manual_seed(0)
    loop = TopicLoop(depth, topics, WIDTH)
    features = torch.randn(rows, depth, requires_grad=True)
    embeddings = torch.relu(torch.randn(rows, topics))
    return lambda: float(loop.step(features, embeddings, parts(rows)[0])[1]), {}


def tensorflow_floor(depth, topics, rows):
    import tensorflow as tf

    features, kernel, slopes = (tf.random.stateless_normal(shape, (2, 3)) for shape in
                                ((rows, depth), (topics, depth, WIDTH), (topics, rows, WIDTH)))  # fmt: skip

    @tf.function(autograph=False)
    def products(features, kernel, slopes):
        turned = tf.transpose(features)[None]  # once, not by `transpose_a`, which takes up to twice as long
        return tf.matmul(features[None], kernel), tf.matmul(turned, slopes), tf.matmul(slopes, kernel, transpose_b=True)

    return lambda: [one[0, 0, 0].numpy() for one in products(features, kernel, slopes)][0], {}


def torch_floor(depth, topics, rows):
    import torch

    features, kernel, slopes = (torch.randn(shape) for shape in
                                ((rows, depth), (topics, depth, WIDTH), (topics, rows, WIDTH)))  # fmt: skip
    copies = features.expand(topics, rows, depth)

    def products():
        made = torch.bmm(copies, kernel), torch.bmm(copies.mT, slopes), torch.bmm(slopes, kernel.mT)
        return float(made[0][0, 0, 0])

    return products, {}


MAKERS = {"ours": our_step, "loop": loop_step, "tensorflow_floor": tensorflow_floor, "torch_floor": torch_floor}
"""{side: function of a size that returns (step, more about it)}; "ours" takes a block, too."""


if __name__ == "__main__":
    main()
