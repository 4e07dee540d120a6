"""One training of a trial: the runner's own loop, without its files, with Keras callbacks and an outcome."""

import time
from dataclasses import asdict, dataclass, field

import keras

from isra_keras.data.reader import late_bad_images
from isra_keras.errors import NotFinite
from isra_keras.training.build import build_model
from isra_keras.training.callbacks import Callbacks, RunCallback
from isra_keras.training.record import finite
from isra_keras.training.results import choices
from isra_keras.training.runner import Training
from tuning.objectives import metrics_of

WATCHED = ("receptor_r2", "receptor_mean_weight", "attention_sparsity", "alignment", "class2vec")
"""Diagnostics of the last steps before the selected evaluation, kept in the outcome."""


@dataclass
class Outcome:
    """What one seed of a trial came to.

    Attributes:
        seed: of the run.
        metrics: {"sel:<score>": float, "oracle:accuracy": float where the target has labels} at the evaluation that
            the run selected without labels.
        step: of that evaluation.
        history: [{"step", metrics...}] of all evaluations.
        diagnostics: {name: mean over the last log line's steps before that evaluation, a 200th of the run}, those of
            `WATCHED` that there are.
        seconds: of training and evaluation.
        late_bad_images: number of files that could no longer be read: training took others, evaluations left them out.
        fell_back: whether every evaluation of the adaptation looked collapsed, so that the selected one, and all that is
            said of it here, is of the model from before.
    """

    seed: int
    metrics: dict
    step: int
    history: list = field(default_factory=list)
    diagnostics: dict = field(default_factory=dict)
    seconds: float = 0.0
    late_bad_images: int = 0
    fell_back: bool = False

    def to_json(self):
        """dict of JSON values."""
        return finite(asdict(self))


class NoCheckpoints:
    """In the place of `CheckpointFolder`: a trial that was cut off is run again, seed by seed."""

    def save(self, step, arrays, state):
        """Keeps nothing."""

    def save_selected(self, step, arrays):
        """Keeps nothing; KerasTuner's callback saves the weights that count."""

    def save_reference(self, step, array):
        """Keeps nothing."""

    def load_newest(self, warn=None):
        """None: there is never one."""


class NoRecords:
    """In the place of `Metrics` and `Events`."""

    def write(self, *values):
        """Writes nothing."""

    def flush(self):
        """Nothing to flush."""

    def close(self):
        """Nothing to close."""


class Stopped(Exception):
    """A Keras callback set `stop_training`."""


class TrialTraining(Training):
    """A training whose result is an `Outcome`.

    Args:
        config, task, model: as `Training` takes them.
        folder: only named in messages.
        callbacks: Keras callbacks; an evaluation ends an "epoch" for them.
        on_step: called with the number of steps done, or None.
        with_source: evaluate the source too, for the scores that need it.
    """

    def __init__(self, config, task, model, folder, callbacks=(), on_step=None, with_source=False):
        super().__init__(config, task, model, folder, Callbacks([_Steps(on_step)] if on_step else []))
        self.checkpoints, self.metrics, self.events = NoCheckpoints(), NoRecords(), NoRecords()
        self.keras_callbacks, self.diagnostics = Epochs(callbacks, model), {}
        self.newest, self.with_source = {}, with_source

    def needs_source(self):
        return self.with_source or super().needs_source()

    def outcome(self):
        """Trains and returns the `Outcome`.

        Raises:
            UserError: a loss that is not finite; Interrupted: after a signal.
        """
        started = time.monotonic()
        self.keras_callbacks.begin()
        try:
            self.run(resume=False, quiet=True)
        except Stopped:
            pass
        self.keras_callbacks.end()
        if self.best is None:  # stopped in a stage before the last one: what there is now is what there is
            self.best, self.diagnostics = self.history[-1], dict(self.newest)
            self.keras_callbacks.save()
        stage = self.best["stage"]
        selected, _, _ = choices(self.history, self.best["step"], stage)
        history = [{"step": entry["step"]} | metrics_of(entry["scores"], entry["oracle_accuracy"])
                   for entry in self.history if entry["stage"] == stage]  # fmt: skip
        return Outcome(self.config.seed, metrics_of(selected.scores, selected.accuracy), selected.step, history,
                       self.diagnostics, time.monotonic() - started, self.count_late(),
                       self.in_final_stage and stage != self.stages[-1].name)  # fmt: skip

    def count_late(self):
        """Number of files that went bad since the scan."""
        source, target = self.task.source, self.task.target
        bad = {*(self.pairs.bad_images if self.pairs else ()), *late_bad_images(target, self.config.image_size)}
        return len(bad - {*source.bad_images, *target.bad_images})

    def log(self):
        """As the runner's; keeps the newest means of the watched diagnostics.

        Raises:
            NotFinite: fails the trial; it writes nothing.
        """
        bad = self.means.first_not_finite()
        if bad is not None:
            number, terms = bad
            step = self.step - len(self.recent) + number + 1
            raise NotFinite(f"Expected finite losses; received NaN or infinity in {', '.join(terms)} at step {step}.")
        means = self.means.take()
        self.newest |= {name: means[name] for name in WATCHED if name in means}
        self.means.logs = [means] if means else []
        super().log()

    def leave_stage(self):
        """Keeps no source model."""

    def evaluate(self):
        """As the runner's; then tells the callbacks, with the scores in their logs."""
        super().evaluate()
        entry = self.history[-1]
        best = self.best is entry
        if best:
            self.diagnostics = dict(self.newest)
        self.keras_callbacks.epoch(metrics_of(entry["scores"], entry["oracle_accuracy"]), best)
        if self.model.stop_training:
            raise Stopped

    def finish(self):
        """Nothing to write."""


class Epochs:
    """Keras callbacks for which an evaluation is an epoch."""

    def __init__(self, callbacks, model):
        self.savers = [item for item in callbacks if type(item).__name__ == "SaveBestEpoch"]
        others = [item for item in callbacks if item not in self.savers]
        model.stop_training = False
        self.others = keras.callbacks.CallbackList(others, model=model)
        for item in self.savers:
            item.set_model(model)
        self.number = 0

    def begin(self):
        self.others.on_train_begin()
        self.others.on_epoch_begin(0)

    def epoch(self, logs, best):
        """After an evaluation; KerasTuner's saver writes the weights of the selected one, whatever the objective."""
        self.others.on_epoch_end(self.number, dict(logs))
        if best:
            self.save()
        self.number += 1

    def save(self):
        """Writes the weights that the model has now."""
        for item in self.savers:
            item.on_epoch_end(self.number, {})

    def end(self):
        self.others.on_train_end()


class _Steps(RunCallback):
    """`on_step` for a display."""

    def __init__(self, function):
        self.function = function

    def on_step(self, step, logs):
        self.function(step)


def train_seed(config, task, folder, model=None, callbacks=(), on_step=None, with_source=False):
    """`Outcome` of one run.

    Args:
        config: `TrainConfig` with the trial's values and the run's seed.
        task: `Task`.
        folder: named in messages.
        model: compiled `AdaptationModel` of that configuration; built here if None.
        callbacks, on_step, with_source: of `TrialTraining`.

    Raises:
        UserError, Interrupted: as `TrialTraining.outcome`.
    """
    model = model if model is not None else build_model(config, task)
    return TrialTraining(config, task, model, folder, callbacks, on_step, with_source).outcome()
