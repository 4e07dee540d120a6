"""Printed characters (36 classes) to handwritten digits (10): source only, BA3US, and ISRA on top in both variants.

    python benchmarks/glyphs.py --jobs 2        the whole table: 4 rows x 5 seeds, finished cells are passed over
    python benchmarks/glyphs.py --table         only the table, from benchmarks/results/glyphs_variants.jsonl

Every cell is `isra_keras.train` with the recipe of the dataset; the model is selected by the lowest mean entropy of
the target's predictions. One line a cell in benchmarks/results/glyphs_variants.jsonl.
"""

import argparse
import json
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
RESULTS = Path(__file__).parent / "results" / "glyphs_variants.jsonl"
ROWS = {
    "source only": {"method": "source_only", "semantic": False},
    "BA3US": {"method": "ba3us", "semantic": False},
    "ISRA + BA3US, reference": {"method": "ba3us", "semantic": True, "variant": "reference"},
    "ISRA + BA3US, paper": {"method": "ba3us", "semantic": True, "variant": "paper"},
}
RECEPTORS = ("receptor_r2", "receptor_mean_weight", "attention_sparsity")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1, help="cells at once, each on its share of the cores")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    done = read(args.results)
    if not args.table:
        done += run_cells(args, [
            (name, given | {"seed": seed, "iterations": args.iterations})
            for seed in range(args.seeds)
            for name, given in ROWS.items()
            if not any(line["row"] == name and line["seed"] == seed for line in done)
        ])  # fmt: skip
    text = table(done)
    print(text)
    if not args.table:
        args.results.with_suffix(".md").write_text(text, encoding="utf-8")


def run_cells(args, cells):
    """Their lines; each is written as soon as it is there."""
    threads = max((os.cpu_count() or 1) // args.jobs, 1)
    lines = []
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(cell, name, given, threads) for name, given in cells]):
            lines.append(future.result())
            with open(args.results, "a", encoding="utf-8") as file:
                file.write(json.dumps(lines[-1]) + "\n")
    return lines


def cell(name, given, threads=0):
    """Trains one cell on so many threads (0: as many as cores); returns its line."""
    import tensorflow as tf

    from isra_keras.benchmarking.store import commit
    from isra_keras.training.recipes import resolve
    from isra_keras.training.runner import run

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        result = run(resolve(dataset="glyphs", **given), Path(folder) / "run")
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    train = [line for line in map(json.loads, lines) if line["kind"] == "train"]
    accuracy = {choice: round(100 * getattr(result, choice).accuracy, 2) for choice in ("selected", "last", "oracle")}
    return {
        "row": name, **given, **accuracy, "selected_step": result.selected.step,
        "judged_shared": result.shared_classes, "seconds": round(result.seconds, 1),
        "steps_per_second": round(result.steps_per_second, 1), "peak_memory_mb": round(result.peak_memory_mb),
        "data_wait_share": round(result.data_wait_share, 4), "commit": commit(),
        **{key: round(train[-1][key], 4) for key in RECEPTORS if key in train[-1]},
    }  # fmt: skip


def read(path):
    """Lines of a jsonl file; none if it is not there."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(lines):
    """Markdown: label-free results, then, apart, what the target's labels would have picked."""
    text = "".join(_half(lines, choices, title) for choices, title in (
        (("selected", "last"), "Accuracy on the target (%), label-free"),
        (("oracle",), "Upper bound: the evaluation with the best target accuracy, picked BY target labels"),
    ))  # fmt: skip
    return text.strip() + "\n"


def _half(lines, choices, title):
    seeds = sorted({line["seed"] for line in lines})
    head = [f"{choice}, mean ± std" for choice in choices] + [f"seed {seed}" for seed in seeds]
    rows = [f"\n{title}\n", "| |" + "|".join(head) + "|", "|---|" + "---:|" * len(head)]
    for name in ROWS:
        mine = sorted((line for line in lines if line["row"] == name), key=lambda line: line["seed"])
        if mine:
            cells = [_mean([line[choice] for line in mine]) for choice in choices]
            cells += [f"{line[choices[0]]:.1f}" for line in mine]
            rows.append(f"| {name} |" + "|".join(cells) + "|")
    return "\n".join(rows) + "\n"


def _mean(values):
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {spread:.1f}"


if __name__ == "__main__":
    main()
