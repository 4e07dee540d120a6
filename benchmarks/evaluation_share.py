"""What evaluations (predictions, class weights, label-free scores) add to training, and of what they consist.

    python benchmarks/evaluation_share.py               glyphs, features and images; under two minutes on two cores
    python benchmarks/evaluation_share.py --only afn    one case; the others' lines stay
    python benchmarks/evaluation_share.py --compare 3dba5a9815    some cases at that commit and here, in turn

Each case trains a few steps and evaluates a few times as the runner (images) or the benchmark's cells (features, with
all scores) do. The share is that of a run at the recipe's `eval_interval`: evaluation / (evaluation + interval x step),
medians of both. Real data come from ISRA_TEST_DATA; without it only glyphs are measured.
Writes benchmarks/results/evaluation_share.jsonl; --compare writes evaluation_cheaper.jsonl, the older lines first.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from measure import ROOT, data_folder, read, renew, short, table, write

CASES = {
    "glyphs": {"dataset": "glyphs", "method": "ba3us", "semantic": True, "iterations": 60, "eval_interval": 20},
    "office": {"dataset": "office_caltech10_features", "source": "amazon", "target": "webcam", "method": "ba3us",
               "semantic": True, "iterations": 60, "eval_interval": 12},
    "ba3us": {"dataset": "pacs_features", "source": "photo", "target": "art_painting", "method": "ba3us",
              "semantic": False, "iterations": 60, "eval_interval": 12},
    "afn": {"dataset": "pacs_features", "source": "photo", "target": "art_painting", "method": "afn",
            "semantic": False, "iterations": 60, "eval_interval": 12},
    "shot": {"dataset": "pacs_features", "source": "art_painting", "target": "sketch", "method": "shot",
             "semantic": False, "iterations": 60, "eval_interval": 12},
    "a2kt": {"dataset": "pacs_features", "source": "art_painting", "target": "cartoon", "method": "a2kt",
             "semantic": False, "iterations": 60, "eval_interval": 12},
    "images": {"dataset": "office_caltech10", "source": "webcam", "target": "dslr", "method": "dann",
               "semantic": False, "weights": "none", "image_size": 112, "crop_size": 96, "iterations": 6,
               "eval_interval": 2},
}  # fmt: skip
# Images: without BA3US, whose extra batch changes its size, hence is compiled anew, at every step of so short a run.
COMPARED = ("shot", "afn", "a2kt")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=tuple(CASES))
    parser.add_argument("--compare", metavar="COMMIT", help=f"measure {', '.join(COMPARED)} (or --only) at both commits")
    parser.add_argument("--out", help="write the lines there instead")
    args = parser.parse_args(argv)
    if args.compare:
        lines = compare(args.compare, [args.only] if args.only else COMPARED, args.out)
        print(table(lines, ["case", "when", "commit", "evaluation_ms", "parts_ms"]))
        return
    names = [args.only] if args.only else [name for name in CASES if name == "glyphs" or data_folder()]
    lines = []
    for name in names:
        lines.append(measure(name, CASES[name]))
        renew("evaluation_share", lines[-1:], ("case",), args.out)
    print(table(lines, ["case", "method", "step_ms", "eval_interval", "evaluation_ms", "share", "parts_ms"]))
    if len(names) < len(CASES) and not args.only:
        print("Skipped what needs ISRA_TEST_DATA.")


def compare(commit, names, out=None):
    """Lines of cases in the code of a commit ("before") and in this one ("after"), which take turns."""
    if not data_folder() and set(names) - {"glyphs"}:
        raise SystemExit("Expected ISRA_TEST_DATA to name the folder of real data; received none. Set it, or take --only glyphs.")
    found = {"before": [], "after": []}
    with worktree(commit) as folder:
        for name in names:
            for when, root in (("before", folder), ("after", ROOT)):
                found[when].append({"when": when} | measured_in(root, name))
                lines = found["before"] + found["after"]
                write("evaluation_cheaper", lines, out)
    return lines


def measured_in(root, name):
    """The line of a case in the code that lies in `root`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "line.jsonl"
        command = [sys.executable, str(Path(root) / "benchmarks" / Path(__file__).name), "--only", name, "--out", str(out)]
        done = subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"Measuring {name} in {root} failed:\n{done.stderr[-2000:]}")
        return read("evaluation_share", out)[0]


@contextmanager
def worktree(commit):
    """A folder with the code of a commit, and in it today's scripts, which that commit need not have."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "code"
        git = ["git", "-C", str(ROOT), "worktree"]
        made = subprocess.run([*git, "add", "--quiet", "--detach", str(place), commit], capture_output=True, text=True)
        if made.returncode:
            raise SystemExit(f"Expected a commit of this repository; received {commit!r} ({made.stderr.strip()}). "
                             "`git log --oneline` lists them.")  # fmt: skip
        try:
            for script in (Path(__file__).name, "measure.py"):
                shutil.copy(Path(__file__).with_name(script), place / "benchmarks" / script)
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", str(place)], capture_output=True)


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
