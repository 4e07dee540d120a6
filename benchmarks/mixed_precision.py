"""Accuracy and step time of Keras's mixed precisions against float32.

    python benchmarks/mixed_precision.py            glyphs and Office-Caltech10 features; without bfloat16 in hardware, hours
    python benchmarks/mixed_precision.py --quick    small_cnn's step, one task of features, fewer seeds and iterations
    python benchmarks/mixed_precision.py --only small_cnn glyphs    these parts; the others' lines stay

`mixed_float16` (with loss scaling) is meant for GPUs, `mixed_bfloat16` for CPUs with AVX512-BF16 or AMX: others compute
it in float32 with conversions around. Here half precision is the backbone's alone; bottleneck, classifier, discriminators
and all losses stay in float32, so on features it rounds the features and nothing more.

accuracy  ISRA + BA3US by recipe, of the last evaluation (no choice blurs it), mean and sample spread over seeds. "within"
          says whether the difference of the means is at most the seed spread (the larger of the two).
step      the same step in one process, precisions taking turns: ratio of medians, float32 = 1.

Writes benchmarks/results/mixed_precision.jsonl (mixed_precision_quick.jsonl).
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from measure import data_folder, instructions, renew, short, table, turns

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
PAIRS = (("amazon", "caltech10"), ("dslr", "amazon"), ("webcam", "caltech10"))
STEPS = {"small_cnn": (32, 32, 3), "mobilenet_v2": (96, 96, 3)}
PARTS = (*STEPS, "glyphs", "office_caltech10_features")
KEYS = ("probe", "backbone", "side", "data", "precision", "instructions")
"""What a line is of; the processor too, since some compute bfloat16 and others emulate it."""


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", help="write the lines there instead")
    args = parser.parse_args(argv)
    seeds, iterations = (2, 100) if args.quick else (3, 300)
    parts = args.only or [PARTS[0], PARTS[-1]] if args.quick else args.only or PARTS
    runs = [{"dataset": "glyphs"}]
    if data_folder():
        runs += [{"dataset": PARTS[-1], "source": source, "target": target}
                 for source, target in PAIRS[: 1 if args.quick else 3]]  # fmt: skip
    lines, processor = [], instructions()

    def keep(found):
        found = [{"instructions": processor} | line for line in found]
        lines.extend(found)
        renew("mixed_precision" + "_quick" * args.quick, found, KEYS, args.out)

    for name in (each for each in STEPS if each in parts):
        keep([step_line(name, STEPS[name], 3 if args.quick else 9)])
    for data in (each for each in runs if each["dataset"] in parts):
        keep(accuracy_lines(data, range(seeds), iterations))
    print(f"This processor has {processor}: {native()}")
    for probe in ("step", "accuracy"):
        shown = [line for line in lines if line["probe"] == probe]
        print(table([{k: v for k, v in line.items() if k not in ("probe", "instructions")} for line in shown]), "\n")
    if not data_folder():
        print("Skipped what needs ISRA_TEST_DATA.")


def native():
    """What bfloat16 runs on."""
    has = {"avx512_bf16", "amx_bf16"} & set(instructions().split())
    return "bfloat16 in hardware." if has else "no bfloat16 arithmetic, it is emulated."


def accuracy_lines(data, seeds, iterations):
    """A line for each precision on a task."""
    found, seconds = {name: [] for name in PRECISIONS}, {name: [] for name in PRECISIONS}
    for seed in seeds:
        for precision in PRECISIONS:
            started = time.perf_counter()
            found[precision].append(100 * accuracy(data, seed, precision, iterations))
            seconds[precision].append(time.perf_counter() - started)
    lines = []
    for precision, values in found.items():
        difference = statistics.mean(values) - statistics.mean(found["float32"])
        spread = max(statistics.stdev(values), statistics.stdev(found["float32"]))
        name = "-".join([data["dataset"], *(data[key] for key in ("source", "target") if key in data)])
        lines.append({
            "probe": "accuracy", "data": name, "precision": precision, "seeds": len(values), "iterations": iterations,
            "accuracy": round(statistics.mean(values), 2), "spread": round(statistics.stdev(values), 2),
            "difference": round(difference, 2), "within": abs(difference) <= max(spread, 0.01),
            "values": ", ".join(f"{value:.1f}" for value in values),
            "run_seconds": short(statistics.median(seconds[precision])),
        })  # fmt: skip
    return lines


def accuracy(data, seed, precision, iterations):
    """The last evaluation's accuracy of a run."""
    from isra_keras.training.recipes import resolve
    from isra_keras.training.runner import run

    config = resolve(**data, precision=precision, seed=seed, iterations=iterations, eval_interval=iterations // 4)
    with tempfile.TemporaryDirectory() as folder:
        return run(config, Path(folder) / "run", quiet=True).last.accuracy


def step_line(backbone, shape, rounds):
    """The line of step times, precisions in turn."""
    steps = {precision: make_step(backbone, shape, precision) for precision in PRECISIONS}
    seconds = turns(steps, rounds)
    ratios = {f"{name}_ratio": short(seconds[name] / seconds["float32"]) for name in PRECISIONS[1:]}
    return {"probe": "step", "backbone": backbone, "side": shape[0], "float32_ms": short(1000 * seconds["float32"]),
            **ratios}  # fmt: skip


def make_step(backbone, shape, precision):
    """Function that trains a step of ISRA + BA3US on a random batch."""
    import keras
    import numpy as np

    from isra_keras.backbones import build_network
    from isra_keras.methods import get_method
    from isra_keras.model import AdaptationModel
    from isra_keras.semantic import SemanticAlignment

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        network = build_network(backbone, 10, 128, shape, "none")
        model = AdaptationModel(network, get_method("ba3us")(), SemanticAlignment(32), max_iterations=1000)
        model.compile()
        draw = np.random.default_rng(0)
        batch = {
            part: {"images": draw.integers(0, 256, (rows, *shape)).astype("float32"),
                   "labels": draw.integers(0, 10, rows).astype("int32"), "indices": np.arange(rows, dtype="int32")}
            for part, rows in (("source", 36), ("target", 36))
        }  # fmt: skip
        model.train_on(batch)
    finally:
        keras.config.set_dtype_policy(before)
    return lambda: float(model.train_on(batch)["loss"])


if __name__ == "__main__":
    main()
