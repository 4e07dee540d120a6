"""benchmarks/reliability.py: the quickest probe runs, the report has a row for every probe, quotes name no machine."""

import json
import re
import subprocess
import sys

import pytest

from benchmarks.reliability import PROBES, SIDES, read_lines, report
from benchmarks.reliability_probes.running import ROOT, quote, said


def table(text):
    """Rows of the report, each a list of three cells."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows.pop(0) == ["probe", "stock Keras", "isra_keras"]
    return rows


def test_a_probe_runs_on_both_sides_and_the_others_are_kept(tmp_path):
    lines, out = tmp_path / "lines.jsonl", tmp_path / "report.md"
    lines.write_text(json.dumps({"probe": "kill", "side": "ours", "failed": "earlier"}) + "\n")
    command = [sys.executable, "benchmarks/reliability.py", "--only", "deep-png", "--out", out, "--lines", lines]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    found = read_lines(lines)
    assert set(found) == {("kill", "ours"), ("deep-png", "stock"), ("deep-png", "ours")}
    ours = found["deep-png", "ours"]["`decode_image` grey"]
    assert ours["mean"] == pytest.approx(found["deep-png", "ours"]["truth"], abs=0.5) and ours["worst"] <= 1
    rows = {row[0]: row[1:] for row in table(out.read_text())}
    assert rows[PROBES["deep-png"].title] == [found["deep-png", side]["cell"] for side in SIDES]
    assert rows[PROBES["kill"].title] == ["not run", "the probe failed"]


def test_the_committed_report_is_made_of_the_committed_lines():
    lines = read_lines(ROOT / "benchmarks" / "results" / "reliability.jsonl")
    text = (ROOT / "benchmarks" / "RELIABILITY.md").read_text(encoding="utf-8")
    assert text == report(lines) and set(lines) == {(name, side) for name in PROBES for side in SIDES}
    assert all(len(row) == 3 and all(row) for row in table(text)) and len(table(text)) == len(PROBES)
    assert not re.search(r"not run|probe failed|/tmp|/home|site-packages", text)


def test_lines_from_outside_of_git_make_a_report():
    """After all probes had run it ended in a traceback."""
    lines = read_lines(ROOT / "benchmarks" / "results" / "reliability.jsonl")
    lines["kill", "ours"]["commit"] = None
    assert ", unknown." in report(lines)


def test_what_is_quoted(tmp_path):
    error = f"OSError: no '{tmp_path}/a' in /usr/lib/x.py, pid 0x7f00aa"
    errors = f"noise\nTraceback (most recent call last):\n  File x\n{error}\n"
    assert said(errors, tmp_path) == "OSError: no 'RUN/a' in …/x.py, pid 0x…"
    assert said("I0000 something\nerror: Expected room.\n", tmp_path) == "error: Expected room."
    assert quote("a\nb " + "x" * 999, tmp_path).startswith("a b x") and len(quote("x" * 999, tmp_path)) < 300
