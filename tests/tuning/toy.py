"""A search whose trials cost nothing, for processes that are killed: `python toy.py FOLDER MAX_TRIALS [SECONDS]`."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

import keras_tuner

from tuning.objectives import objective
from tuning.oracles import make_oracle
from tuning.tuner import SearchTuner

LEASE = 3.0


class Toy(keras_tuner.HyperModel):
    """Score x, smaller is better; every trial that finishes appends its value to FOLDER.runs."""

    def __init__(self, folder, seconds=0.0):
        super().__init__()
        self.log, self.seconds = Path(f"{folder}.runs"), seconds

    def declare_hyperparameters(self, hp):
        hp.Float("x", 0.01, 1.0, sampling="log", default=0.5)

    def fit(self, hp, model, folder=None, callbacks=(), epochs=None):
        who = os.environ.get("KERASTUNER_TUNER_ID", "alone")
        (Path(folder) / f"runner.{who}").touch()
        time.sleep(self.seconds)
        with open(self.log, "a") as log:
            log.write(f"{Path(folder).name} {hp.get('x')!r} {who}\n")
        return {"sel:mean_entropy": hp.get("x")}


class ToyTuner(SearchTuner):
    """Trials without a model."""

    def _build_and_fit_model(self, trial, *args, **kwargs):
        return self.hypermodel.fit(trial.hyperparameters, None, *args, **kwargs)


def make_tuner(folder, trials, seconds=0.0, kind="random", budget=9):
    oracle = make_oracle(kind, objective("sel:mean_entropy"), trials, 3, 1, budget, 3)
    return ToyTuner(oracle, Toy(folder, seconds), folder, lease=LEASE)


def runs(folder):
    """[(trial folder, value, who)] of all finished fits."""
    path = Path(f"{folder}.runs")
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.is_file() else []


def kill_in_write(name, number):
    """SIGKILL to this process in the write of that number of a file, when it is written but has not got its name yet."""
    from isra_keras.training import checkpoint

    count, real = 0, checkpoint.os.replace

    def replace(source, target):
        nonlocal count
        count += Path(target).name == name
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)

    checkpoint.os.replace = replace


def fill_disk_at(patch, name, number):
    """The disk is full in the write of that number of a file, and has room again; `patch` is pytest's `monkeypatch`."""
    from isra_keras.training import checkpoint

    count, real = 0, checkpoint.os.replace

    def replace(source, target):
        nonlocal count
        count += Path(target).name == name
        if count == number and Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        real(source, target)

    patch.setattr(checkpoint.os, "replace", replace)


if __name__ == "__main__":
    if os.environ.get("TOY_KILL"):
        kill_in_write("oracle.json", int(os.environ["TOY_KILL"]))
    make_tuner(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0).search()
