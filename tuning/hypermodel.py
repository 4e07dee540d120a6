"""`ISRAHyperModel`: the search space as KerasTuner knows it, and the training of a trial over K seeds."""

import json
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras
import keras_tuner
import numpy as np

from isra_keras.data.protocols import protocols
from isra_keras.data.tasks import protocol_of
from isra_keras.errors import NotFinite, UserError
from isra_keras.training.build import build_model
from isra_keras.training.checkpoint import write_text
from isra_keras.training.determinism import policy
from isra_keras.training.interrupt import Interrupted
from isra_keras.training.prepare import freeze
from isra_keras.training.recipes import resolve
from tuning import cluster
from tuning import space as spaces
from tuning.disk import Unfit, out_of_room
from tuning.trial import train_seed
from tuning.trial_metrics import mean_metrics
from tuning.tuner import count_anew

OUT_OF_MEMORY = ("ResourceExhaustedError", "MemoryError")


class ISRAHyperModel(keras_tuner.HyperModel):
    """Models of one task whose lambda, eta and number of topics (and more, if asked for) are open.

    Works with every KerasTuner tuner. The data are held once, by `task`; `fit` trains with them and returns
    {"sel:<score>": mean over seeds, ..., "oracle:accuracy": where the target has labels}. Each run is judged by the
    evaluation that `select` picks: give the objective's own score (`select="snd"` with `objective("sel:snd")`), as the
    command does; it is the mean entropy otherwise.

    Args:
        task: `Task`; with `freeze_backbone`, features take the place of its images here, once for all trials.
        config: `TrainConfig` of everything that is not searched; None for the recipe of `given`, which it excludes.
        seeds: runs of a trial, with the configuration's seed and the following ones; the scores are their means.
        also: names searched beside the default ones: receptor_l1, receptor_width, variant, feature_dim,
            learning_rate, backbone_multiplier.
        names: what to search instead of the default ones.
        fixed: names that are not searched.
        grid: offer a few values of each range, for `keras_tuner.GridSearch`.
        on_step: called with (seed number, steps done), or None.
        needs_source: also the scores that look at the source (dev, source_accuracy, source_risk).
        **given: values as `isra_keras.training.recipes.resolve` takes them (method, iterations, semantic, ...).

    Raises:
        UserError: nothing to search, unknown names, impossible values, a task that fits two datasets, a configuration
            and values beside it.

    Example:
        >>> model = ISRAHyperModel(load_task("glyphs"), iterations=400, select="snd", also=["receptor_l1"])
        >>> keras_tuner.RandomSearch(model, objective=objective("sel:snd"), max_trials=8,
        ...                          directory="runs", project_name="glyphs-snd").search()  # each search its own folder
    """

    def __init__(self, task, config=None, seeds=1, also=(), names=None, fixed=(), grid=False, on_step=None,
                 needs_source=False, **given):  # fmt: skip
        super().__init__(name="isra")
        if seeds < 1:
            raise UserError(f"Expected at least 1 seed; received {seeds}.")
        if config is not None and given:
            raise UserError(
                f"Expected a configuration, or values for the recipe; received one and {', '.join(given)}. Name them where it "
                "is made: config=resolve(...)."
            )
        self.task, self.seeds, self.grid, self.on_step = task, int(seeds), grid, on_step
        self.needs_source = needs_source
        self.config = config if config is not None else config_of(task, given)
        self.space = spaces.make_space(self.config, names, also, (*fixed, *given))
        # Once, here: all trials train on the same features. The chief of a cluster trains none.
        if self.config.freeze_backbone and task.kind == "images" and not cluster.is_chief():
            with policy(self.config):
                self.task = freeze(self.config, task)

    def declare_hyperparameters(self, hp):
        """Registers the dimensions; builds no model."""
        for item in self.space:
            item.declare(hp, self.grid)

    def configuration(self, hp, seed=0):
        """`TrainConfig` of a trial's values, for its seed number `seed`."""
        values = {item.name: item.declare(hp, self.grid) for item in self.space}
        return replace(spaces.apply(self.config, values), seed=self.config.seed + seed)

    def build(self, hp):
        """Compiled `AdaptationModel` of a trial's values and the first seed."""
        config = self.configuration(hp)
        with policy(config):
            return build_model(config, self.task)

    def fit(self, hp, model, folder=None, callbacks=(), epochs=None, initial_epoch=0, verbose=None):
        """Trains every seed and returns the mean metrics.

        Args:
            hp: `keras_tuner.HyperParameters`.
            model: from `build`; the first seed trains it, the others build their own.
            folder: where finished seeds are noted, so that a trial that was cut off does not repeat them; or None.
            callbacks: Keras callbacks, on the first seed; one evaluation is one epoch.
            epochs: evaluations to train for (Hyperband's budget); None for the whole training.
            initial_epoch: not 0 where Hyperband goes on with a trial: it is trained anew, with the larger budget.
            verbose: ignored.

        Raises:
            keras_tuner.errors.FailedTrialError: a loss or score that is not finite, or no memory left; KerasTuner
                counts the trial as failed and goes on.
            OutOfRoom, Unfit: the disk is full, the data went away or the like; it ends the search, and the trial can be
                run again.
            KeyboardInterrupt: after Ctrl-C or SIGTERM.
        """
        if initial_epoch:
            keras.backend.clear_session()
            model = self.build(hp)
        outcomes = []
        with _notes(folder) as notes, failures(), out_of_room():
            for seed in range(self.seeds):
                config = shortened(self.configuration(hp, seed), epochs)
                outcomes.append(self.run_seed(config, notes, seed, model if seed == 0 else None, callbacks))
            metrics = mean_metrics(outcomes)
            wrong = sorted(name for name, value in metrics.items() if not np.isfinite(value))
            if wrong:
                raise NotFinite(f"Expected finite scores; received NaN or infinity in {', '.join(wrong)}.")
        return metrics

    def run_seed(self, config, notes, seed, model, callbacks):
        """dict of the `Outcome` of one seed, from its note if it has been run already."""
        path = notes / f"seed{seed}.json"
        text = config.to_json()
        if path.is_file():
            note = json.loads(path.read_text(encoding="utf-8"))
            if note["config"] == text:
                return note["outcome"]
        with policy(config):
            if model is not None and config.iterations != model.max_iterations:
                model = None
            on_step = None if self.on_step is None else (lambda step: self.on_step(seed, step))
            watching = callbacks if seed == 0 else ()
            outcome = train_seed(config, self.task, notes, model, watching, on_step, self.needs_source).to_json()
        write_text(path, json.dumps({"config": text, "outcome": outcome}))
        count_anew(notes)
        return outcome


