"""All speed benchmarks in one go, their ratios, and the page about them: `make bench`.

    python benchmarks/bench.py             every script at its quick setting, at most ten minutes on two cores
    python benchmarks/bench.py --report    measures nothing: only the page and its figures, from what is there

Scripts write their lines to benchmarks/results/NAME.jsonl, at a quick setting to NAME_quick.jsonl. benchmarks/README.md
and benchmarks/figures/ are made from these lines (the full ones where there are both); no number in them is typed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from measure import RESULTS, ROOT, cell, table

PAGE, FIGURES = ROOT / "benchmarks" / "README.md", ROOT / "benchmarks" / "figures"
HIDDEN = ("probe", "commit", "cores", "instructions", "tensorflow", "keras", "numpy")
LIMIT = 600  # seconds a script, on a busy machine too

SCRIPTS = {
    "onednn": ["--quick"],
    "train_step": ["--backbone", "small_cnn", "--steps", "40"],
    "semantic_step": [],
    "evaluation_share": [],
    "adapt_peer": ["--quick"],
    "input_pipeline": ["--quick"],
    "mixed_precision": ["--quick"],
}
"""{script: arguments}; what is missing is named and skipped."""

TITLES = {
    "semantic_step": "ISRA's own step",
    "train_step": "What ISRA adds to a training step",
    "input_pipeline": "Images arriving",
    "evaluation_share": "Evaluations",
    "evaluation_cheaper": "Evaluations, before and after",
    "onednn": "oneDNN",
    "mixed_precision": "Mixed precision",
    "adapt_peer": "Beside `adapt`",
}
READING = {
    "semantic_step": "Milliseconds of a step on (rows, depth) features; loop_over_ours: how many times as long the loop "
    "takes; ours_over_floor: how many times as long as the bare products we take. Below it, one step in blocks: extra_mb "
    "is what it takes beyond weights and gradients, whole_mb and difference those of the same step in one piece.",
    "train_step": "isra_adds: share of BA3US's step that ISRA adds; seconds of a step.",
    "input_pipeline": "ratio: images a second over those of the bare work (aim: target); share of a step that waits; "
    "seconds from files to the first batch without the import of TensorFlow, memory with it (aims: target_seconds, "
    "target_memory_mb).",
    "evaluation_share": "share: of a run's time at the recipe's interval (steps between two evaluations).",
    "evaluation_cheaper": "Milliseconds of an evaluation at two commits, run in turn: the older lines first.",
    "onednn": "off_over_on: how many times as long a step takes without oneDNN.",
    "mixed_precision": "ratio: how many times as long as float32's a step takes. Slower: this processor has neither "
    "half-precision type, which is emulated; they are meant for GPUs and for processors with AVX512-BF16 or AMX. On "
    "features half precision rounds the features and nothing more, so that equal accuracies say little.",
    "adapt_peer": "ratio: our iterations a second over adapt's (aim: target); bare_ratio: of the compiled step alone; "
    "cpu_ratio: of processor time; products_share: what the step's large matrix products alone, the same on both sides, "
    "take of our bare step.",
}
"""{script: what its columns mean}, under the command."""

COMMANDS = {
    "semantic_step": ("", " --many"),
    "train_step": (" --backbone mobilenet_v2", " --backbone resnet50", " --backbone small_cnn --steps 60"),
}
"""{script: arguments of the commands that made its lines} where it takes several."""

LEFT_OUT = {"evaluation_cheaper": ("step_ms", "share", "eval_interval")}
"""{results: columns that say nothing in this comparison}."""

SAME_SCRIPT = {"evaluation_cheaper": "evaluation_share"}
"""{results: the script of another name that wrote them}: its lines at two commits, run in turn on one machine."""

ENTRIES = {
    "semantic_step": (
        "loop_over_ours",
        lambda line: f"d {line['depth']}, J {line['topics']}, n {line['rows']}",
        "time of a loop over topics in PyTorch / ours",
    ),
    "input_pipeline": ("ratio", lambda line: line.get("from"), "images a second over the bare work's"),
    "evaluation_share": (
        "share",
        lambda line: f"{line['method']}{' + ISRA' if line['isra'] else ''}, {line['dataset']} {line['task']}",
        "share of a run that is evaluation",
    ),
    "evaluation_cheaper": (
        "evaluation_ms",
        lambda line: f"{line['method']}, {line['dataset']} {line['task']}, {line['when']}",
        "milliseconds an evaluation",
    ),
    "onednn": ("off_over_on", lambda line: line["step"], "time of a step without oneDNN over the time with it"),
    "adapt_peer": ("ratio", lambda line: line["method"], "our iterations a second over adapt's"),
    "train_step": (
        "isra_adds",
        lambda line: f"{line['backbone']} {line['side']} px",
        "what ISRA adds, as a share of BA3US's step",
    ),
}
"""{script: (field, name of a line, axis)} of the figures."""


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args(argv)
    failed = [] if args.report else [name for name, options in SCRIPTS.items() if not run(name, options)]
    write_page()
    print(
        f"{PAGE.relative_to(ROOT)} and {FIGURES.relative_to(ROOT)}/ are new."
        + (f" Failed: {', '.join(failed)}." if failed else "")
    )
    return int(bool(failed))


def run(name, options):
    """Runs a script and shows what it says; False if it failed."""
    script = Path(__file__).with_name(f"{name}.py")
    if not script.is_file():
        print(f"## {name}: there is no {script.name}; skipped\n", flush=True)
        return True
    print(f"## {name} {' '.join(options)}", flush=True)
    started = time.monotonic()
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    try:
        found = subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True, timeout=LIMIT,
                               cwd=ROOT, env=environment)  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"not done after {LIMIT} s\n", flush=True)
        return False
    print(found.stdout.strip() if found.returncode == 0 else found.stderr.strip()[-2000:])
    print(f"({time.monotonic() - started:.0f} s)\n", flush=True)
    return found.returncode == 0


def lines_of(name):
    """(lines of a script, whether they are of the quick setting)."""
    for quick, path in ((False, RESULTS / f"{name}.jsonl"), (True, RESULTS / f"{name}_quick.jsonl")):
        if path.is_file():
            return [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines() if row.strip()], quick
    return [], False


def write_page():
    """benchmarks/README.md and the figures."""
    parts = ["# Speed", "", "Generated by `python benchmarks/bench.py --report` from benchmarks/results/*.jsonl; measure anew with "
             "`make bench`. Ratios are of one run in which both sides took turns; absolute times are of a shared machine.", ""]  # fmt: skip
    FIGURES.mkdir(exist_ok=True)
    for name, title in TITLES.items():
        lines, quick = lines_of(name)
        if not lines:
            continue
        script = SAME_SCRIPT.get(name, name)
        commands = [f"`python benchmarks/{script}.py{more}`" for more in COMMANDS.get(name, (" --quick" * quick,))]
        parts += [f"## {title}", "", f"{', '.join(commands)}: {sentence(script)} {READING[name]}", ""]
        for probe in dict.fromkeys(line.get("probe") for line in lines):
            shown = [line for line in lines if line.get("probe") == probe]
            hidden = [key for key in HIDDEN if key != "commit" or len({line.get("commit") for line in lines}) == 1]
            hidden += LEFT_OUT.get(name, ())
            parts += [table([{k: v for k, v in line.items() if k not in hidden} for line in shown]), ""]
        figure = draw(name, lines)
        more = FIGURES / f"{name}_many.png"
        for picture in [one for one in (figure, more) if one and one.is_file()]:
            parts += [f"![{title}]({picture.relative_to(PAGE.parent)})", ""]
        parts += [measured_on(lines), ""]
    PAGE.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def sentence(name):
    """First sentence of a script's docstring."""
    script = Path(__file__).with_name(f"{name}.py")
    return script.read_text(encoding="utf-8").split('"""')[1].splitlines()[0] if script.is_file() else ""


