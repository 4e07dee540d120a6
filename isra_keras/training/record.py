"""What a run writes while it trains: metrics.jsonl and TensorBoard events; and the lock of its folder."""

import json
import math
import os
import socket
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from isra_keras.errors import NotFinite, UserError
from isra_keras.training.checkpoint import FULL, disk_full, write_text

ADVICE = "Lower --learning-rate, --class2vec-weight or --alignment-weight, or take --precision float32."


class Metrics:
    """metrics.jsonl: one object a line, "kind" is "train" (means since the line before) or "eval".

    Args:
        path: file; made when the first line is written.
    """

    def __init__(self, path):
        self.path = Path(path)

    def write(self, entry):
        """Appends a line; NaN and infinities become null.

        Raises:
            UserError: disk full.
        """
        line = json.dumps(finite(entry)) + "\n"
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            if error.errno in FULL:
                raise disk_full(self.path) from error
            raise

    def truncate(self, step):
        """Forgets what came after a step, and a line that was cut off: a resumed run writes it again."""
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue
        write_text(self.path, "".join(kept))


class Events:
    """TensorBoard events of a run, in `folder`.

    Args:
        folder: made when the first value is written.
    """

    def __init__(self, folder):
        self.folder, self.writer = Path(folder), None

    def write(self, entry):
        """The scalars of a line of metrics.jsonl: "train/loss", "target/mean_entropy", "collapse/agreement", ..."""
        if entry["kind"] == "train":
            means = {name: value for name, value in entry.items() if name not in ("kind", "step", "stage")}
            self._scalars(entry["step"], means, "train")
            return
        oracle = {"oracle_accuracy": entry.get("oracle_accuracy")}
        self._scalars(entry["step"], entry["scores"] | oracle, "target")
        self._scalars(entry["step"], entry.get("signals") or {}, "collapse")

    def rewrite(self, metrics):
        """Makes the events anew from metrics.jsonl: a resumed run would else show the steps it repeats twice."""
        for path in self.folder.glob("events.out.tfevents.*"):
            path.unlink()
        if Path(metrics).is_file():
            for line in Path(metrics).read_text(encoding="utf-8").splitlines():
                self.write(json.loads(line))

    def _scalars(self, step, values, group):
        import tensorflow as tf

        if self.writer is None:
            self.writer = tf.summary.create_file_writer(str(self.folder))
        with self.writer.as_default():
            for name, value in values.items():
                if value is not None and math.isfinite(value):
                    tf.summary.scalar(f"{group}/{name}", value, step=step)

    def flush(self):
        if self.writer is not None:
            self.writer.flush()

    def close(self):
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class Means:
    """Means of the logged scalars since the last `take`; the values stay on the device until then."""

    def __init__(self):
        self.logs = []

    def add(self, logs):
        self.logs.append(logs)

    def first_not_finite(self):
        """(position, [names of its terms]) of the first step since `take` whose loss is not finite, or None."""
        bad = ((number, terms) for number, logs in enumerate(self.logs) if (terms := not_finite_terms(logs)))
        return next(bad, None)

    def values(self):
        """[{name: float}] of the steps since the last `take`."""
        return [{name: float(value) for name, value in logs.items()} for logs in self.logs]

    def take(self):
        """{name: float} and forgets; a name that only some steps have is averaged over those."""
        names = dict.fromkeys(name for logs in self.logs for name in logs)
        columns = {name: [float(logs[name]) for logs in self.logs if name in logs] for name in names}
        self.logs = []
        return {name: sum(values) / len(values) for name, values in columns.items()}


def not_finite_terms(logs):
    """Names of what makes a step's loss NaN or infinite; empty if it is finite."""
    if math.isfinite(float(logs["loss"])):
        return []
    return [name for name, value in logs.items() if name != "loss" and not math.isfinite(float(value))] or ["loss"]


def stop_on(out, task, step, terms, indices):
    """Names the batch of the step whose loss is not finite in bad_batch.json.

    Args:
        out: run folder.
        task: `Task`.
        step: that step.
        terms: names of the losses that are not finite.
        indices: {"source", "target", "middle": rows of the batch}.

    Raises:
        NotFinite: always.
    """
    domains = {"source": task.source, "target": task.target, "middle": task.source}
    samples = {
        name: [domains[name].paths[row] if domains[name].paths else row for row in map(int, rows)]
        for name, rows in indices.items()
    }
    where = out / "bad_batch.json"
    write_text(where, json.dumps({"step": step, "terms": terms, **samples}, indent=1) + "\n")
    raise NotFinite(
        f"Expected finite losses; received NaN or infinity in {', '.join(terms)} at step {step}; its samples are in "
        f"'{where}', the last good checkpoint is kept. {ADVICE}"
    )


def check_evaluation(evaluation, step):
    """Refuses predictions that are not finite, before they reach class weights, scores or a checkpoint.

    Raises:
        NotFinite: the loss was still finite, the weights after its step are not.
    """
    if not all(np.isfinite(values).all() for values in (evaluation.features, evaluation.logits)):
        raise NotFinite(
            f"Expected finite features and logits of the target at step {step}; received NaN or infinity, the last good "
            f"checkpoint is kept. {ADVICE}"
        )


def report_bad_images(out, bad, say):
    """Names the files that were left out, those that went bad during the run too, in report/bad_images.csv.

    Args:
        out: run folder.
        bad: `BadImage`s; nothing happens if there are none.
        say: called with a sentence.
    """
    from isra_keras.data.image_folder import summary, table

    if bad:
        path = out / "report" / "bad_images.csv"
        path.parent.mkdir(exist_ok=True)
        write_text(path, table(bad))
        say(f"{summary(sorted(set(bad)), shown=0)}; named in {path}")


@contextmanager
def folder_lock(folder):
    """Holds a run folder; a second process is refused.

    Raises:
        UserError: names the process that has it; the folder can't be written.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    owner = folder / ".owner"
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        name = owner.read_text(encoding="utf-8").strip() if owner.is_file() else "unknown"
        raise UserError(
            f"Expected to be alone in '{folder}'; process {name} is training there. Wait for it, end it, or take "
            "another --out."
        ) from None
    except OSError as error:
        raise UserError(
            f"Expected to write in '{folder}'; the system refused: {error.strerror}. Take another --out."
        ) from error
    try:
        owner.write_text(f"{os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def finite(value):
    """The same JSON value with None for NaN and infinities."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
