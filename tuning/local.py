"""`--local-workers N`: a chief and N workers as processes of this machine, watched over."""

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from isra_keras.errors import UserError
from tuning.records import read_rows

MAX_RESTARTS = 5
"""Deaths of a process while no trial ends."""
PATIENCE = 60.0
"""Seconds that workers have to stop: they notice between steps, and an evaluation or a compilation may take long."""
PARENT = "ISRA_TUNE_PARENT"


class LocalCluster:
    """The processes of a search.

    Args:
        command: list of str, the same command for all of them.
        workers: number of workers.
        folder: search folder; what the processes print goes to its logs/.
    """

    def __init__(self, command, workers, folder):
        self.command, self.logs = list(command), Path(folder) / "logs"
        self.names = ["chief", *(f"worker{number}" for number in range(workers))]
        self.port, self.workers = free_port(), workers
        self.processes, self.restarts, self.ended = {}, dict.fromkeys(self.names, 0), 0

    def __enter__(self):
        self.logs.mkdir(parents=True, exist_ok=True)
        for name in self.names:
            self.start(name)
        return self

    def __exit__(self, *error):
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        ends, killed = time.monotonic() + PATIENCE, False
        for process in self.processes.values():
            try:
                process.wait(max(ends - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed = True
        if killed:  # by us: that says nothing against the trials that were running
            for path in self.logs.parent.glob("trial_*/attempts.json"):
                path.unlink(missing_ok=True)

    def start(self, name):
        """Starts the process of that name; a worker that had died gets its own trial again."""
        environment = os.environ | {
            "KERASTUNER_TUNER_ID": name,
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": str(self.port),
            PARENT: str(os.getpid()),
        }
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        environment.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
        with open(self.logs / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                self.command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def watch(self):
        """Looks after the processes once.

        Returns:
            bool: whether the search has ended.

        Raises:
            UserError: the chief ended with an error, or a process died again and again.
        """
        for name, process in list(self.processes.items()):
            code = process.poll()
            if code is None or code == 0 and name != "chief":
                continue
            if code == 0:
                return True
            if code == 2:
                raise UserError(self.last_line(name))
            ended = sum(row.status in ("COMPLETED", "FAILED") for row in read_rows(self.logs.parent))
            if ended > self.ended:  # the search goes on: deaths of before were other trials'
                self.ended, self.restarts = ended, dict.fromkeys(self.names, 0)
            self.restarts[name] += 1
            if self.restarts[name] > MAX_RESTARTS:
                raise UserError(
                    f"Expected {name} to live; it died {MAX_RESTARTS + 1} times and no trial ended. See '{self.logs}/{name}.log'."
                )
            self.start(name)
        return False

    def last_line(self, name):
        """The sentence with which a process ended."""
        lines = (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        found = [line for line in lines if line.startswith("error: ")]
        return found[-1].removeprefix("error: ") if found else f"{name} failed; see '{self.logs}/{name}.log'."


def free_port():
    """A TCP port of 127.0.0.1 that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_with_parent():
    """In a process of `LocalCluster`: ends it when the supervisor is gone."""
    parent = int(os.environ.get(PARENT, 0))
    if not parent:
        return

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
