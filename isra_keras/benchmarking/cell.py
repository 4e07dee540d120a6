"""One cell: the runner's training without what only a person looks at, and everything that the tables need as one line.

Precomputed features train without checkpoints, TensorBoard, report or saved network: such a cell takes seconds and is
simply run again if it was killed. Images keep checkpoints in a folder and go on where they were. A user's own folders
leave complete run folders: one of these models is wanted.
"""

import functools
import os
import resource
import shutil
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from isra_keras.benchmarking.grid import FOLDERS, cell_config, folders_id
from isra_keras.benchmarking.own_data import folder_facts, target_files
from isra_keras.benchmarking.reuse import DATA_NAMES, FROZEN_NAMES, ModelShelf
from isra_keras.benchmarking.store import LINE_FORMAT
from isra_keras.benchmarking.votes import ABSENT, pack
from isra_keras.errors import NotFinite
from isra_keras.objective import Evaluation
from isra_keras.selection.probe import source_probe
from isra_keras.training.build import evaluation_rows
from isra_keras.training.callbacks import Callbacks
from isra_keras.training.config import TrainConfig
from isra_keras.training.determinism import policy
from isra_keras.training.interrupt import Interrupted
from isra_keras.training.prepare import check_task, freeze, load_data, prepared_folder
from isra_keras.training.record import not_finite_terms
from isra_keras.training.results import choices, is_better
from isra_keras.training.runner import Training

DIGITS = 6
SHELF = ModelShelf()
LEFT_OUT = {
    "data_dir",
    "source_dir",
    "target_dir",
    "keep_checkpoints",
    "format_version",
    "allow_incomplete",
    "on_bad_image",
    "distribute",
    "sync_batch_norm",
}


def run_cell(cell, data_dir=None, work=None, threads=1, progress=None, folders=None):
    """Trains a cell.

    Args:
        cell: `Cell`.
        data_dir: where the dataset lies, or None.
        work: folder for checkpoints of image runs, or None for none; for the run folders of a user's own.
        threads: of the data pipeline.
        progress: called with (steps done, steps in all) now and then; may raise to stop.
        folders: (source, target) of a user's own, for cells of the dataset `FOLDERS`.

    Returns:
        dict, the cell's line without "commit", "warm" where the model's steps had been compiled by an earlier cell; of a
        user's own folders with "run", the run folder, "folders", "target_files" and "data", which tell apart what lay there.

    Raises:
        UserError, Interrupted: as `isra_keras.run`.
    """
    started = time.monotonic()
    reset_peak_memory()
    own = cell.dataset == FOLDERS
    config = cell_config(cell, data_dir, folders)
    task = load_cached(config)
    check_task(task, config)
    light = work is None or task.kind == "features" and not own
    kept = own and not light
    out = Path(work or ".") / cell.folder
    with policy(config):
        model, warm = SHELF.take(config, task)
        training = CellTraining(config, task, model, out, threads, progress, light, kept)
        with nullcontext() if light else prepared_folder(out, config, (out / "config.json").is_file()):
            line = training.run(resume=not light, quiet=True)
    if not light and not kept:
        shutil.rmtree(out, ignore_errors=True)
    line = {
        "format": LINE_FORMAT,
        "cell": cell.to_dict(),
        "status": "done",
        "config": {name: value for name, value in vars(config).items() if name not in LEFT_OUT and value is not None},
        **line,
        **({"folders": folders_id(*folders), **own_data(config)} if own else {}),
        **({"run": os.path.relpath(out)} if kept else {}),
        "seconds": round(time.monotonic() - started, 2),
        "peak_memory_mb": round(peak_memory()),
        "threads": threads,
        **({"warm": True} if warm else {}),
        "device": "GPU" if tf.config.list_physical_devices("GPU") else "CPU",
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__},
    }
    return line


def load_cached(config):
    """The task of a `TrainConfig`; the last two stay in memory."""
    return _load(*_data_key(config))[0]


def own_data(config):
    """{"target_files", "data"} of a user's own folders. As cached as the task."""
    return dict(_load(*_data_key(config))[1])


def _data_key(config):
    names = (*DATA_NAMES, *FROZEN_NAMES) if config.freeze_backbone else DATA_NAMES
    return tuple((name, getattr(config, name)) for name in names)


@functools.lru_cache(maxsize=2)
def _load(*pairs):
    """(`Task`, `own_data`). Frozen features know their files no longer, so these are asked first."""
    config = TrainConfig(**dict(pairs))
    task = load_data(TrainConfig(**{**dict(pairs), "freeze_backbone": False}), quiet=True)
    own = (("target_files", target_files(task)), ("data", folder_facts(task)))
    return (freeze(config, task, quiet=True) if config.freeze_backbone else task), own


@functools.lru_cache(maxsize=16)
def _probe(*pairs):
    task = _load(*pairs)[0]
    probabilities = source_probe(task.source.arrays, task.source.labels, task.target.arrays, len(task.class_names))
    return probabilities.astype("float32")


def reference_predictions(config, task):
    """(N, C) probabilities of the target by source labels alone for features; None for images."""
    if task.kind != "features":
        return None
    return _probe(*_data_key(config))


