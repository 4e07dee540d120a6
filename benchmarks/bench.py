"""All speed benchmarks in one go, their ratios, and the page about them: `make bench`.

    python benchmarks/bench.py             every script at its quick setting, at most ten minutes together
    python benchmarks/bench.py --report    measures nothing: only the page and its figures, from what is there

Scripts write their lines to benchmarks/results/NAME.jsonl, at a quick setting to NAME_quick.jsonl. benchmarks/README.md
and benchmarks/figures/ are made from these lines (the full ones where there are both); no number in them is typed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import method_costs
import profiles
import semantic_step
from measure import RESULTS, ROOT, cell, table
from readings import commands, details, reading

PAGE, FIGURES = ROOT / "benchmarks" / "README.md", ROOT / "benchmarks" / "figures"
MADE_ON = {"commit": "commit", "cores": "cores", "instructions": "processor", "tensorflow": "TensorFlow", "keras": "Keras",
           "torch": "PyTorch"}  # fmt: skip
"""{field of a line: its name under the tables}."""
HIDDEN = ("probe", "kind", "numpy", *MADE_ON)
MINUTES = 10.0

SCRIPTS = (
    ("semantic_step", ["--quick"]),
    ("train_step", ["--backbone", "small_cnn", "--jit"]),
    ("train_step", ["--backbone", "features", "--jit"]),
    ("adapt_peer", ["--quick"]),
    ("input_pipeline", ["--quick"]),
    ("evaluation_share", []),
    ("onednn", ["--quick"]),
    ("mixed_precision", ["--quick"]),
    ("profiles", ["--quick"]),
)
"""(script, arguments), what shows most first; what is missing is named and skipped."""

TITLES = {
    "semantic_step": "ISRA's own step",
    "train_step": "What ISRA adds to a training step",
    "method_costs": "What each method costs",
    "input_pipeline": "Images arriving",
    "evaluation_share": "Evaluations",
    "evaluation_cheaper": "Evaluations, before and after",
    "onednn": "oneDNN",
    "mixed_precision": "Mixed precision",
    "adapt_peer": "Beside `adapt`",
    "profiles": "Profiles",
    "gpu_step": "On a GPU",
}

LEFT_OUT = {
    "evaluation_cheaper": ("step_ms", "share", "eval_interval"),
    "profiles": ("before", "expected", "after", "reason", "formula"),
}
"""{results: columns that say nothing in this comparison, or are told below the table}."""

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
    "method_costs": (
        "s_per_1000",
        lambda line: f"{line['method']}{'' if line['isra'] == 'off' else ' + ISRA'}",
        "seconds per 1,000 iterations on one core, features",
    ),
    "train_step": (
        "isra_adds",
        lambda line: f"{line['backbone']} {line['side']} px" if line["side"] else line["backbone"],
        "what ISRA adds, as a share of BA3US's step",
    ),
}
"""{script: (field, name of a line, axis)} of the figures."""

BESIDE = {"semantic_step": [("ours_over_floor", "our time / that of the bare products")]}
"""{script: [(field, axis)]} of further panels of the same lines."""
AIMS = {"loop_over_ours": ("loop_target", "at least"), "ours_over_floor": ("floor_target", "at most")}
"""{field: (field of its aim, which side of it is wanted)}; the others' aim is "target"."""
BLUE, PALE = "#4c72b0", "#b5b5b5"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all scripts together; the rest is left out")
    args = parser.parse_args(argv)
    deadline = time.monotonic() + 60 * args.minutes
    failed = [] if args.report else [name for name, options in SCRIPTS if not run(name, options, deadline)]
    write_page()
    print(
        f"{PAGE.relative_to(ROOT)} and {FIGURES.relative_to(ROOT)}/ are new."
        + (f" Failed or not done in {args.minutes:g} minutes: {', '.join(dict.fromkeys(failed))}." if failed else "")
    )
    return int(bool(failed))


