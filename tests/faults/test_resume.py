"""Killed and resumed: nothing of it can be seen in what comes out."""

import random
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests.faults.killing import ROOT, assert_equal_runs, finish, kill_at, metrics, start

QUICK = {"kind": "images", "config": {"iterations": 12, "eval_interval": 4, "augment": True,
         "network_options": {"bottleneck": "afn", "dropout": 0.5}}}  # fmt: skip


@pytest.mark.parametrize("kills", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_with_dropout_and_augmentation(tmp_path, kills):
    """SIGKILL at random steps (seeded): bit-identical to the run that nobody disturbed."""
    whole = start(tmp_path / "whole", QUICK)
    draw = random.Random(20)
    first = 2 if kills > 1 else 6  # one kill alone comes after the first checkpoint
    for step in sorted(draw.sample(range(first, 12), kills)):
        code, lines = kill_at(tmp_path / "killed", QUICK, f"step {step}", draw.random() * 0.05)
        assert code == -signal.SIGKILL
    lines = finish(start(tmp_path / "killed", QUICK))
    assert 0 < sum(line.startswith("step") for line in lines) < 12  # it went on, not from the start
    finish(whole)
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_this_very_step(tmp_path, number):
    whole = start(tmp_path / "whole", QUICK)
    code, lines = kill_at(tmp_path / "asked", QUICK, "step 6", number=number, within=10)
    assert code == 128 + number and lines[-1].startswith("stopped")
    stopped = int(lines[-1].split()[1])
    assert 6 <= stopped <= 8
    lines = finish(start(tmp_path / "asked", QUICK))
    assert [line for line in lines if line.startswith("step")][0] == f"step {stopped + 1}"
    finish(whole)
    assert_equal_runs(tmp_path / "whole", tmp_path / "asked")
    assert len(metrics(tmp_path / "asked")) == 12 + 3


@pytest.mark.slow
def test_the_command_that_is_printed_goes_on(tmp_path):
    """SIGTERM to the command line; what it prints, typed into a shell, ends the run."""
    out = tmp_path / "my runs" / "one"
    command = [sys.executable, "-m", "isra_keras.train", "--method", "source_only", "--no-semantic", "--iterations", "60",
               "--eval-interval", "20", "--out", str(out), "--quiet"]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(out.glob("checkpoints/step_*.json")):
        time.sleep(0.05)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and time.monotonic() - asked < 10, said[-2000:]
    assert re.search(r"stopped at step \d+ of 60; the state is saved", said) and not (out / "result.json").exists()
    printed = said.strip().splitlines()[-1].strip().replace("python", shlex.quote(sys.executable), 1)
    done = subprocess.run(printed, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0 and (out / "result.json").is_file(), done.stderr[-2000:]


WIDE = {
    "ba3us": {"method": "ba3us", "semantic": False},
    "isra-reference": {"variant": "reference"},
    "isra-paper": {"variant": "paper"},
    "shot": {"method": "shot", "semantic": False, "method_options": {"threshold": 0, "source_share": 0.5}},
    "shot-isra": {"method": "shot", "method_options": {"threshold": 0, "source_share": 0.5}},
    "iwan": {"method": "iwan", "semantic": False, "method_options": {"source_share": 0.5}},
}
HOW = {
    "dropout": ("features", {"network_options": {"bottleneck": "afn", "dropout": 0.5}}),
    "augment": ("images", {"augment": True}),
    "float16": ("images", {"augment": True, "precision": "mixed_float16"}),
    "bfloat16": ("features", {"precision": "mixed_bfloat16"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", list(HOW))
@pytest.mark.parametrize("method", list(WIDE))
def test_every_method_survives_kills_at_random_moments(tmp_path, method, how):
    """Two kills each, after a random step and up to 0.3 s later: during steps, evaluations and writing."""
    kind, options = HOW[how]
    case = {
        "kind": kind,
        "config": {"iterations": 12, "eval_interval": 3, "keep_checkpoints": 1} | WIDE[method] | options,
    }
    whole, draw = start(tmp_path / "whole", case), random.Random(f"{method}/{how}")
    for step in sorted(draw.sample(range(1, 12), 2)):
        code, _ = kill_at(tmp_path / "killed", case, f"step {step}", draw.random() * 0.3)
        assert code in (-signal.SIGKILL, 0)  # 0: it was faster
    finish(start(tmp_path / "killed", case))
    finish(whole)
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_twenty_kills_of_one_run(tmp_path):
    case = {"kind": "features", "config": {"iterations": 120, "eval_interval": 5}}
    whole, draw, kills = start(tmp_path / "whole", case), random.Random(7), 0
    for step in sorted(draw.sample(range(3, 116), 20)):
        code, _ = kill_at(tmp_path / "killed", case, f"step {step}", draw.random() * 0.1)
        kills += code == -signal.SIGKILL
    assert kills == 20
    finish(start(tmp_path / "killed", case))
    finish(whole)
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")
