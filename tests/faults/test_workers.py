"""Several workers: one is killed, the others say so and end; all go on together as if nothing had happened."""

import signal
import time

import pytest

from tests.faults.killing import assert_equal_runs, finish, reaches, start_workers

CASE = {
    "kind": "images",
    "config": {"iterations": 12, "eval_interval": 4, "augment": True, "distribute": "multi_worker"},
}
WITHIN = 60
"""Seconds in which the others have to notice."""


def finish_all(processes):
    """Lines of each worker; fails if one did."""
    return [finish(process, timeout=600) for process in processes]


def wait_for(process, line):
    """Reads a worker's output until a line such as "step 7" or a later one."""
    for text in process.stdout:
        if reaches(text.strip(), line):
            return
    raise AssertionError(f"'{line}' never came: {process.stderr.read()[-2000:]}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run of two workers that nobody disturbed, and all lines."""
    out = tmp_path_factory.mktemp("workers") / "whole"
    return out, finish_all(start_workers(out, CASE))


@pytest.mark.slow
def test_only_the_chief_keeps_anything(whole):
    out, (chief, other) = whole
    assert [line for line in chief if line[0] == "s"] == [line for line in other if line[0] == "s"]
    assert (out / "model.keras").is_file() and [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0], ids=["a worker", "the chief"])
def test_a_killed_worker_ends_the_job_and_all_go_on(whole, tmp_path, victim):
    """SIGKILL at step 7: the other ends within a minute with code 4 and a sentence; resumed, the run has the very bits of
    the undisturbed one (the sum over two workers does not depend on its order)."""
    processes = start_workers(tmp_path / "killed", CASE)
    wait_for(processes[victim], "step 7")
    processes[victim].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    _, errors = processes[1 - victim].communicate(timeout=WITHIN + 30)
    assert time.monotonic() - killed < WITHIN
    assert processes[1 - victim].returncode == 4, (processes[1 - victim].returncode, errors[-3000:])
    assert "error: Expected all 2 workers; worker" in errors and "--resume" in errors
    processes[victim].communicate(timeout=30)
    chief, _ = finish_all(start_workers(tmp_path / "killed", CASE))
    assert 0 < sum(line.startswith("step") for line in chief) < 12  # it went on, not from the start
    assert_equal_runs(whole[0], tmp_path / "killed")


@pytest.mark.slow
def test_asked_to_stop_all_save_the_same_step(whole, tmp_path):
    """SIGTERM to one worker stops both at one step, with the state saved."""
    processes = start_workers(tmp_path / "asked", CASE)
    wait_for(processes[1], "step 5")
    processes[1].send_signal(signal.SIGTERM)
    lines = []
    for process in processes:
        output, errors = process.communicate(timeout=WITHIN)
        assert process.returncode == 128 + signal.SIGTERM, errors[-3000:]
        lines.append(output.splitlines()[-1])
    assert lines[0] == lines[1] and lines[0].startswith("stopped")
    finish_all(start_workers(tmp_path / "asked", CASE))
    assert_equal_runs(whole[0], tmp_path / "asked")


@pytest.mark.slow
def test_what_the_chief_refuses_ends_all(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("something else")
    for process in start_workers(tmp_path / "taken", CASE):
        _, errors = process.communicate(timeout=WITHIN)
        assert process.returncode == 2 and "there is no config.json in it" in errors, errors[-3000:]