def run(name, options, deadline):
    """Runs a script until the deadline at most and shows what it says; False if it failed or wasn't done."""
    script = Path(__file__).with_name(f"{name}.py")
    if not script.is_file():
        print(f"## {name}: there is no {script.name}; skipped\n", flush=True)
        return True
    print(f"## {' '.join([name, *options])}", flush=True)
    started = time.monotonic()
    if deadline <= started:
        print("left out: no time is left\n", flush=True)
        return False
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen([sys.executable, str(script), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, cwd=ROOT, env=environment, start_new_session=True)  # fmt: skip
    late = False
    try:
        said, errors = process.communicate(timeout=deadline - started)
    except BaseException as error:  # Ctrl-C too: a session of its own does not get it
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
        said, errors = process.communicate()
        late = isinstance(error, subprocess.TimeoutExpired)
        if not late:
            raise
    print(said.strip() if late or not process.returncode else errors.strip()[-2000:])
    print(f"({'stopped, no time is left; ' if late else ''}{time.monotonic() - started:.0f} s)\n", flush=True)
    return not late and not process.returncode


def lines_of(name):
    """(lines of a script, whether they are of the quick setting)."""
    for quick, path in ((False, RESULTS / f"{name}.jsonl"), (True, RESULTS / f"{name}_quick.jsonl")):
        if path.is_file():
            return [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines() if row.strip()], quick
    return [], False


def write_page():
    """benchmarks/README.md and the figures."""
    parts = ["# Speed", "", "Generated by `python benchmarks/bench.py --report` from benchmarks/results/*.jsonl. The commands at the head "
             "of a section made its lines and measure them anew. `make bench` runs quick forms of them, at most "
             f"{MINUTES:g} minutes together; a section shows lines of a quick form (`--quick`) where there are no others. Ratios are "
             "of one run in which both sides took turns; absolute times are of a shared machine.", ""]  # fmt: skip
    FIGURES.mkdir(exist_ok=True)
    for name, title in TITLES.items():
        lines, quick = lines_of(name)
        if lines:
            parts += section(name, title, lines, quick)
        elif name == "gpu_step":
            parts += [f"## {title}", "", f"`python benchmarks/gpu_step.py`: {sentence(name)} One command, not yet run on a GPU: "
                      "benchmarks/results/gpu_step.jsonl is not there.", ""]  # fmt: skip
    PAGE.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def section(name, title, lines, quick):
    """Rows of the page about a script's lines."""
    made_by = ", ".join(commands(name, lines, quick))
    parts = [f"## {title}", "", f"{made_by}: {sentence(SAME_SCRIPT.get(name, name))} {reading(name, lines)}", ""]
    told = [key for key in ("commit", "instructions") if len({line.get(key) for line in lines} - {None}) > 1]
    hidden = [key for key in HIDDEN if key not in told]
    hidden += LEFT_OUT.get(name, ())
    for probe in dict.fromkeys(kind_of(line) for line in lines):
        shown = [line for line in lines if kind_of(line) == probe]
        if name == "semantic_step":
            shown = [semantic_step.with_aims(line) for line in shown]
        if name == "method_costs":
            shown = method_costs.side_by_side(shown)
        parts += [table([{k: v for k, v in line.items() if k not in hidden} for line in shown]), ""]
    for picture in pictures(name, lines):
        parts += [f"![{title}]({picture.relative_to(PAGE.parent)})", ""]
    return [*parts, *details(name, lines), measured_on(lines), ""]


def kind_of(line):
    """What tells a script's tables apart."""
    return line.get("probe", line.get("kind"))


def pictures(name, lines):
    """Paths of the figures, drawn."""
    drawn = [draw(name, lines)]
    if name == "profiles":
        drawn.append(FIGURES / "profiles.png")
        profiles.draw(lines, drawn[-1])
    if name == "semantic_step" and len(semantic_step.exponents(lines)) == len(semantic_step.FITS):
        drawn.append(FIGURES / semantic_step.FIGURE.name)
        semantic_step.draw(lines, drawn[-1])
    return [path for path in drawn if path]


def sentence(name):
    """First sentence of a script's docstring."""
    script = Path(__file__).with_name(f"{name}.py")
    return script.read_text(encoding="utf-8").split('"""')[1].splitlines()[0] if script.is_file() else ""


def measured_on(lines):
    """What the lines say of the machine and the versions."""
    seen = {key: list(dict.fromkeys(str(line[key]) for line in lines if line.get(key))) for key in MADE_ON}
    found = "; ".join(f"{MADE_ON[key]} {', '.join(values)}" for key, values in seen.items() if values)
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
    if name == "semantic_step":
        lines = [semantic_step.with_aims(line) for line in lines]
    if name == "method_costs":  # images, where the backbone takes most, have their table alone
        lines = [line for line in lines if line["dataset"] == method_costs.FIGURE]
    lines = [line for line in lines if line.get(field) is not None]
    if not lines:
        return None
    colours = [PALE if line.get("when") == "before" or line.get("isra") == "off" else BLUE for line in lines]
    panels = [panel(name, lines, *one) for one in [(field, axis), *BESIDE.get(name, ())]]
    return bars(name, [title(line) for line in lines], [one for one in panels if one], colours)


def panel(name, lines, field, axis):
    """(values, axis, where the dashed line is or None) of a field; None if a line has no value of it."""
    values = [line.get(field) for line in lines]
    if None in values:
        return None
    aim, side = AIMS.get(field, ("target", ""))
    aims = {line[aim] for line in lines if aim in line}
    if len(aims) == 1:
        return values, f"{axis} (dashed: the aim{side and f', {side}'})", aims.pop()
    if name == "onednn":
        return values, f"{axis} (dashed: no difference)", 1.0
    return values, axis, None


def bars(name, names, panels, colours):
    """Horizontal bars, panels side by side, a dashed line at the aim; the figure's path."""
    from matplotlib import pyplot

    size = (7 if len(panels) == 1 else 2 + 3.6 * len(panels), 0.6 + 0.34 * len(names))
    figure, grid = pyplot.subplots(1, len(panels), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axes, (values, axis, mark) in zip(grid[0], panels):
        axes.barh(range(len(names)), values, color=colours, height=0.62)
        for place, value in enumerate(values):
            axes.annotate(
                cell(float(value)), (value, place), xytext=(4, 0), textcoords="offset points", va="center", size=8,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            )
        if mark is not None:
            axes.axvline(mark, color="#c44e52", linestyle="--", linewidth=1)
        axes.margins(x=0.12)
        axes.set_xlim(left=min(0.0, *values))  # a difference may be below zero; its label would be cut off
        axes.set_xlabel(axis, size=8)
        axes.tick_params(axis="x", labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    grid[0, 0].set_yticks(range(len(names)), names, size=8)
    grid[0, 0].invert_yaxis()
    path = FIGURES / f"{name}.png"
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    sys.exit(main())
