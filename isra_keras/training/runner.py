"""`run`: a configuration becomes a run folder. Interrupted at any moment, it goes on exactly where it was."""

import functools
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from isra_keras.data.pairs import DomainPairs, own_threads, plain_errors
from isra_keras.data.reader import late_bad_images
from isra_keras.model import WARMUP
from isra_keras.selection import score_all
from isra_keras.selection.blas import one_blas_thread
from isra_keras.selection.oracle import oracle_accuracy
from isra_keras.training.build import build_model, make_schedule, stage_lengths
from isra_keras.training.callbacks import Callbacks
from isra_keras.training.checkpoint import CheckpointFolder, gather, restore, without_optimizer
from isra_keras.training.determinism import policy
from isra_keras.training.distribution import Distribution, make_distribution
from isra_keras.training.guarded import Guarded
from isra_keras.training.interrupt import Interrupted, StopRequest
from isra_keras.training.predicting import DomainPredictor
from isra_keras.training.prepare import check_folder, check_task, freeze, is_longer, load_data, prepared_folder
from isra_keras.training.progress import Progress
from isra_keras.training.record import Events, Means, Metrics, check_evaluation, finite, report_bad_images, stop_on
from isra_keras.training.results import RunResult, image_network, is_better, save_network, write_results
from isra_keras.training.same_data import check_same_data, data_facts
from isra_keras.training.together import together


def run(config, out, resume=False, callbacks=(), task=None, quiet=False):
    """Trains, evaluates, selects and writes a run folder.

    The folder: config.json, metrics.jsonl, checkpoints/, tensorboard/, and at the end model.keras, model.json, report/
    and result.json; report/bad_images.csv if files could not be read. Nothing is written before the data and the
    network are known to be fine.

    Args:
        config: `TrainConfig`.
        out: run folder; must be empty or missing unless `resume`.
        resume: go on from the newest whole checkpoint; a finished run is only read, unless `config` has more
            iterations: its last stage then goes on, with schedules that count against the new length.
        callbacks: `RunCallback`s.
        task: `Task`, if it is already there; loaded by `load_data(config)` otherwise.
        quiet: no progress; of several workers only the chief shows any.

    Returns:
        `RunResult`.

    Raises:
        UserError: whatever the user can mend.
        Interrupted: after SIGTERM or Ctrl-C, once the state is saved.
        WorkerLost: another worker of a distributed run is gone.

    Example:
        >>> run(resolve(dataset="glyphs", iterations=200), "runs/short").selected.accuracy
    """
    config.validate()
    out, distribution = Path(os.path.expanduser(out)), make_distribution(config)  # before any TensorFlow operation
    if distribution.workers == 1:
        return _run(config, out, resume, callbacks, task, quiet, distribution)
    with together(distribution, config, out, resume) as (config, folder):
        return _run(config, folder, resume, callbacks, task, quiet or distribution.worker > 0, distribution)


def _run(config, out, resume, callbacks, task, quiet, distribution):
    """`run` in one process of a distribution."""
    distribution.configure(config)
    check_folder(out, config, resume)
    if resume and (out / "result.json").is_file() and not is_longer(out, config):
        return RunResult.load(out / "result.json")
    with policy(config), distribution.scope():
        task = task or load_data(config, quiet)
        if config.freeze_backbone and task.kind == "images":
            task = freeze(config, task, quiet)
        check_task(task, config)
        # Before the folder is touched: a finished run that is to be longer would lose its result.
        check_same_data(CheckpointFolder(out / "checkpoints").newest_state().get("data"), data_facts(task), out)
        model = build_model(config, task)
        with prepared_folder(out, config, resume):
            return Training(config, task, model, out, Callbacks(callbacks), distribution).run(resume, quiet)


