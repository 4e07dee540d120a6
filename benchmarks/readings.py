"""What bench.py says about each script's lines: the commands that made them, what the columns mean, what they show.

No command of its own. Sentences with numbers are made from the lines; none is typed.
"""

import mixed_precision
import profiles
import semantic_step
import train_step
from measure import cell

FIXED = {
    "semantic_step": "Milliseconds of a step on (rows, depth) features; loop_over_ours: how many times as long the loop "
    "takes (aim: at least loop_target); ours_over_floor: how many times as long as the bare products we take (aim: at most "
    "floor_target); loop_over_floor: where it is below loop_target, nothing made of these products reaches that aim. Below it, "
    "one step in blocks: ms with oneDNN, as the library runs; extra_mb, what the step takes beyond "
    "weights and gradients, whole_mb and difference, those of the same step in one piece, in another process with "
    "TF_ENABLE_ONEDNN_OPTS=0 (a step there: onednn_off_ms), since oneDNN's allocator gives nothing back and would hide it.",
    "train_step": "isra_adds: share of BA3US's step that ISRA adds (less than nothing: steps vary by more than that); seconds of a step; jit_gain: how many times as fast "
    "ISRA's step is with jit_compile, which takes jit_compile_seconds to compile.",
    "method_costs": "s_per_1000: seconds per 1,000 iterations on one core, evaluations and compiling not counted; isra_adds_s: "
    "what ISRA adds to that; compile_s: of the whole run; peak_memory_mb: of a fresh process, TensorFlow included. ISRA joins "
    "SHOT in its second stage alone, where nothing of the source is forwarded.",
    "input_pipeline": "ratio: images a second over those of the bare work (aim: target); share of a step that waits; "
    "seconds from files to the first batch without the import of TensorFlow, memory with it (aims: target_seconds, "
    "target_memory_mb).",
    "evaluation_share": "share: of a run's time at the recipe's interval (steps between two evaluations).",
    "evaluation_cheaper": "Milliseconds of an evaluation at two commits, run in turn: the older lines first.",
    "onednn": "off_over_on: how many times as long a step takes without oneDNN.",
    "mixed_precision": "ratio: how many times as long as float32's a step takes. On features half precision rounds the "
    "features and nothing more, so that equal accuracies say little.",
    "adapt_peer": "ratio: our iterations a second over adapt's (aim: target); bare_ratio: of the compiled step alone; "
    "cpu_ratio: of processor time; products_share: what the step's large matrix products alone, the same on both sides, "
    "take of our bare step.",
    "profiles": "before, predicted and after: of a call, milliseconds of a processor (of the clock for reading ahead) or MB; "
    "met: the prediction is off by no more than a quarter; difference: largest relative difference of values and gradients of "
    "both ways; seconds_to_compile: of the processor, until the first result; operations: started in a call. "
    "Profiles are of the clock: on a machine that others use, their longest operations last longer than the processor's time.",
    "gpu_step": "ba3us and isra: a whole step; ours, loop and floor: the semantic step; ceiling_share: how much of the "
    "matrix product's tflops, measured in the same run and precision, a step reaches.",
}
NATIVE = {"mixed_bfloat16": {"avx512_bf16", "amx_bf16"}, "mixed_float16": {"avx512_fp16", "amx_fp16"}}
"""{precision: instructions, any of which computes it}."""
OFTEN = 0.2
"""A share of a run that evaluations had better not exceed without a reason."""


def commands(name, lines, quick):
    """The commands that made these lines."""
    if name == "evaluation_cheaper":
        return cheaper_commands(lines)
    if name == "semantic_step" and not quick:
        options = semantic_options(lines)
    elif name == "method_costs":
        options = [f" --dataset {data}" for data in dict.fromkeys(line["dataset"] for line in lines)]
    elif name == "train_step":
        options = [train_step.command_of(line) for line in lines]
    elif name == "mixed_precision" and not quick:
        there = dict.fromkeys(line.get("backbone") or line["data"].split("-")[0] for line in lines)
        options = [f" --only {' '.join(there)}" if set(there) != set(mixed_precision.PARTS) else ""]
    else:
        options = [" --quick" * quick]
    return [f"`python benchmarks/{name}.py{more}`" for more in options]


def semantic_options(lines):
    """Arguments of each kind of lines there is."""
    found, ratio = [], [line for line in lines if line.get("probe") == "ratio"]
    rows = tuple(sorted({line["rows"] for line in ratio}))
    rounds = {line["turns"] for line in ratio if "turns" in line} - {semantic_step.TURNS}
    if rows:
        more = f" --rows {' '.join(map(str, rows))}" if rows != semantic_step.ROWS else ""
        found.append(more + "".join(f" --turns {number}" for number in sorted(rounds)))
    probes = {line.get("probe") for line in lines}
    return [*found, *(f" --{kind}" for kind, probe in (("many", "many"), ("blocks", "block")) if probe in probes)] or [""]


def cheaper_commands(lines):
    """`--compare` where it made the lines; older ones were made without it."""
    before = lines[0].get("commit")
    new = f"`python benchmarks/evaluation_share.py --compare {before}`"
    names = ", ".join(dict.fromkeys(line["case"] for line in lines))
    if all("when" in line for line in lines):
        return [new]
    return [f"`python benchmarks/evaluation_share.py --only CASE` ({names}) in the code of each commit, what {new} now does"]


