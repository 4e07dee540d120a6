"""Worker processes that keep TensorFlow loaded: one pays its import once for many cells, and may die without harm."""

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from multiprocessing.connection import wait

from isra_keras.benchmarking.grid import Cell
from isra_keras.cli import speak_plainly
from isra_keras.training.interrupt import Interrupted

CELLS_PER_WORKER = 40
"""After so many cells a worker is replaced, before what TensorFlow never frees becomes much."""


class Worker:
    """One process and the pipe to it.

    Args:
        settings: dict of `work_loop`.

    Attributes:
        cell: what it works on, or None.
        last: what it was given last, or None.
        step, total, started: of this cell.
    """

    def __init__(self, settings):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work_loop, args=(theirs, settings), daemon=True)
        self.process.start()
        theirs.close()
        self.cell, self.step, self.total, self.started, self.finished = None, 0, 0, 0.0, 0
        self.last = None

    def give(self, cell):
        """Starts a cell."""
        self.cell, self.last, self.step, self.total, self.started = cell, cell, 0, 0, time.monotonic()
        try:
            self.pipe.send(cell.to_dict())
        except OSError:  # it died while it had nothing to do; `take` says so
            pass

    def take(self):
        """The next message: ("progress", step, total), ("done", line), ("failed", reason); a dead worker has failed."""
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            code = self.process.exitcode
            how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
            return "failed", f"the worker process ended ({how}); SIGKILL mostly means that memory ran out"
        if message[0] == "progress":
            self.step, self.total = message[1:]
        return message

    def stop(self):
        """Ends the process."""
        self.pipe.close()
        self.process.terminate()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(5)


def run_cells(cells, jobs, settings, on_message=lambda worker, message: None, on_tick=lambda workers, waiting: None):
    """Runs cells in `jobs` processes.

    Args:
        cells: list of `Cell`.
        jobs: processes at once.
        settings: {"data_dir", "work", "threads", "folders", "said"} for the workers.
        on_message: called with (worker, message) for each message of `Worker.take`; `worker.cell` is the cell.
        on_tick: called with (workers, cells that wait) at least once a second.
    """
    waiting, workers = list(cells), []
    before = _on_sigterm(_leave)
    try:
        while waiting or any(worker.cell for worker in workers):
            while waiting and len(workers) < jobs:
                workers.append(Worker(settings))
            for worker in workers:
                if worker.cell is None and waiting:
                    worker.give(take_next(waiting, worker.last, [other.last for other in workers if other is not worker]))
            ready = wait([worker.pipe for worker in workers if worker.cell], timeout=1.0)
            for worker in [worker for worker in workers if worker.pipe in ready]:
                message = worker.take()
                on_message(worker, message)
                if message[0] != "progress":
                    worker.cell, worker.finished = None, worker.finished + 1
                    if not worker.process.is_alive() or worker.finished >= CELLS_PER_WORKER:
                        worker.stop()
                        workers.remove(worker)
            on_tick(workers, waiting)
    finally:
        for worker in workers:
            worker.stop()
        _on_sigterm(before)


def take_next(waiting, last, others=()):
    """Removes and returns the cell that a worker is given next.

    Another task of the setting that the worker had comes first, as its steps are compiled; then a setting that no
    other worker is at.

    Args:
        waiting: list of `Cell`.
        last: `Cell` that the worker had, or None.
        others: what the other workers had last.
    """

    def at(previous, cell):
        return previous is not None and replace(cell, task=previous.task) == previous

    for wanted in (lambda cell: at(last, cell), lambda cell: not any(at(other, cell) for other in others)):
        for number, cell in enumerate(waiting):
            if wanted(cell):
                return waiting.pop(number)
    return waiting.pop(0)


def _leave(number, frame):
    """Ends the process by an exception, so that the workers are ended too."""
    raise SystemExit(128 + number)


def _on_sigterm(handler):
    """Sets the handler; returns the one before, None outside of the main thread."""
    if handler is None or threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, handler)


def work_loop(pipe, settings):
    """What a worker does: cells from the pipe, messages into it, until the pipe closes.

    Args:
        pipe: `multiprocessing.connection.Connection`.
        settings: {"data_dir": path or None, "work": folder or None, "threads": int, "folders": (source, target) of
            a user's own, or None, "said": texts of the warnings that the parent has shown}.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends us
    threads = settings["threads"]
    speak_plainly(settings.get("said", ()))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    run_cell = None
    while True:
        try:
            cell = Cell.from_dict(pipe.recv())
        except (EOFError, OSError):
            return
        try:
            run_cell = run_cell or _load(threads)
            message = ("done", run_cell(cell, settings, pipe))
        except Interrupted:  # the parent ended us, or is gone
            return
        except Exception as error:  # one cell's trouble, whatever it is, must not end the grid
            message = ("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")
        try:
            pipe.send(message)
        except OSError:
            return


def _load(threads):
    """Loads TensorFlow, held to its share of threads; returns a function of (cell, settings, pipe)."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # every cell traces its step anew, which TensorFlow would warn of
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for device in tf.config.list_physical_devices("GPU"):  # several workers share one
        tf.config.experimental.set_memory_growth(device, True)
    from isra_keras.benchmarking.cell import OrphanWatch, run_cell
    from isra_keras.benchmarking.store import commit

    identity = commit()  # of the code that this process has loaded; the parent may have begun with an older one

    def run(cell, settings, pipe):
        report = OrphanWatch(lambda step, total: pipe.send(("progress", step, total)))
        line = run_cell(cell, settings["data_dir"], settings["work"], threads, report, settings.get("folders"))
        return line | {"commit": identity}

    return run
