"""The verb `benchmark`: a grid from the command line to tables; passes over what is done; goes on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from isra_keras import benchmark, cli
from isra_keras.errors import UserError
from tests.benchmarking.lines import line
from tests.benchmarking.small_features import GIVEN, write_features

SET = [
    part for name, value in GIVEN.items() if name != "iterations" for part in ("--set", f"{name}={json.dumps(value)}")
]
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def command(out, data, *more):
    return ["--dataset", "pacs_features", "--tasks", "A-C", "--out", str(out), "--data-dir", data, *SET, *more]


def test_from_grid_to_report(tmp_path, capfd):
    data, out = write_features(tmp_path), tmp_path / "r.jsonl"
    few = command(out, data, "--methods", "source_only", "--semantic", "off", "--iterations", "12")
    assert cli.run(benchmark.main, few) == 0
    first = out.read_text()
    more = command(
        out, data, "--methods", "source_only,ba3us", "--semantic", "off,paper", "--iterations", "12", "--jobs", "2"
    )
    assert cli.run(benchmark.main, more) == 0
    assert out.read_text().startswith(first) and len(out.read_text().splitlines()) == 4, (
        "the finished cell did not run again"
    )
    assert "[3/3]" in capfd.readouterr().err
    assert (
        cli.run(
            benchmark.main, ["--report", str(out), "--out", str(tmp_path / "R.md"), "--csv", str(tmp_path / "R.csv")]
        )
        == 0
    )
    text = (tmp_path / "R.md").read_text()
    assert "| BA3US + ISRA (paper) |" in text and "Oracle selection" in text
    assert cli.run(benchmark.main, ["--choose", str(out)]) == 0
    assert "A-C, seed 0" in capfd.readouterr().out


def test_a_failed_cell_is_recorded_and_tried_again(tmp_path, capfd):
    data, out = write_features(tmp_path), tmp_path / "r.jsonl"
    args = command(out, data, "--methods", "source_only", "--semantic", "off", "--set", "batch_size=400", "--quiet")
    assert cli.run(benchmark.main, args) == 1
    (entry,) = [json.loads(row) for row in out.read_text().splitlines()]
    assert entry["status"] == "failed" and "UserError: Expected --batch-size" in entry["reason"]
    assert "FAILED" in capfd.readouterr().err
    assert cli.run(benchmark.main, [*args, "--skip-failed"]) == 0
    assert len(out.read_text().splitlines()) == 1
    assert cli.run(benchmark.main, ["--report", str(out), "--out", str(tmp_path / "R.md")]) == 2


def test_goes_on_after_a_kill(tmp_path):
    data, out = write_features(tmp_path), tmp_path / "r.jsonl"
    args = command(out, data, "--methods", "source_only", "--semantic", "off", "--iterations", "12", "--seeds", "3")
    environment = {**os.environ, "PYTHONPATH": ROOT, "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.Popen([sys.executable, "-m", "isra_keras.benchmark", *args], env=environment,
                               stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 90
    while not out.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(out.read_text().splitlines())
    with open(out, "a") as file:
        file.write('{"format": 1, "cell": {"data')  # as if the kill had cut a line off
    assert cli.run(benchmark.main, [*args, "--quiet"]) == 0
    seeds = [json.loads(row)["cell"]["seed"] for row in out.read_text().splitlines()]
    assert seeds == [0, 1, 2] and done >= 1


@pytest.mark.parametrize(
    "args, said",
    [
        ([], "--dataset, a file of a grid"),
        (["--dataset", "pacs_features", "--jobs", "0"], "--jobs of at least 1"),
        (["--dataset", "pacs_features", "--out", "r.md"], "end with .jsonl, or to be a folder"),
        (["grid.toml", "--dataset", "pacs_features"], "a file or the grid's options"),
        (["--dataset", "pacs_features", "--set", "batch_size"], "--set as NAME=VALUE"),
        (["--report", "missing.jsonl"], "can't be read"),
        (["--dataset", "pacs_features", "--data-dir", "nowhere"], "Expected the dataset pacs_features"),
    ],
)
def test_refuses(args, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        benchmark.main(args)
    assert not list(tmp_path.iterdir())


def test_dry_run_lists_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "r.jsonl"
    out.write_text(json.dumps(line()) + "\n")
    assert benchmark.main(["--dataset", "pacs_features", "--methods", "ba3us", "--tasks", "A-C,A-P", "--semantic", "off",
                           "--out", str(out), "--dry-run"]) == 0  # fmt: skip
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["done", "to"] and len(list(tmp_path.iterdir())) == 1


def test_help_and_refusals_are_light():
    code = "import sys; from isra_keras import benchmark\n" \
           "try: benchmark.main(['--dataset', 'pacs_features', '--methods', 'x'])\n" \
           "except Exception: pass\nsys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'scipy')))"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
