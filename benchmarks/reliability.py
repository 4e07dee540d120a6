"""The same faults for stock Keras and for this project, side by side.

    python benchmarks/reliability.py [--only PROBE] [--out benchmarks/RELIABILITY.md]
                                     [--lines benchmarks/results/reliability.jsonl]

Stock Keras is `model.fit` with `BackupAndRestore` and `ModelCheckpoint`, and `image_dataset_from_directory`; this
project is `isra_keras.training.runner.run` with source only, so that both train the same layers on the same rows.
Each side of a probe runs in a process and a folder of its own. Lines of probes that are not run again are kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.reliability_probes import PROBES  # noqa: E402
from benchmarks.reliability_probes.running import ROOT, SIDES, environment  # noqa: E402
from isra_keras.benchmarking.store import commit  # noqa: E402

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
HERE = Path(__file__).resolve().parent
LIMIT = 1300
PACKAGES = ("keras", "tensorflow", "pillow", "h5py")


def build_parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=tuple(PROBES), metavar="PROBE", help=f"one of {', '.join(PROBES)}")
    parser.add_argument("--out", default=HERE / "RELIABILITY.md", type=Path, help="the report")
    parser.add_argument("--lines", default=HERE / "results" / "reliability.jsonl", type=Path, help="what was measured")
    parser.add_argument("--one", nargs=3, metavar=("PROBE", "SIDE", "FOLDER"), help=argparse.SUPPRESS)
    return parser


def main(argv=None):
    """Runs the probes, writes lines and report; 1 if a probe could not be carried out."""
    args = build_parser().parse_args(argv)
    if args.one:
        name, side, folder = args.one
        print("\n" + json.dumps(PROBES[name].run(side, Path(folder), **PROBES[name].options)))
        return 0
    lines, failed = read_lines(args.lines), False
    for name in [args.only] if args.only else PROBES:
        for side in SIDES:
            line = measure(name, side)
            failed |= "failed" in line
            lines[name, side] = line
            print(f"{name:20} {side:6} {line['seconds']:5.1f} s  {line.get('failed') or line['cell']}", flush=True)
            write_lines(args.lines, lines)
    args.out.write_text(report(lines), encoding="utf-8")
    return int(failed)


def measure(name, side):
    """The line of one side of a probe; "failed" in it if the probe itself went wrong."""
    started = time.monotonic()
    line = {"probe": name, "side": side, "commit": commit(), **{package: version(package) for package in PACKAGES}}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", name, side, os.path.realpath(folder)]
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=LIMIT)
            good = done.returncode == 0
            result = json.loads(done.stdout.splitlines()[-1]) if good else {"failed": done.stderr[-3000:]}
        except subprocess.TimeoutExpired:
            result = {"failed": f"not done after {LIMIT} s"}
    return line | {"seconds": round(time.monotonic() - started, 1)} | result


def read_lines(path):
    """{(probe, side): line} of a file of earlier measurements."""
    if not path.is_file():
        return {}
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return {(line["probe"], line["side"]): line for line in lines}


def write_lines(path, lines):
    """All lines, in the order of the table."""
    ordered = [lines[name, side] for name in PROBES for side in SIDES if (name, side) in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in ordered), encoding="utf-8")


def report(lines):
    """Markdown of all lines: one row a probe."""
    measured = [line for line in lines.values() if "failed" not in line]
    versions = {package: "/".join(sorted({line[package] for line in measured})) for package in PACKAGES}
    commits = sorted({line["commit"] or "unknown" for line in measured})  # outside of git
    sizes = " / ".join(sorted({f"{line['parameters']:,}" for line in measured if "parameters" in line}))
    head = [
        "# The same faults, side by side",
        "",
        "Written by `python benchmarks/reliability.py` from `benchmarks/results/reliability.jsonl`; "
        f"{', '.join(f'{package} {found}' for package, found in versions.items())}; "
        f"commit {', '.join(commits)}.",
        "",
        "Stock Keras is `model.fit` with `BackupAndRestore` and `ModelCheckpoint` (and op determinism), images by "
        "`keras.utils.image_dataset_from_directory`. This project is `isra_keras.training.runner.run` with "
        f"`source_only`, which always shuffles. Both have the same layers{f' ({sizes} weights)' if sizes else ''}, "
        "rows and seed. Words in quotation marks are what a user is told; … is a path.",
        "",
        "| probe | stock Keras | isra_keras |",
        "|---|---|---|",
    ]
    rows = [(probe.title, *(cell(lines.get((name, side))) for side in SIDES)) for name, probe in PROBES.items()]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def cell(line):
    """Text of a cell of the table."""
    if line is None:
        return "not run"
    return ("the probe failed" if "failed" in line else line["cell"]).replace("|", "/").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