class CellTraining(Training):
    """The runner's training; every label-free score at every evaluation, and a line instead of a run folder.

    Args:
        config, task, model, out: as `Training`.
        threads: of the data pipeline.
        progress: function of (steps done, steps in all), or None.
        light: write nothing at all.
        kept: leave a complete run folder.
    """

    kept_state = (*Training.kept_state, "voting", "vote")

    def __init__(self, config, task, model, out, threads=1, progress=None, light=True, kept=False):
        super().__init__(config, task, model, out, Callbacks())
        self.data_threads, self.report, self.light, self.kept = threads, progress, light, kept
        self.probe = None if kept else reference_predictions(config, task)
        self.watch = self.make_watch(self.probe)
        self.seen, self.voting, self.vote, self.considered, self.resumed_at = None, None, None, 0, 0
        if not kept:
            self.events = _Nothing()
        if light:
            self.checkpoints, self.metrics, self.means = _Nothing(), _Nothing(), _LastLogs()
            self.log_every = config.eval_interval

    def needs_source(self):
        return not self.light or self.task.kind == "features" or super().needs_source()

    def train_step(self, batch, network_training):
        super().train_step(batch, network_training)
        if self.report is not None:
            self.report(self.step, self.config.iterations)

    def keep_vote(self, entry):
        """Remembers the predictions of the best sound evaluation of the final stage, by the label-free score.

        Source only cannot have collapsed by adapting; a network from nothing is only judged where the run is guarded, and
        later beside the finished source-only model (`votes.beside_source_only`).
        """
        plain = self.config.method == "source_only" and not self.config.semantic
        plain |= self.fresh and not self.guards()
        if self.in_final_stage and (plain or not self.watch.reasons) and is_better(entry, self.voting, self.config.select):
            self.voting, self.vote = entry, pack(self.step, self.seen, self.task.target.labels)

    def predict(self, domain):
        evaluation, rows = super().predict(domain) if self.task.kind != "features" else self.predict_features(domain)
        if domain is self.task.target:
            self.seen = np.full(len(domain), ABSENT)
            self.seen[rows[evaluation.readable]] = evaluation.seen().logits.argmax(axis=1)
        return evaluation, rows

    def predict_features(self, domain):
        size = evaluation_rows(self.config, self.task)
        batches = ({"images": domain.arrays[start : start + size]} for start in range(0, len(domain), size))
        evaluation: Evaluation = self.model.predict_domain(batches)
        return evaluation, np.arange(len(domain))

    def log(self):
        terms = not_finite_terms(self.means.logs) if self.light and self.means.logs else []
        super().log()
        if terms:
            raise NotFinite(f"NaN or infinity in {', '.join(terms)} by step {self.step}")

    def check_collapse(self, logits, weights):
        """Against what source labels alone say of the target's features, where there are features."""
        if self.probe is None:
            return super().check_collapse(logits, weights)
        return self.watch.check(self.step, logits, weights)

    def restore(self):
        found = not self.light and super().restore()
        self.considered, self.resumed_at = len(self.history), self.step if found else 0
        return found

    def leave_stage(self):
        if not self.light:
            super().leave_stage()

    def save(self):
        if len(self.history) > self.considered:
            self.keep_vote(self.history[-1])
            self.considered = len(self.history)
        if not self.light:
            super().save()

    def finish(self):
        """What the tables need, a dict."""
        if self.kept:
            super().finish()
        selected, last, oracle = choices(self.history, self.best["step"], self.stages[-1].name)
        chosen = {"selected": selected, "last": last, "oracle": oracle}
        return {
            "select": self.config.select,
            "samples": len(self.task.target),
            **{
                name: choice and {"step": choice.step, "accuracy": _short(choice.accuracy)}
                for name, choice in chosen.items()
            },
            "evaluations": columns(self.history),
            "vote": self.vote,
            **({"resumed_at": self.resumed_at} if self.resumed_at else {}),  # the seconds are those since then
            "train_seconds": round(self.train_seconds + self.wait_seconds, 2),
            "evaluation_seconds": round(self.evaluation_seconds, 2),
            "steps_per_second": round(self.steps / (self.train_seconds + self.wait_seconds or 1.0), 1),
        }


def columns(history):
    """Evaluations by column: {"step": [...], "stage": [...], "oracle_accuracy": [...], "scores": {name: [...]}, "signals"}."""

    def table(group):
        names = dict.fromkeys(name for entry in history for name in entry.get(group) or {})
        return {name: [_short((entry.get(group) or {}).get(name)) for entry in history] for name in names}

    return {
        "step": [entry["step"] for entry in history],
        "stage": [entry["stage"] for entry in history],
        "oracle_accuracy": [_short(entry["oracle_accuracy"]) for entry in history],
        "scores": table("scores"),
        "signals": table("signals"),
    }


def reset_peak_memory():
    """Lets the kernel count the peak anew, where it can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_memory():
    """Largest resident size in MB since `reset_peak_memory`, or of the process where that is not to be had."""
    try:
        for row in Path("/proc/self/status").read_text().splitlines():
            if row.startswith("VmHWM"):
                return int(row.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


class OrphanWatch:
    """Progress function of a worker: stops the run at the first step after the parent is gone, hands on every 50th.

    Args:
        report: function of (steps done, steps in all).
    """

    EVERY = 50

    def __init__(self, report):
        self.report, self.parent = report, os.getppid()

    def __call__(self, step, total):
        if os.getppid() != self.parent:
            raise Interrupted(15, step, "")
        if step % self.EVERY == 0:
            self.report(step, total)


class _LastLogs:
    """In place of `Means`: the last logs only, for the check that losses are finite."""

    def __init__(self):
        self.logs = None

    def add(self, logs):
        self.logs = logs

    def first_not_finite(self):
        return None  # the cell asks `take` itself

    def take(self):
        logs, self.logs = self.logs, None
        return {name: float(value) for name, value in (logs or {}).items()}


class _Nothing:
    """In place of a writer."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def _short(value):
    """A float with six digits; None for what is no finite number."""
    if value is None or not np.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")