def measured_on(lines):
    """What the lines say of the machine and the versions."""
    seen = {key: list(dict.fromkeys(str(line[key]) for line in lines if line.get(key))) for key in HIDDEN[1:6]}
    said = {
        "commit": "commit",
        "cores": "cores",
        "instructions": "processor",
        "tensorflow": "TensorFlow",
        "keras": "Keras",
    }
    found = "; ".join(f"{said[key]} {', '.join(values)}" for key, values in seen.items() if values)
    return found and found + "."


def draw(name, lines):
    """Path of a script's figure, or None."""
    import matplotlib

    matplotlib.use("Agg")
    if name not in ENTRIES:
        return None
    field, title, axis = ENTRIES[name]
    if name == "evaluation_cheaper":  # of two commits, the older first
        lines = [line | {"when": "before" if line["commit"] == lines[0]["commit"] else "after"} for line in lines]
        lines = sorted(lines, key=lambda line: line["case"])  # stable: before, after
    rows = [(title(line), line[field], 0.0) for line in lines if line.get(field) is not None]
    targets = {line["target"] for line in lines if line.get(field) is not None and "target" in line}
    one = name in ("onednn",)
    lines_of_aim = " (dashed: the aim)" if len(targets) == 1 else " (dashed: no difference)" if one else ""
    return bars(name, rows, axis + lines_of_aim, targets.pop() if len(targets) == 1 else 1.0 if one else None) if rows else None


def bars(name, rows, axis, mark=None):
    """Horizontal bars of (name, value, spread), a dashed line at the target; its path."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.34 * len(rows)), layout="constrained")
    names, values, spreads = zip(*rows)
    places = range(len(rows))
    axes.barh(places, values, xerr=spreads if any(spreads) else None, color="#4c72b0", height=0.62, capsize=3)
    for place, value, spread in zip(places, values, spreads):
        axes.annotate(
            cell(float(value)), (value + spread, place), xytext=(4, 0), textcoords="offset points", va="center", size=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
    if mark is not None:
        axes.axvline(mark, color="#c44e52", linestyle="--", linewidth=1)
    axes.set_yticks(places, names, size=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel(axis, size=8)
    axes.tick_params(axis="x", labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    path = FIGURES / f"{name}.png"
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    sys.exit(main())
