"""Starts trainees, kills them, and compares what is left."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def start(out, case, tf_config=None):
    """A trainee; its standard output is a pipe of text lines."""
    command = [sys.executable, "-m", "tests.faults.trainee", str(out), json.dumps(case)]
    environment = os.environ | ({"TF_CONFIG": tf_config} if tf_config else {})
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def start_workers(out, case, count=2):
    """Trainees of one job on 127.0.0.1; all but the first, the chief, get an OUT that must never be made."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    configs = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": n}} for n in range(count)]
    return [start(out if not number else f"{out}-of-{number}", case, json.dumps(config))
            for number, config in enumerate(configs)]  # fmt: skip


def free_ports(count):
    """Ports of 127.0.0.1 that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def finish(process, timeout=180):
    """Waits for a trainee; returns its lines. Fails if it did."""
    output, errors = process.communicate(timeout=timeout)
    assert process.returncode == 0, errors[-3000:]
    return output.splitlines()


def kill_at(out, case, line, delay=0.0, number=signal.SIGKILL, within=None):
    """Runs until a line such as "step 7" or of a later step comes, waits `delay` seconds, sends the signal.

    A later one: where the kill before came late, the run may go on behind that step. The process has to end `within`
    so many seconds of the signal, if that is given.

    Returns:
        (return code, all lines).
    """
    process, lines = start(out, case), []
    for text in process.stdout:
        lines.append(text.strip())
        if reaches(lines[-1], line):
            break
    time.sleep(delay)
    process.send_signal(number)
    rest, errors = process.communicate(timeout=60 if within is None else within)
    done = not lines[-1:] and process.returncode == 0 and "resuming at step" in errors  # the kill before came after the last step
    assert done or any(reaches(text, line) for text in lines), f"'{line}' never came: {lines[-3:]} {errors[-2000:]}"
    return process.returncode, lines + rest.splitlines()


def reaches(text, line):
    """Whether a trainee's line says the same as `line` with the same or a higher number."""
    word, number = line.split()
    return text.startswith(f"{word} ") and int(text.split()[1]) >= int(number)


def assert_equal_runs(first, second):
    """Weights, optimiser, class weights, method state, history and selected weights are the same, bit for bit."""
    states = [newest(Path(folder)) for folder in (first, second)]
    assert states[0]["name"] == states[1]["name"]
    assert states[0]["state"] == states[1]["state"]
    for part in ("arrays", "selected"):
        one, two = states[0][part], states[1][part]
        assert one.keys() == two.keys() and one
        for name in one:
            assert one[name].dtype == two[name].dtype and one[name].tobytes() == two[name].tobytes(), (part, name)
    assert any("optimizer/" in name for name in states[0]["arrays"])
    assert metrics(first) == metrics(second)
    assert result(first) == result(second)


def newest(folder):
    """{"name", "state", "arrays", "selected"} of a run's last checkpoint."""
    path = sorted((folder / "checkpoints").glob("step_*.json"))[-1]
    state = json.loads(path.read_text())["state"]
    arrays, selected = (dict(np.load(folder / "checkpoints" / name, allow_pickle=False))
                        for name in (path.with_suffix(".npz").name, state["selected"]))  # fmt: skip
    return {"name": path.name, "state": state, "arrays": arrays, "selected": selected}


def metrics(folder):
    """Lines of metrics.jsonl without the seconds."""
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def result(folder):
    """What result.json says of choices and classes."""
    values = json.loads((Path(folder) / "result.json").read_text())
    return {name: values[name] for name in ("selected", "last", "oracle", "shared_classes", "class_weights", "samples")}
