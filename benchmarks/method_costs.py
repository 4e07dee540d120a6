"""Seconds per 1,000 iterations and peak memory of every method, without and with ISRA, at one setting.

    python benchmarks/method_costs.py                    PACS features (photo to art painting): eight minutes of one core
    python benchmarks/method_costs.py --dataset glyphs   images of 32 x 32 pixels, small_cnn: about twelve
    python benchmarks/method_costs.py --only ba3us slm   these methods; the others' lines stay

Every row trains in a process of its own, held to one core and one thread, with the runner itself: the same data, batches,
width of the bottleneck, number of iterations and topics; optimiser, extra parts and stages are the method's own recipe.
A stage's seconds an iteration are the median over its second half, so that compiling and evaluating are not in them; rows
of methods with several stages weigh them by their length. Needs ISRA_TEST_DATA but for glyphs. Prints a table and writes
benchmarks/results/method_costs.jsonl, one line at a time: a line of the same dataset, method and variant is replaced.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from measure import ROOT, data_folder, peak_memory, renew, table

SETTINGS = {
    "pacs_features": {"source": "photo", "target": "art_painting", "iterations": 240, "feature_dim": 256, "num_topics": 64},
    "glyphs": {"source": "printed", "target": "handwritten", "iterations": 120, "feature_dim": 128, "num_topics": 32},
}
FIGURE = "pacs_features"
VARIANTS = ("off", "reference", "paper")
KEYS = ("dataset", "method", "isra")
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"
)


def main(argv=None):
    from isra_keras.methods import METHODS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=tuple(SETTINGS), default="pacs_features")
    parser.add_argument("--only", nargs="+", choices=tuple(METHODS), metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS[:2], help="default off reference")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # JSON of `measure`, in the row's own process
    parser.add_argument("--out", help="write the lines there instead")
    args = parser.parse_args(argv)
    if args.row:
        print(json.dumps(measure(**json.loads(args.row))))
        return 0
    if args.dataset != "glyphs" and not data_folder():
        print("Needs ISRA_TEST_DATA, the folder of real data: name it, or measure --dataset glyphs.")
        return 1
    lines = []
    for method in args.only or METHODS:
        for isra in args.variants:
            lines.append(in_own_process({"dataset": args.dataset, "method": method, "isra": isra}))
            renew("method_costs", lines[-1:], KEYS, args.out)
            print(f"{method} {isra}: {lines[-1]['s_per_1000']} s, {lines[-1]['peak_memory_mb']} MB", file=sys.stderr, flush=True)
    print(table(side_by_side(lines)))
    return 0


def side_by_side(lines):
    """A row for each dataset and method: without and with ISRA.

    Args:
        lines: of `measure`.

    Returns:
        Flat dicts: "s_per_1000", "compile_s", "peak_memory_mb" of each variant there is, and "isra_adds_s", the seconds
        that the reference variant (or the paper's, where it is alone) adds to 1,000 iterations.
    """
    found = {}
    for line in lines:
        found.setdefault((line["dataset"], line["method"]), {})[line["isra"]] = line
    variants = [name for name in VARIANTS if any(name in one for one in found.values())]
    rows = []
    for (dataset, method), by_variant in found.items():
        row = {"dataset": dataset, "method": method}
        for field in ("s_per_1000", "compile_s", "peak_memory_mb"):
            for name in variants:
                title = field if name == "off" else f"{field}, ISRA ({name})"
                row[title] = by_variant[name][field] if name in by_variant else None
            if field == "s_per_1000" and "off" in by_variant and len(by_variant) > 1:
                other = by_variant.get("reference") or by_variant["paper"]
                row["isra_adds_s"] = round(other[field] - by_variant["off"][field], 2)
        rows.append(row)
    return rows


def in_own_process(row):
    """The line of a row, from a fresh process on one core."""
    command = [sys.executable, __file__, "--row", json.dumps(row)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | ONE_THREAD, preexec_fn=to_one_core)
    if done.returncode:
        raise SystemExit(f"{row} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def to_one_core():
    """Holds this process to the last of its cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def measure(dataset, method, isra):
    """The line of a row: trains here.

    Returns:
        {"dataset", "method", "isra", "s_per_1000", "compile_s", "evaluation_ms", "peak_memory_mb", "iterations",
        "feature_dim", "batch_size"}. "compile_s": what steps of more than three times the usual take beyond it.
    """
    import isra_keras

    setting = SETTINGS[dataset]
    given = {name: value for name, value in setting.items() if name != "num_topics"}
    if isra != "off":
        given |= {"semantic": True, "variant": isra, "num_topics": setting["num_topics"]}
    if data_folder():
        given["data_dir"] = str(data_folder())
    # No warm-up, where all methods would take the same steps on source labels alone.
    config = isra_keras.resolve(**({"semantic": False} | given), dataset=dataset, method=method, warmup=0.0,
                                eval_interval=setting["iterations"] // 4)  # fmt: skip
    clock = make_clock()
    with tempfile.TemporaryDirectory() as folder:
        isra_keras.run(config, folder, callbacks=[clock], quiet=True)
    usual = {name: statistics.median(taken[len(taken) // 2 :]) for name, taken in clock.stages.items()}
    steps = sum(map(len, clock.stages.values()))
    late = [second - usual[name] for name, taken in clock.stages.items() for second in taken if second > 3 * usual[name]]
    return {
        "dataset": dataset, "method": method, "isra": isra,
        "s_per_1000": round(1000 * sum(usual[name] * len(taken) for name, taken in clock.stages.items()) / steps, 2),
        "compile_s": round(sum(late), 1), "evaluation_ms": round(1000 * statistics.median(clock.evaluations)),
        "peak_memory_mb": round(peak_memory()), "iterations": steps, "feature_dim": config.feature_dim,
        "batch_size": config.batch_size,
    }  # fmt: skip


def make_clock():
    """A callback with the seconds of all steps by stage, and of all evaluations."""
    from isra_keras.training.callbacks import RunCallback

    class Clock(RunCallback):
        def __init__(self):
            self.stages, self.evaluations, self.steps, self.since = {}, [], [], time.perf_counter()

        def passed(self):
            before, self.since = self.since, time.perf_counter()
            return self.since - before

        def on_step(self, step, logs):
            float(logs["loss"])  # waits for the step
            self.steps.append(self.passed())

        def on_evaluation(self, entry, model):  # there is one at the end of every stage
            self.evaluations.append(self.passed())
            self.stages.setdefault(entry["stage"], []).extend(self.steps)
            self.steps = []

    return Clock()


if __name__ == "__main__":
    sys.exit(main())
