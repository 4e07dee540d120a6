"""Killed while checkpoints are written: the newest one, or the one before, always loads, and it is whole."""

import random
import shutil
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


SMALL_DISK = """
mount -t tmpfs -o size=1m none "$1" || exit 77
exec "$2" -c "$3" "$1"
"""
FILLER = """
import os, sys
from pathlib import Path
import numpy as np
from isra_keras.errors import UserError
from isra_keras.training.checkpoint import CheckpointFolder
disk = Path(sys.argv[1])
folder = CheckpointFolder(disk / "checkpoints")
def save(step):
    folder.save(step, {"weights": np.full(50_000, step, "float32")}, {"selected": None})
save(1)
save(2)
with open(disk / "others", "wb", buffering=0) as file:  # somebody else's file takes the rest
    try:
        while True:
            file.write(b"0" * 4096)
    except OSError:
        pass
while True:  # refused with no room, with some, and with nearly enough
    try:
        save(3)
        break
    except UserError as error:
        assert "200,000 bytes" in str(error) and "step_00000003.npz" in str(error) and "--resume" in str(error), error
        step, arrays, state = folder.load_newest()
        assert step == 2 and np.all(arrays["weights"] == 2)
        print("refused", flush=True)
    os.truncate(disk / "others", max((disk / "others").stat().st_size - 60_000, 0))
step, arrays, state = folder.load_newest()
assert step == 3 and np.all(arrays["weights"] == 3)
print("went on", sorted(path.name for path in folder.folder.iterdir()), flush=True)
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare, to mount a small disk of its own")
def test_a_small_disk_runs_full(tmp_path):
    """On a real file system of 1 MiB: what was there is whole at every refusal, and training goes on with more room."""
    script = ["sh", "-c", SMALL_DISK, "sh", str(tmp_path), sys.executable, FILLER]
    for flags in (["-m"], ["-rm"]):  # as root, or in a user namespace of one's own
        done = subprocess.run(["unshare", *flags, *script], cwd=ROOT, capture_output=True, text=True, timeout=60)
        if done.returncode == 0 or "Traceback" in done.stderr:
            break
    else:
        pytest.skip(f"may not mount a file system here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines.count("refused") >= 3 and lines[-1].startswith("went on"), lines
    assert not (tmp_path / "checkpoints").exists()  # it was the small disk that was written to