class Training(Guarded):
    """One run in progress. Its state is (stage, step in it, variables, history, selected): `save` and `restore`.

    Args:
        config, task, model: `TrainConfig`, `Task`, compiled `AdaptationModel`.
        out: run folder, prepared.
        callbacks: `Callbacks`.
        distribution: `Distribution`; one device if None.
    """

    data_threads = None  # as many as there are cores
    kept_state = ("stage", "local", "evaluated", "history", "best")  # names of what a checkpoint has as it is

    def __init__(self, config, task, model, out, callbacks, distribution=None):
        self.distribution = distribution or Distribution()
        self.config, self.task, self.model, self.out, self.callbacks = config, task, model, out, callbacks
        self.set_lengths(stage_lengths(config.iterations, model.stages()))
        self.checkpoints = CheckpointFolder(out / "checkpoints", config.keep_checkpoints)
        self.metrics, self.events, self.means = Metrics(out / "metrics.jsonl"), Events(out / "tensorboard"), Means()
        self.log_every = max(1, config.iterations // 200)
        self.stage, self.local, self.evaluated = 0, 0, False
        self.watch, self.recent, self.predictor = self.make_watch(), [], None
        self.history, self.best, self.selected_file, self.pairs = [], None, None, None
        self.seconds, self.train_seconds, self.wait_seconds, self.evaluation_seconds, self.steps = 0.0, 0.0, 0.0, 0.0, 0

    @property
    def step(self):
        """Steps done, over all stages."""
        return sum(self.lengths[: self.stage]) + self.local

    @property
    def in_final_stage(self):
        return self.stage == len(self.stages) - 1

    @property
    def before_adaptation(self):
        """Whether this stage learns from source labels alone, and others follow."""
        return self.stages[self.stage].source_only and not self.in_final_stage

    def set_lengths(self, lengths):
        """Steps of each stage; the stages' shares are made to say the same, to the step."""
        self.lengths = lengths
        shares = (length / self.config.iterations for length in lengths)
        self.stages = tuple(replace(stage, share=share) for stage, share in zip(self.model.stages(), shares))

    # ---------------------------------------------------------------- the way through

    def run(self, resume, quiet):
        """Everything from the first or the next step to the result."""
        started = time.monotonic()
        with StopRequest() as self.stop, Progress(self.config.iterations, quiet=quiet) as self.progress:
            self.predictor = DomainPredictor(self.config, self.task, self.model, self.distribution, self.progress.evaluating)
            if not (resume and self.restore()):
                self.begin(self.stage)
            try:
                while True:
                    self.train_stage()
                    if self.in_final_stage:
                        break
                    self.leave_stage()
                    self.stage, self.local, self.evaluated = self.stage + 1, 0, False
                    self.begin(self.stage)
                self.seconds = time.monotonic() - started
                return self.finish()
            finally:
                self.events.close()

    def begin(self, number):
        """Freezes, recompiles and counts from 0 with a fresh optimiser, as a stage begins."""
        self.model.begin_stage(self.stages[number], make_schedule(self.config, self.lengths[number]))

    def leave_stage(self):
        """Keeps the source model, if that is what the stage made."""
        if self.stages[self.stage].source_only:
            save_network(image_network(self.config, self.task, self.model.network), self.out / "source_model.keras")

    def train_stage(self):
        """Steps and evaluations of the current stage, from where it stands to its end."""
        length = self.lengths[self.stage]
        theirs = self.config.semantic or self.model.method.quirky_loop
        quirks = self.config.reference_quirks and self.in_final_stage and theirs
        total = length + int(quirks)  # the authors' script takes the step of i = max_iterations too
        batches = iter(self.batches(total)) if self.local < total else None
        while self.local < total:
            due = self.local > 0 and self.local % self.config.eval_interval == 0 or self.local == length
            if due and not self.evaluated:
                self.evaluate()
            self.check_stop()
            self.train_step(next_batch(batches, self), network_training=not (quirks and self.evaluated))
        if not quirks and not self.evaluated:
            self.evaluate()
        self.log()  # of the quirks' last step
        self.check_stop()

    def batches(self, stop):
        """Batches `local` to `stop` of this stage; batch k is a function of (seed, stage, k) alone."""
        config, length = self.config, self.lengths[self.stage]
        middle_sizes = None
        if self.stages[self.stage].name != WARMUP:
            # A table: TensorFlow never forgets a Python function of a data set, and the method's would keep the model.
            sizes = functools.partial(self.model.method.middle_size, batch_size=config.batch_size,
                                      max_iterations=length, eval_interval=config.eval_interval)  # fmt: skip
            middle_sizes = [sizes(step) for step in range(stop)]
        pairs = DomainPairs(
            self.task, config.batch_size, config.seed + 1_000_003 * self.stage, config.image_size, config.crop_size,
            middle_size=middle_sizes, augment=config.augment, uses_source=self.stages[self.stage].uses_source,
            source_sampling=config.source_sampling, replicas=self.distribution.own_rows(),
        )  # fmt: skip
        self.pairs = pairs
        return own_threads(pairs.dataset(self.local, stop), self.data_threads)

    def train_step(self, batch, network_training):
        """One step, its log line and its progress."""
        started = time.monotonic()
        logs = self.distribution.train_on(self.model, batch, network_training, self.pairs.rows(self.local))
        self.means.add(logs)
        self.recent.append({name: part["indices"] for name, part in batch.items()})
        self.local, self.evaluated = self.local + 1, False
        self.steps += 1
        if self.step % self.log_every == 0 or self.local == self.lengths[self.stage]:
            self.log()
        else:
            self.progress.step(self.step)
        self.train_seconds += time.monotonic() - started
        self.callbacks.on_step(self.step, logs)

    def log(self):
        """Writes the means since the last line.

        Raises:
            NotFinite: if a loss no longer is.
        """
        bad = self.means.first_not_finite()
        means = self.means.take()
        batches, self.recent = self.recent, []
        if not means:
            return
        self.progress.step(self.step, means)
        entry = {"kind": "train", "step": self.step, "stage": self.stages[self.stage].name, **means}
        self.metrics.write(entry)
        self.events.write(entry)
        if bad is not None:
            number, terms = bad
            stop_on(self.out, self.task, self.step - len(batches) + number + 1, terms, batches[number])

    def check_stop(self):
        """After SIGTERM or Ctrl-C: saves this very step, then leaves."""
        signal = self.distribution.agree(self.stop.signal, self.step % self.log_every == 0)
        if signal is not None:
            if self.means.first_not_finite() is not None:
                self.log()  # says so, and keeps the last good checkpoint
            self.distribution.average_statistics(self.model)
            self.save()
            raise Interrupted(signal, self.step, self.out)

    # ---------------------------------------------------------------- evaluation

    @one_blas_thread
    def evaluate(self):
        """Predicts the target, renews class weights, scores, selects, saves a checkpoint."""
        started = time.monotonic()
        self.log()
        self.distribution.average_statistics(self.model)
        evaluation, indices = self.predict(self.task.target)
        check_evaluation(evaluation, self.step)
        source = self.predict_source() if self.needs_source() else None
        evaluation.source = source if self.model.method.needs_source_evaluation else None
        weights = self.model.update(evaluation)
        seen, labels = evaluation.seen(), np.asarray(self.task.target.labels)[indices[evaluation.readable]]
        extra = () if source is None else (source.features, source.logits, source.labels)
        entry = {
            "kind": "eval",
            "step": self.step,
            "stage": self.stages[self.stage].name,
            "scores": self.scores(seen, extra),
            "oracle_accuracy": finite(float(oracle_accuracy(seen.logits, labels))),
            "class_weights": None if weights is None else [float(value) for value in weights],
            "signals": self.check_collapse(evaluation.logits, weights),
        }
        if self.guards():
            entry["collapsed"] = bool(self.watch.reasons)
        self.evaluated = True
        self.history.append(entry)
        best = self.may_be_kept() and is_better(entry, self.best, self.config.select, self.stages[-1].name)
        if best:
            self.best = entry
            kept = gather(without_optimizer(self.model.state_variables()))
            self.selected_file = self.checkpoints.save_selected(self.step, kept)
        seconds = time.monotonic() - started
        self.metrics.write({**entry, "seconds": round(seconds, 3)})
        self.events.write(entry)
        self.events.flush()
        self.save()
        self.evaluation_seconds += time.monotonic() - started
        self.progress.evaluated(entry, best, time.monotonic() - started)
        self.callbacks.on_evaluation(entry, self.model)

    def predict(self, domain):
        """(`Evaluation`, (N,) positions of its rows) of a whole domain."""
        return self.predictor(domain)

    def predict_source(self):
        """`Evaluation` of what can be read of the source, with its labels."""
        evaluation, indices = self.predict(self.task.source)
        evaluation.labels = np.asarray(self.task.source.labels)[indices]
        return evaluation.seen()

    def scores(self, evaluation, source=()):
        """{name: label-free score}, the selecting one first."""
        scores = score_all(evaluation.features, evaluation.logits, *source)
        first = self.config.select if self.config.select in scores else "mean_entropy"
        return {first: scores.pop(first), **scores}

    # ---------------------------------------------------------------- state

    def save(self):
        """Writes a checkpoint of this moment."""
        state = {
            **{name: getattr(self, name) for name in self.kept_state},
            "selected": self.selected_file,
            "means": self.means.values(),
            "lengths": self.lengths,
            "data": data_facts(self.task),
        }
        self.checkpoints.save(self.step, gather(self.model.state_variables()), state)

    def restore(self):
        """Puts everything back as the newest whole checkpoint has it; False if there is none."""
        found = self.checkpoints.load_newest(self.progress.message)
        if found is None:
            self.metrics.truncate(-1)
            self.events.rewrite(self.metrics.path)
            return False
        _, arrays, state = found
        check_same_data(state.get("data"), data_facts(self.task), self.out)
        begun = state.get("lengths", self.lengths)[:-1]  # a longer run has a longer last stage, all else is history
        self.set_lengths([*begun, self.config.iterations - sum(begun)])
        for number in range(state["stage"] + 1):
            self.begin(number)
        restore(self.model.state_variables(), arrays)
        for name in self.kept_state:
            setattr(self, name, state.get(name, getattr(self, name)))
        self.selected_file, self.means.logs = state["selected"], state.get("means", [])
        self.recent = [{} for _ in self.means.logs]  # of these steps the samples are no longer known
        self.watch.reference = self.checkpoints.load_reference(self.step, self.progress.message)
        self.metrics.truncate(self.step)
        self.events.rewrite(self.metrics.path)
        self.progress.done = self.progress.first = self.step
        self.progress.message(f"resuming at step {self.step} of {self.config.iterations}")
        return True

    def finish(self):
        """Loads the selected weights, predicts once more, writes the results."""
        self.save()
        if self.best["stage"] != self.stages[-1].name:
            self.progress.message("every evaluation of the adaptation looks collapsed: the model from before it is kept")
        restore(without_optimizer(self.model.state_variables()), self.checkpoints.load_selected(self.selected_file))
        evaluation, indices = self.predict(self.task.target)
        rate = self.steps / self.train_seconds if self.train_seconds else 0.0
        timing = {
            "seconds": self.seconds,
            "steps_per_second": rate,
            "data_wait_share": self.wait_seconds / (self.train_seconds + self.wait_seconds or 1.0),
            "evaluation_seconds": self.evaluation_seconds,
        }
        result = write_results(
            self.out, self.config, self.task, self.model, evaluation.seen(), indices[evaluation.readable], self.history,
            self.best["step"], self.best["class_weights"], timing,
        )  # fmt: skip
        bad = self.pairs.bad_images if self.pairs else (*self.task.source.bad_images, *self.task.target.bad_images)
        late = late_bad_images(self.task.target, self.config.image_size)  # of the evaluations
        report_bad_images(self.out, (*bad, *late), self.progress.message)
        self.callbacks.on_end(result)
        return result


def next_batch(batches, training):
    """The next batch; the time spent waiting for it is counted."""
    started = time.monotonic()
    with plain_errors():
        batch = next(batches)
    training.wait_seconds += time.monotonic() - started
    return batch
