"""KerasTuner's oracles, made to survive a SIGKILL at any moment.

What KerasTuner 1.4.8 does not do, and is done here:
- its files are written in place: a kill during the write of oracle.json leaves half a file, which can't be read;
- trial.json and oracle.json are written one after the other: after a kill between the two, a new trial is known to
  neither queue and never run, and a finished one is run twice;
- nothing is written before the first trial ends: what came before is not found again;
- the Gaussian process proposes the same corner of the space again, whose deterministic trial says nothing new;
- after a kill its trials are in the order of the disk, and the draws that its proposals start from begin anew: the
  proposals differ in their last digits;
- the grid search keeps the list of what it has tried in memory alone, so that a resumed one ends at once;
- failures in a row are counted over the whole history: what ended one search ends all that go on with it;
- that a grid or Hyperband has no more to give is forgotten: a chief that restarts can't tell;
- Hyperband's brackets are in oracle.json alone: after a kill before its write, a setting is promoted twice or a bracket
  has one trial more;
- the failure that ends a search is not saved: its trial is run again, fails and ends the search at every start.
"""

import json
import math
import os
import warnings
from functools import cmp_to_key

import numpy as np
from keras_tuner import oracles

from isra_keras.training.checkpoint import write_text

ENDED = ("COMPLETED", "FAILED")


class Durable:
    """Mixin over a `keras_tuner.Oracle`: atomic files, a repaired state after a kill, the recipe as first trial."""

    starts_with_default = True
    resumed: dict = {}
    """{worker: trial} at the moment of the kill, after `reload`."""
    reloaded = False
    """Whether it goes on with what an earlier process began."""

    spent_at = 0
    """`max_trials` of the search for which there was nothing more to try though fewer had been tried; 0 before that."""
    ended_before = 0
    """Trials that earlier processes ended."""

    def create_trial(self, tuner_id):
        """As the oracle's; notes when there is nothing more to try."""
        trial = super().create_trial(tuner_id)
        if trial.status == "STOPPED" and not self.ongoing_trials and len(self.trials) < (self.max_trials or 0):
            self.spent_at = self.max_trials
            self.save()
        return trial

    def is_spent(self):
        """Whether no trial is left to be given out for the first time."""
        return bool(self.max_trials) and self.max_trials <= max(len(self.trials), self.spent_at)

    def _check_consecutive_failures(self):
        """As the oracle's, of this process alone: who starts the search again has mended something, or wants to go on."""
        whole = self.end_order
        self.end_order = whole[self.ended_before :][-self.max_consecutive_failed_trials :]
        try:
            super()._check_consecutive_failures()
        except RuntimeError:  # it ends the search before the trial that ends it is saved: that one would be run again
            last = whole[-1]
            self.end_order = whole
            self.ongoing_trials = {k: t for k, t in self.ongoing_trials.items() if t.trial_id != last}
            self._save_trial(self.trials[last])
            self.save()
            raise
        finally:
            self.end_order = whole

    def get_state(self):
        return super().get_state() | {"spent_at": self.spent_at}

    def set_state(self, state):
        super().set_state(state)
        self.spent_at = state.get("spent_at", 0)

    def populate_space(self, trial_id):
        """As the oracle's, but the first trial takes the defaults: what the recipe says is always among the trials."""
        if not self.trials and self.starts_with_default:
            space = self.get_space().space
            return {"status": "RUNNING", "values": {item.name: item.default for item in space}}
        return super().populate_space(trial_id)

    def save(self):
        """oracle.json, whole or not at all."""
        write_text(self._get_oracle_fname(), json.dumps(self.get_state()))

    def _save_trial(self, trial):
        """trial.json, whole or not at all."""
        write_text(os.path.join(self._get_trial_dir(trial.trial_id), "trial.json"), json.dumps(trial.get_state()))

    def has_state(self):
        """Whether there is something to go on with."""
        return os.path.isfile(self._get_oracle_fname())

    def reload(self):
        """State and trials from the folder, repaired: every trial is ended once or waits in the queue once."""
        with open(self._get_oracle_fname(), encoding="utf-8") as file:
            self.resumed = json.load(file)["ongoing_trials"]
        self.reloaded = True
        verbose = self.verbose
        super().reload()
        self.verbose = verbose
        ids = sorted(self.trials, key=int)
        self.trials = {trial_id: self.trials[trial_id] for trial_id in ids}
        for trial_id in ids:
            trial = self.trials[trial_id]
            self._record_values(trial)
            if trial_id not in self.start_order:
                self.start_order.append(trial_id)
            if trial.status in ENDED and trial_id not in self.end_order:
                self.end_order.append(trial_id)
        waiting = [trial_id for trial_id in ids if self.trials[trial_id].status not in ENDED]
        for trial_id in waiting:
            self.trials[trial_id].metrics = type(self.trials[trial_id].metrics)()
        self.end_order = [trial_id for trial_id in self.end_order if trial_id not in waiting]
        self.ended_before = len(self.end_order)
        self._retry_queue = waiting[::-1]  # it is taken from the end
        self._after_reload()

    def _after_reload(self):
        """For what an oracle must rebuild."""