def reading(name, lines):
    """What the columns mean, and what these lines show."""
    more = {"semantic_step": growth, "mixed_precision": emulated, "adapt_peer": limits, "evaluation_share": frequent,
            "profiles": missed}  # fmt: skip
    return " ".join(filter(None, (FIXED[name], more[name](lines) if name in more else "")))


def growth(lines):
    """Fitted exponents of many topics."""
    names, found = {"topics": "J", "depth": "d", "rows": "n"}, semantic_step.exponents(lines)
    if not found:
        return ""
    said = {value: ", ".join(f"{names[field]}^{one[value]:.2f}" for field, one in found.items()) for value in ("ms", "extra_mb")}
    return f"Fitted over these lines, time grows as {said['ms']} (J topics, d depth, n rows), memory as {said['extra_mb']}."


def emulated(lines):
    """Which half precisions the processor of the lines has no instructions for, where they are slower."""
    found = {}
    for name, own in NATIVE.items():
        slower = [line["instructions"] for line in lines if line.get(f"{name}_ratio", 0) > 1
                  and line.get("instructions") and not own & set(line["instructions"].split())]  # fmt: skip
        for processor in dict.fromkeys(slower):
            found.setdefault(processor, []).append(name)
    if not found:
        return ""
    said = []
    for processor, names in found.items():
        wanted = ", ".join(sorted({one for name in names for one in NATIVE[name]}))
        said.append(f"{' and '.join(names)}: slower on a processor with {processor}, which has none of {wanted} and emulates it")
    return "; ".join(said) + ". They are meant for GPUs and for processors that have."


def limits(lines):
    """Why a ratio is below its aim: what both sides have to compute."""
    low = [line for line in lines if line["ratio"] < line["target"]]
    if not low:
        return ""
    said = "; ".join(f"{line['method']} {100 * line['products_share']:.0f} %, a bare_ratio of "
                     f"{line['bare_ratio'] / line['products_share']:.2f} at most" for line in low)  # fmt: skip
    return (f"Below {low[0]['target']:g}, where these products, which both sides take, leave little room: their share of our "
            f"step, and what bare_ratio would be if all the rest took no time: {said}.")  # fmt: skip


def frequent(lines):
    """Why some evaluations take much of a run."""
    high = [line for line in lines if line["share"] > OFTEN]
    rest = [line for line in lines if line["share"] <= OFTEN]
    if not high:
        return ""
    scores = [line["parts_ms"]["scores"] / line["evaluation_ms"] for line in high]
    others = f" (the others: {span([line['eval_interval'] for line in rest])})" if rest else ""
    return (f"Above {100 * OFTEN:.0f} %: {', '.join(line['case'] for line in high)}. Their recipes evaluate every "
            f"{span([line['eval_interval'] for line in high])} steps{others}, a step takes "
            f"{span([round(line['step_ms']) for line in high])} ms, and in a benchmark's cells every evaluation computes all "
            f"label-free scores, {span([round(100 * one) for one in scores])} % of it.")  # fmt: skip


def missed(lines):
    """Which predictions miss, and in which part of the profile."""
    wrong = [line for line in lines if not line["met"]]
    if not wrong:
        return "All predictions are met."
    said = "; ".join(f"{line['gain_of']} (predicted {line['predicted_gain']:g}, found {line['gain']:g}{where(line)})" for line in wrong)
    slower = [line["gain_of"] for line in lines if line["gain"] < 1]
    return f"Missed: {said}." + (f" No gain in time: {'; '.join(slower)}." if slower else "")


def where(line):
    """The part of a profile that differs most from the expected one."""
    if len(line.get("expected", {})) < 2:
        return ""
    named = {name: line["expected"].get(name, 0.0) for name in line["expected"] if name != "other operations"}
    found = {name: line["after"].get(name, 0.0) for name in named}
    if "other operations" in line["expected"]:
        named["other operations"] = line["expected"]["other operations"]
        found["other operations"] = sum(ms for name, ms in line["after"].items() if name not in named)
    else:  # nothing is expected of what is not named
        named |= {name: 0.0 for name in line["after"] if name not in named}
        found |= line["after"]
    most = max(named, key=lambda name: abs(named[name] - found[name]))
    return f"; {most}: {named[most]:g} ms expected, {found[most]:g} found"


def details(name, lines):
    """Rows below the tables: reason, formula and profiles of each gain."""
    if name != "profiles":
        return []
    told, formulas = [], []
    for line in lines:
        formula = "by the formula above." if line["formula"] in formulas else line["formula"]
        formulas.append(line["formula"])
        parts = "; ".join(f"{when}: {cell(line[when])}" for when in ("before", "expected", "after") if when in line)
        gain = profiles.GAINS.get(line["gain_of"])
        why = f" Why it missed: {gain.missed}" if gain and gain.missed and not line["met"] else ""
        told.append(f"- {line['gain_of']}: {line['reason']} Prediction: {formula} "
                    f"{'Alive' if line['probe'] == 'memory' else 'Profile'}, {parts}.{why}")  # fmt: skip
    return [*told, ""]


def span(values):
    """"9 to 33", or the one value."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
