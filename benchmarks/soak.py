"""Long runs: is anything growing?

    python benchmarks/soak.py train [--steps 20000]       one training on glyphs, watched
    python benchmarks/soak.py predict [--images 200000]   one prediction of many files, killed twice and resumed

Prints one JSON line, and appends it to --out.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main(argv=None):
    """Runs a probe; 1 if it found something."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("probe", choices=("train", "predict"))
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--images", type=int, default=200000)
    parser.add_argument("--run", default=str(ROOT / "app" / "bundled"), help="run folder that predicts")
    parser.add_argument("--out", help="append the line to this file as well")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        line = (train if args.probe == "train" else predict)(args, Path(folder))
    print(json.dumps(line))
    if args.out:
        with open(args.out, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return int(not line["good"])


def train(args, folder):
    """ISRA + BA3US on glyphs in small batches; memory, time and handles every 1 % of the way."""
    from isra_keras.training.callbacks import RunCallback
    from isra_keras.training.recipes import resolve
    from isra_keras.training.runner import run

    every = max(1, args.steps // 100)
    samples = []

    class Watch(RunCallback):
        def on_step(self, step, logs):
            if step % every == 0:
                samples.append((step, time.process_time(), resident(os.getpid()), len(os.listdir("/proc/self/fd"))))

    config = resolve(dataset="glyphs", iterations=args.steps, batch_size=12, num_topics=8, receptor_width=16,
                     eval_interval=args.steps // 20)  # fmt: skip
    run(config, folder / "run", callbacks=[Watch()], quiet=True)
    late = [row for row in samples if row[0] > args.steps // 4]
    plateaus = plateaus_of(config, samples)
    slope, error = fitted(*np.concatenate([centred(rows) for rows in plateaus], axis=1))
    half = len(late) // 2
    first, second = ((part[-1][1] - part[0][1]) / (len(part) - 1) for part in (late[:half], late[half:]))
    sizes = {name: sum(f.stat().st_size for f in (folder / "run").glob(pattern))
             for name, pattern in (("metrics_kb", "metrics.jsonl"), ("tensorboard_kb", "tensorboard/*"))}  # fmt: skip
    return {
        "probe": "train", "steps": args.steps, "memory_mb_by_middle_size": [round(rows[-1][2]) for rows in plateaus],
        "mb_per_1000_steps": [round(slope, 3), round(error, 3)], "processor_time_second_half_to_first": round(second / first, 3),
        "handles": [late[0][3], late[-1][3]], **{name: round(size / 1024) for name, size in sizes.items()},
        "checkpoints": len(list((folder / "run" / "checkpoints").glob("step_*.npz"))),
        "good": slope - 2 * error < 0.5 and late[-1][3] <= late[0][3] + 2,
    }  # fmt: skip


def plateaus_of(config, samples):
    """Samples by size of the middle batch, the later half of each: the first steps of a size may take memory."""
    from isra_keras.methods import get_method

    method, begin = get_method(config.method)(**config.method_options), round(config.warmup * config.iterations)
    length, found = config.iterations - begin, {}
    for row in samples:
        step = row[0] - begin
        size = method.middle_size(step, config.batch_size, length, config.eval_interval) if step >= 0 else None
        found.setdefault(size, []).append(row)
    return [rows[len(rows) // 2 :] for size, rows in found.items() if size is not None and len(rows) > 10]


def centred(rows):
    """(2, n) thousands of steps and MB, both about their means."""
    values = np.asarray([(row[0] / 1000, row[2]) for row in rows]).T
    return values - values.mean(axis=1, keepdims=True)


def predict(args, folder):
    """Many names of a few images; SIGKILL at two random moments; every path has one row in the end."""
    from PIL import Image

    from isra_keras.data import glyphs

    images = glyphs.handwritten()[0]
    (folder / "few").mkdir()
    for number in range(50):
        Image.fromarray(images[number * 35]).save(folder / "few" / f"{number:02d}.png")
    for start in range(0, args.images, 1000):
        (folder / "many" / f"{start // 1000:04d}").mkdir(parents=True)
        for number in range(start, min(start + 1000, args.images)):
            link = folder / "many" / f"{start // 1000:04d}" / f"{number:07d}.png"
            os.link(folder / "few" / f"{number % 50:02d}.png", link)
    out, part, draw, peaks, kills = folder / "rows.csv", folder / "rows.csv.part", random.Random(3), [], 0
    command = [sys.executable, "-m", "isra_keras.predict", args.run, str(folder / "many"), "--out", str(out), "--quiet"]
    started = time.monotonic()
    for share in (draw.uniform(0.2, 0.4), draw.uniform(0.5, 0.8), None):
        process = subprocess.Popen(command + ["--resume"] * (kills > 0), cwd=ROOT, stderr=subprocess.DEVNULL)
        memory = []
        while process.poll() is None:
            memory.append(resident(process.pid))
            if share is not None and part.is_file() and part.stat().st_size > share * args.images * row_bytes(part):
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            time.sleep(0.2)
        steady = memory[len(memory) // 3 :]
        peaks.append([round(steady[0]), round(max(steady))] if steady else None)
    with open(out, newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    repeated, missing = len(paths) - len(set(paths)), args.images - len(set(paths))
    return {
        "probe": "predict", "images": args.images, "kills": kills, "rows": len(paths), "repeated": repeated,
        "missing": missing, "memory_mb_steady_and_peak": peaks, "seconds": round(time.monotonic() - started),
        "good": not repeated and not missing and kills == 2,
    }  # fmt: skip


def row_bytes(path, count=200):
    """Mean bytes of the first rows of a CSV; infinite while there are fewer."""
    with open(path, "rb") as file:
        rows = [line for _, line in zip(range(count + 1), file)][1:]
    return sum(map(len, rows)) / count if len(rows) == count else float("inf")


def resident(pid):
    """MB of a process in memory now; 0 once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def fitted(x, y):
    """(slope, its standard error) of a straight line."""
    from scipy.stats import linregress

    line = linregress(x, y)
    return float(line.slope), float(line.stderr)


if __name__ == "__main__":
    sys.exit(main())