class RandomOracle(Durable, oracles.RandomSearchOracle):
    """`keras_tuner.oracles.RandomSearchOracle`, durable."""


class BayesianOracle(Durable, oracles.BayesianOptimizationOracle):
    """`keras_tuner.oracles.BayesianOptimizationOracle`, durable and quiet; tries no values twice."""

    def populate_space(self, trial_id):
        """As the others'; the fit's remarks about its own bounds are of no use to anybody."""
        self._random_state = np.random.RandomState((self.seed + len(self.trials)) % 2**32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = super().populate_space(trial_id)
        if found["values"] is not None and any(same(found["values"], trial.hyperparameters.values)
                                               for trial in self.trials.values()):  # fmt: skip
            return self._random_populate_space()
        return found


class GridOracle(Durable, oracles.GridSearchOracle):
    """`keras_tuner.oracles.GridSearchOracle`, durable: its queue is rebuilt from the trials that there are."""

    starts_with_default = False  # the grid's first trial is the default anyway

    def _after_reload(self):
        def compare(one, other):
            return self._compare(*(self.trials[item].hyperparameters.values for item in (one, other)))

        previous = None
        for trial_id in sorted(self.trials, key=cmp_to_key(compare)):
            self._ordered_ids.insert(trial_id, previous)
            previous = trial_id
        self._populate_next = list(self.start_order)  # those whose next combination was tried are passed over


class HyperbandOracle(Durable, oracles.HyperbandOracle):
    """`keras_tuner.oracles.HyperbandOracle` of one iteration, durable: its brackets are rebuilt from the trials that there
    are, and leave no room for a first trial of ours."""

    starts_with_default = False

    def _after_reload(self):
        number = self._get_num_brackets() - 1
        brackets, bracket_of = {number: [[] for _ in range(self._get_num_rounds(number))]}, {}
        for trial_id in sorted(self.trials, key=int):
            values = self.trials[trial_id].hyperparameters.values
            past_id = values.get("tuner/trial_id")
            # A promoted trial bears the number of the bracket that was the newest then, not of its own.
            number = values["tuner/bracket"] if past_id is None else bracket_of[past_id]
            rounds = brackets.setdefault(number, [[] for _ in range(self._get_num_rounds(number))])
            rounds[values["tuner/round"]].append({"past_id": past_id, "id": trial_id})
            bracket_of[trial_id] = number
        self._current_bracket = min(brackets)
        self._brackets = [{"bracket_num": number, "rounds": brackets[number]} for number in sorted(brackets)[::-1]]


def same(one, other):
    """Whether two {name: value} are equal, floats to nine digits."""
    return one.keys() == other.keys() and all(
        math.isclose(value, other[name]) if isinstance(value, float) else value == other[name]
        for name, value in one.items()
    )


def make_oracle(kind, objective, max_trials, seed, dimensions, budget, max_failures):
    """The oracle of a search.

    Args:
        kind: "random", "bayesian", "hyperband" or "grid".
        objective: `keras_tuner.Objective`.
        max_trials: int.
        seed: int of the draws.
        dimensions: number of searched names.
        budget: evaluations of a whole training, the largest budget of Hyperband.
        max_failures: failed trials in a row that end the search.
    """
    common = {"objective": objective, "seed": seed, "max_consecutive_failed_trials": max_failures}
    if kind == "hyperband":
        oracle = HyperbandOracle(max_epochs=max(budget, 2), factor=3, **common)
        oracle.max_trials = max_trials
    elif kind == "bayesian":
        # KerasTuner's default of 3 random points a dimension would leave nothing of a short search.
        first = max(dimensions + 1, min(3 * dimensions, max_trials // 3))
        oracle = BayesianOracle(max_trials=max_trials, num_initial_points=first, **common)
    else:
        oracle = {"random": RandomOracle, "grid": GridOracle}[kind](max_trials=max_trials, **common)
    oracle.verbose = 0
    return oracle
