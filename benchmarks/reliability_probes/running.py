"""Starting what may die, and quoting what it said without the names of this machine."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Callable, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SIDES = ("stock", "ours")
QUOTED = 240


class Probe(NamedTuple):
    """One row of the report: `run(side, folder, **options)` gives {"cell": text, figure: value, ...}."""

    title: str
    run: Callable
    options: dict = {}


class Ended(NamedTuple):
    """A child process that ended: its return code, its last JSON line (or {}), what it said last."""

    code: int
    values: dict
    said: str


def start(side, out, options=()):
    """A training process of `benchmarks.reliability_probes.training`."""
    module = "benchmarks.reliability_probes.training"
    command = [sys.executable, "-m", module, side, str(out), json.dumps(dict(options))]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=pipe, stderr=pipe, text=True)


def finish(process, out, timeout=50):
    """Waits for it and gives `Ended`."""
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
    lines = [line for line in output.splitlines() if line.startswith("{")]
    printed = " ".join(line for line in output.splitlines() if not line.startswith("{"))
    words = said(errors, out) or quote(printed, out)
    return Ended(process.returncode, json.loads(lines[-1]) if lines else {}, words)


def train(side, out, timeout=50, **options):
    """`start` and `finish`."""
    return finish(start(side, out, options), out, timeout)


def environment():
    """The environment with this repository on the path and TensorFlow quiet."""
    return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}


def said(errors, folder):
    """The last thing said on standard error: of a traceback the exception, of this project its sentences."""
    parts = errors.split("Traceback (most recent call last):")
    if len(parts) > 1:
        ends = [line for line in parts[-1].splitlines() if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
        return quote(ends[0] if ends else parts[-1], folder)
    sentences = [
        line for line in errors.splitlines() if re.match(r"error:|warning:|checkpoint |resuming |stopped ", line)
    ]
    return quote(" ".join(sentences), folder)


def quote(text, folder):
    """One line, at most `QUOTED` characters, without folders, hosts and process numbers."""
    text = " ".join(str(text).split())
    for path in (os.path.realpath(folder), str(folder)):
        text = text.replace(path, "RUN")
    text = re.sub(r"(?<![\w.])/[^\s'\":,;]*/", "…/", text)
    text = re.sub(r"process \d+", "process PID", text.replace(socket.gethostname(), "HOST"))
    text = re.sub(r"0x[0-9a-f]{4,}", "0x…", re.sub(r"\btime = [^,)]*", "time = …", text))
    return text if len(text) <= QUOTED else text[: QUOTED - 1] + "…"


def how_it_ended(code):
    """ "exit code 1", "ends by SIGSEGV"."""
    return f"exit code {code}" if code >= 0 else f"ends by {signal.Signals(-code).name}"


def said_or_nothing(text):
    """For a cell: the words in quotation marks, or that there were none."""
    return f"“{text}”" if text else "nothing is said"


def error_text(error, folder):
    """Type and message of a caught exception, as Python would print them; a `UserError` as the command line does."""
    name = "error" if type(error).__name__ == "UserError" else type(error).__name__
    return quote(f"{name}: {error}", folder)
