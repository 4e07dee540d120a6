"""What evaluations (predictions, class weights, label-free scores) add to training, and of what they consist.

    python benchmarks/evaluation_share.py               glyphs, features and images; under two minutes on two cores
    python benchmarks/evaluation_share.py --only afn    one case

Each case trains a few steps and evaluates a few times as the runner (images) or the benchmark's cells (features, with
all scores) do. The share is that of a run at the recipe's `eval_interval`: evaluation / (evaluation + interval x step),
medians of both. Real data come from ISRA_TEST_DATA; without it only glyphs are measured.
Writes benchmarks/results/evaluation_share.jsonl.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from measure import data_folder, short, table, write

CASES = {
    "glyphs": {"dataset": "glyphs", "method": "ba3us", "semantic": True, "iterations": 120, "eval_interval": 20},
    "office": {"dataset": "office_caltech10_features", "source": "amazon", "target": "webcam", "method": "ba3us",
               "semantic": True, "iterations": 100, "eval_interval": 20},
    "ba3us": {"dataset": "pacs_features", "source": "photo", "target": "art_painting", "method": "ba3us",
              "semantic": False, "iterations": 100, "eval_interval": 20},
    "afn": {"dataset": "pacs_features", "source": "photo", "target": "art_painting", "method": "afn",
            "semantic": False, "iterations": 100, "eval_interval": 20},
    "shot": {"dataset": "pacs_features", "source": "art_painting", "target": "sketch", "method": "shot",
             "semantic": False, "iterations": 100, "eval_interval": 20},
    "a2kt": {"dataset": "pacs_features", "source": "art_painting", "target": "cartoon", "method": "a2kt",
             "semantic": False, "iterations": 100, "eval_interval": 20},
    "images": {"dataset": "office_caltech10", "source": "webcam", "target": "dslr", "method": "ba3us",
               "semantic": True, "weights": "none", "image_size": 112, "crop_size": 96, "iterations": 9,
               "eval_interval": 3},
}  # fmt: skip


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=tuple(CASES))
    parser.add_argument("--out", help="write the lines there instead")
    args = parser.parse_args(argv)
    names = [args.only] if args.only else [name for name in CASES if name == "glyphs" or data_folder()]
    lines = [measure(name, CASES[name]) for name in names]
    write("evaluation_share", lines, args.out)
    print(table(lines, ["case", "method", "step_ms", "eval_interval", "evaluation_ms", "share", "parts_ms"]))
    if len(names) < len(CASES) and not args.only:
        print("Skipped what needs ISRA_TEST_DATA.")


def measure(name, values):
    """The line of a case."""
    from isra_keras.benchmarking.cell import CellTraining
    from isra_keras.training.build import build_model
    from isra_keras.training.callbacks import Callbacks
    from isra_keras.training.determinism import policy
    from isra_keras.training.prepare import load_data, prepared_folder
    from isra_keras.training.recipes import resolve
    from isra_keras.training.runner import Training

    config = resolve(**values)
    data = {key: value for key, value in values.items() if key not in ("iterations", "eval_interval")}
    recipe = resolve(**data)
    task = load_data(config)
    seconds = {}
    with policy(config), tempfile.TemporaryDirectory() as folder:
        model = build_model(config, task)
        watch(model, ("update",), seconds)
        out = Path(folder) / "run"
        if task.kind == "features":
            training = CellTraining(config, task, model, out)
        else:
            training = Training(config, task, model, out, Callbacks())
        watch(training, ("predict", "scores", "check_collapse", "evaluate", "train_step"), seconds)
        with prepared_folder(out, config, False):
            training.run(resume=False, quiet=True)
    middle = {part: statistics.median(values[1:]) for part, values in seconds.items()}  # the first one compiles
    often = len(seconds["predict"]) // len(seconds["evaluate"])  # target, or target and source
    parts = {"predict": often * middle["predict"], "update": middle["update"], "scores": middle["scores"]}
    step, evaluation = middle["train_step"], middle["evaluate"]
    return {
        "case": name, "dataset": config.dataset, "task": task.name, "method": config.method, "isra": config.semantic,
        "rows": len(task.target) + (len(task.source) if often > 1 else 0), "step_ms": short(1000 * step),
        "eval_interval": recipe.eval_interval, "evaluation_ms": short(1000 * evaluation),
        "share": short(evaluation / (evaluation + recipe.eval_interval * step)),
        "parts_ms": {part: short(1000 * value) for part, value in parts.items()},
    }  # fmt: skip


def watch(thing, names, seconds):
    """Notes what calls of methods take."""
    for name in names:
        method, taken = getattr(thing, name), seconds.setdefault(name, [])

        def timed(*args, method=method, taken=taken, **kwargs):
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                taken.append(time.perf_counter() - started)

        object.__setattr__(thing, name, timed)


if __name__ == "__main__":
    main()
