"""metrics.jsonl, means, events, and the lock of a run folder."""

import json
import math
import signal
import subprocess
import sys

import numpy as np
import pytest

from isra_keras.errors import UserError
from isra_keras.training import record as module
from isra_keras.training.record import Events, Means, Metrics, finite, folder_lock


def test_metrics_are_appended_and_finite(tmp_path):
    metrics = Metrics(tmp_path / "m.jsonl")
    metrics.write({"step": 1, "loss": 0.5})
    metrics.write({"step": 2, "loss": math.nan, "scores": {"snd": math.inf}})
    lines = [json.loads(line) for line in metrics.path.read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": None, "scores": {"snd": None}}]


def test_truncate_forgets_later_steps_and_a_line_that_was_cut_off(tmp_path):
    metrics = Metrics(tmp_path / "m.jsonl")
    metrics.truncate(3)  # nothing there
    for step in (1, 2, 3, 4):
        metrics.write({"step": step})
    with open(metrics.path, "ab") as file:
        file.write(b'[1]\n\xff\xfe\n{"step": 3, "lo')
    metrics.truncate(3)
    assert metrics.path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'
    metrics.write({"step": 4})
    metrics.truncate(-1)
    assert metrics.path.read_text() == ""


def test_full_disk_is_told(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "open", full, raising=False)
    with pytest.raises(UserError, match="m.jsonl"):
        Metrics(tmp_path / "m.jsonl").write({"step": 1})


def test_means_over_the_steps_that_have_the_name():
    means = Means()
    means.add({"loss": np.float32(1), "alignment": np.float32(5)})
    means.add({"loss": np.float32(3)})
    assert means.take() == {"loss": 2.0, "alignment": 5.0} and means.take() == {}


def test_events_are_readable(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = Events(tmp_path / "tb")
    events.flush(), events.close()
    assert not (tmp_path / "tb").exists()
    events.write({"kind": "train", "step": 3, "stage": "adapt", "loss": 0.5, "bad": math.nan, "none": None})
    events.flush(), events.close()
    reader = EventAccumulator(str(tmp_path / "tb"))
    reader.Reload()
    assert reader.Tags()["tensors"] == ["train/loss"] and reader.Tensors("train/loss")[0].step == 3


def test_finite():
    assert finite({"a": [math.inf, 1.0, (math.nan,)], "b": "x", "c": None}) == {
        "a": [None, 1.0, [None]],
        "b": "x",
        "c": None,
    }


HOLD = """
import sys, time
from isra_keras.training.record import folder_lock
with folder_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_process_is_refused_and_a_dead_one_is_taken_over(tmp_path):
    import socket

    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError) as caught, folder_lock(tmp_path):
            pass
        assert f"process {holder.pid} on {socket.gethostname()}" in str(caught.value) and "--out" in str(caught.value)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert (tmp_path / ".owner").read_text().startswith(str(holder.pid))  # it had no time to tidy up
    with folder_lock(tmp_path):
        pass
    assert not (tmp_path / ".owner").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / ".lock").mkdir()  # opening it fails, for root too
    with pytest.raises(UserError, match="Expected to write in '.*'; the system refused.*--out"), folder_lock(tmp_path):
        pass


def test_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path):
        1 / 0
    with folder_lock(tmp_path):
        pass
