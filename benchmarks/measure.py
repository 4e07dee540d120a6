"""What the measuring scripts share: taking turns, medians, and lines of results with what they were measured on.

No command of its own; `python benchmarks/bench.py` runs the scripts.
"""

import json
import os
import resource
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as isra_keras has it, whichever of the two is imported first
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


def data_folder():
    """The folder of real data (`ISRA_TEST_DATA`) as a `Path`, or None: measure on made data, or skip."""
    folder = os.environ.get("ISRA_TEST_DATA")
    return Path(folder) if folder and Path(folder).is_dir() else None


def turns(functions, rounds, warm=1, clock=time.perf_counter):
    """Calls functions in turn, so that whatever else the machine does slows all alike.

    Args:
        functions: {name: function without arguments}.
        rounds: how often each is timed.
        warm: calls of each before that.
        clock: `time.process_time` counts the processor's time, which others on the machine do not add to.

    Returns:
        {name: median seconds}.
    """
    seconds = {name: [] for name in functions}
    for number in range(-warm, rounds):
        for name, function in functions.items():
            started = clock()
            function()
            if number >= 0:
                seconds[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def write(name, lines, out=None):
    """Replaces the results of a script by these lines, with commit, processor and versions.

    Args:
        name: of the file in benchmarks/results, without .jsonl.
        lines: list of flat dicts.
        out: another file, or None.
    """
    here = machine()
    _replace(name, [here | line for line in lines], out)  # a line that is kept says where it was made


def renew(name, lines, keys, out=None):
    """Puts lines in the place of those with the same values of `keys`; all others stay as they were written.

    Args:
        name, lines, out: as in `write`.
        keys: names of the fields that say what a line measures.
    """

    def of(line):
        return json.dumps([line.get(key) for key in keys])

    here = machine()
    new, told = {of(line): here | line for line in lines}, []
    for line in read(name, out):
        found = new.pop(of(line), line)
        if of(found) not in map(of, told):
            told.append(found)
    _replace(name, [*told, *new.values()], out)


def _replace(name, lines, out):
    """Writes a file of lines whole or not at all."""
    path = Path(out) if out else RESULTS / f"{name}.jsonl"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def read(name, out=None):
    """Lines of an earlier run, as `write` leaves them; none where there is no file."""
    path = Path(out) if out else RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def machine():
    """What a result depends on: {"commit", "cores", "instructions", "tensorflow" where it is installed, "keras"}."""
    from importlib.metadata import PackageNotFoundError, version

    from isra_keras.benchmarking.store import commit

    versions = {}
    for name in ("tensorflow", "keras"):
        with suppress(PackageNotFoundError):  # gpu_step.py runs without TensorFlow
            versions[name] = version(name)
    return {"commit": commit(), "cores": os.cpu_count(), "instructions": instructions(), **versions}


def instructions():
    """The processor's instructions that matter here, "avx2 fma"; "" where it doesn't tell."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    flags = next((row.split(":")[1].split() for row in text.splitlines() if row.startswith("flags")), [])
    return " ".join(name for name in INSTRUCTIONS if name in flags)


def peak_memory():
    """Largest resident memory of this process so far in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def private_memory():
    """Memory of this process in MB that no other shares: without TensorFlow's library, mapped from its file."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return int(next(row for row in rows if row.startswith("RssAnon")).split()[1]) / 1024


def short(value, digits=4):
    """A float of so many digits."""
    return float(f"{value:.{digits}g}")


def table(lines, columns=None):
    """Markdown table of flat dicts; `columns` names and orders them, all if None."""
    columns = columns or list(dict.fromkeys(name for line in lines for name in line))
    rows = [columns, ["---"] * len(columns), *([cell(line.get(name)) for name in columns] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def cell(value):
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {cell(part)}" for name, part in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
