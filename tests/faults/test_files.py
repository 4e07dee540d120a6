"""Killed while checkpoints are written: the newest one, or the one before, always loads, and it is whole."""

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from isra_keras.training.checkpoint import CheckpointFolder
from tests.faults.killing import ROOT

WRITER = """
import sys
import numpy as np
from isra_keras.training.checkpoint import CheckpointFolder
folder, first = CheckpointFolder(sys.argv[1]), int(sys.argv[2])
for step in range(first, first + 100000):
    arrays = {"weights": np.full(400_000, step, "float32"), "step": np.array(step)}
    name = folder.save_selected(step, {"weights": arrays["weights"][:1000]})
    folder.save(step, arrays, {"selected": name, "step": step})
    print(step, flush=True)
"""


def kill_a_writer(folder, first, delay):
    """Starts a writer at a step, kills it `delay` seconds after its first checkpoint; the last step it finished."""
    command = [sys.executable, "-c", WRITER, str(folder), str(first)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    said = process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    return int((said + rest).split()[-1])


@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_while_writing(tmp_path, kills):
    draw, finished, unfinished = random.Random(kills), 0, 0
    for _ in range(kills):
        finished = kill_a_writer(tmp_path, finished + 1, draw.uniform(0.0, 0.06))
        left = {path.name for path in tmp_path.iterdir()}
        unfinished += any(name.endswith(".part") for name in left) or f"step_{finished + 1:08d}.npz" in left
        step, arrays, state = CheckpointFolder(tmp_path).load_newest()
        assert finished <= step <= finished + 1  # what was said to be saved is there
        assert np.all(arrays["weights"] == step) and arrays["step"] == state["step"] == step
        finished = step
    assert unfinished  # some kills did come in the middle of a write
    CheckpointFolder(tmp_path).save(finished + 1, {"weights": np.zeros(3)}, {"selected": None})
    kept = [path.name for path in tmp_path.iterdir()]
    assert len([name for name in kept if name.startswith("step_")]) <= 2 * 2 and len(kept) < 12, kept
