"""`SearchTuner`: a KerasTuner tuner that is quiet, survives kills and speaks with a chief that may go away."""

import contextlib
import io
import json
import os
import traceback
from pathlib import Path

import keras_tuner
from keras_tuner import errors

from isra_keras.training.checkpoint import is_disk_full, write_text
from tuning import cluster
from tuning.disk import out_of_room

MAX_ATTEMPTS = 3


class SearchTuner(keras_tuner.Tuner):
    """Runs the trials of an oracle on an `ISRAHyperModel`.

    Args:
        oracle: from `tuning.oracles.make_oracle`.
        hypermodel: `ISRAHyperModel`; only its space is used in the chief of a cluster.
        folder: the search folder.
        watcher: object with `trial_began(trial)`, `trial_ended(trial)`, or None.
        lease: seconds after which the chief gives a silent worker's trial to another one.
    """

    def __init__(self, oracle, hypermodel, folder, watcher=None, lease=cluster.LEASE):
        folder = Path(folder).resolve()
        self.watcher, self.lease = watcher, lease
        with contextlib.redirect_stdout(io.StringIO()):  # "Reloading Tuner from ..."
            super().__init__(oracle, hypermodel, directory=str(folder.parent), project_name=folder.name)
        if cluster.is_worker():
            self.oracle = cluster.PatientClient(self.oracle._oracle)
        elif self.oracle.has_state():
            self.oracle.reload()
        self.save()

    def _populate_initial_space(self):
        """Declares the space; KerasTuner would build a model for it."""
        hp = self.oracle.get_space()
        self.hypermodel.declare_hyperparameters(hp)
        self.oracle.update_space(hp)

    def reload(self):
        """Done by the constructor, from the oracle's own file."""
        self._populate_initial_space()

    def save(self):
        """The oracle's state; a tuner has none."""
        if not cluster.is_worker():
            self.oracle.save()

    def search(self):
        """Runs trials until the oracle says stop; the chief of a cluster hands them out instead."""
        if cluster.is_chief():
            cluster.serve(self.oracle, self.lease, self.watcher)
            return
        with cluster.open_search(self.oracle):
            super().search()

    def run_trial(self, trial, **kwargs):
        """Metrics of a trial, and a file with the reason if it fails.

        Raises:
            FailedTrialError: it failed, or ended its process `MAX_ATTEMPTS` times.
        """
        folder = Path(self.get_trial_dir(trial.trial_id))
        budget = trial.hyperparameters.values.get("tuner/epochs")
        with _reason(folder), _attempt(folder), cluster.heartbeat(self.oracle, trial.trial_id, self.lease):
            return super().run_trial(trial, folder=folder, epochs=budget, **kwargs)

    def _try_run_and_update_trial(self, trial, *args, **kwargs):
        """As KerasTuner's, which would print each failure's traceback into the table and take a full disk for one.

        Raises:
            FatalError: `OutOfRoom` among them; the trial stays a running one, as after a kill.
        """
        try:
            with out_of_room(self.project_dir):
                self._run_and_update_trial(trial, *args, **kwargs)
            trial.status = "COMPLETED"
        except errors.FatalError:
            raise
        except Exception as error:
            trial.status = "FAILED" if isinstance(error, errors.FailedTrialError) else "INVALID"
            trial.message = traceback.format_exc()

    def on_trial_begin(self, trial):
        if self.watcher is not None:
            self.watcher.trial_began(trial)

    def on_trial_end(self, trial):
        """Reports the trial; only the best one keeps its weights."""
        with out_of_room(self.project_dir):
            super().on_trial_end(trial)
        with contextlib.suppress(OSError):
            self._drop_weights()
        if self.watcher is not None:
            self.watcher.trial_ended(trial)

    def _drop_weights(self):
        from tuning.records import best_row, read_rows

        rows = read_rows(self.project_dir)
        best = best_row(rows, self.oracle.objective.direction)
        for row in rows:
            if row.status in ("COMPLETED", "FAILED") and best is not None and row.trial_id != best.trial_id:
                Path(self._get_checkpoint_fname(row.trial_id)).unlink(missing_ok=True)


@contextlib.contextmanager
def _reason(folder):
    """Writes why a trial failed to failure.txt, in its last line; before it, where an error of no known kind arose."""
    (folder / "failure.txt").unlink(missing_ok=True)
    try:
        yield
    except errors.FatalError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        named = isinstance(error, errors.FailedTrialError)
        text = line if named else f"{traceback.format_exc()}{type(error).__name__}: {line}"
        write_text(folder / "failure.txt", text + "\n")
        raise


@contextlib.contextmanager
def _attempt(folder):
    """Counts how often a trial's process died in it since it last finished a seed; a person's Ctrl-C does not count.

    Raises:
        FailedTrialError: after `MAX_ATTEMPTS`.
    """
    path = folder / "attempts.json"
    count = json.loads(path.read_text()) if path.is_file() else 0
    if count >= MAX_ATTEMPTS:
        raise errors.FailedTrialError(f"its process was killed {count} times while it ran (out of memory?)")
    write_text(path, json.dumps(count + 1))
    try:
        yield
    finally:  # not reached after SIGKILL
        path.unlink(missing_ok=True)


def count_anew(folder):
    """A trial that finished a seed gets on: deaths of before say no more about it. It does nothing where none are counted.

    Args:
        folder: of the trial.
    """
    path = Path(folder) / "attempts.json"
    if path.is_file():
        write_text(path, json.dumps(1))  # the attempt that goes on


def describe_process():
    """ "worker0 (1234)", for lines in a log."""
    return f"{os.environ.get('KERASTUNER_TUNER_ID', 'tuner0')} ({os.getpid()})"