def config_of(task, given):
    """The recipe's configuration for a task that is already loaded.

    Args:
        task: `Task`; one of frozen features goes with its dataset's backbone.
        given: {name: value} as `resolve` takes them; they come before what the task says.

    Raises:
        UserError: two datasets could be meant, the task is of no dataset that has a recipe and `given` does not say
            enough, or impossible values.
    """
    if "source_dir" in given:
        return resolve(**given)
    dataset = given.get("dataset") or dataset_of(task)
    sides = {"source": task.source.name, "target": task.target.name}
    if dataset is None:
        backbone = {"backbone": "features", "weights": "none"} if task.kind == "features" else {}
        return resolve(**({f"{side}_dir": name for side, name in sides.items()} | backbone | given))
    protocol = protocol_of(dataset)
    said = sides if set(sides.values()) <= set(protocol.domains) else {}
    if task.kind == "features" and protocol.kind == "images" and given.get("backbone") != "features":
        said = said | {"freeze_backbone": True}  # its images became features already
    return resolve(**({"dataset": dataset} | said | given))


def dataset_of(task):
    """Name of a task's dataset, None if it is of none.

    A task that `load_task` did not make is of the dataset that has its domains, kind and classes.

    Raises:
        UserError: several datasets have them.
    """
    if task.dataset is not None:
        return task.dataset
    names = [name for name, protocol in protocols().items()
             if protocol.kind == task.kind and {task.source.name, task.target.name} <= set(protocol.domains)
             and tuple(task.class_names) == protocol.classes]  # fmt: skip
    if len(names) > 1:
        raise UserError(
            f"Expected one dataset with the domains {task.source.name} and {task.target.name}; received a task that fits "
            f"{', '.join(names)}. Name it: dataset='{names[0]}'."
        )
    return names[0] if names else None


def shortened(config, epochs):
    """The configuration for a budget of so many evaluations; None, or more than there are, leaves it whole."""
    if epochs is None:
        return config
    return replace(config, iterations=max(1, min(config.iterations, int(epochs) * config.eval_interval)))


@contextmanager
def failures():
    """Turns what a trial's values can make it die of into KerasTuner's `FailedTrialError`, a signal into `KeyboardInterrupt`.

    Raises:
        Unfit: any other `UserError`; values that can't be trained are refused before, where the model is built.
    """
    try:
        yield
    except keras_tuner.errors.FatalError:
        raise
    except Interrupted as stopped:
        raise KeyboardInterrupt(stopped.signal) from None
    except NotFinite as error:
        raise keras_tuner.errors.FailedTrialError(str(error)) from error
    except UserError as error:
        raise Unfit(f"{error} It ended the search and fails no trial: once it is mended, the same command goes on.") from error
    except Exception as error:
        if type(error).__name__ not in OUT_OF_MEMORY:
            raise
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise keras_tuner.errors.FailedTrialError(f"out of memory: {line}") from error


@contextmanager
def _notes(folder):
    """The folder of the notes, a temporary one if there is none."""
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)
