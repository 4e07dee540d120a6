"""Models that train again: a cell that differs from the one before in its data alone takes that one's compiled steps.

Building the graph of a step takes longer than a few hundred steps on precomputed features. The model's variables hold
all that training changes, so that a used model with its first values back is a fresh one, to the bit.
"""

import gc
from dataclasses import dataclass

import keras

from isra_keras.model import AdaptationModel
from isra_keras.training.build import build_model, sample_shape, task_sizes

DATA_NAMES = (
    "dataset",
    "source",
    "target",
    "source_dir",
    "target_dir",
    "data_dir",
    "data_seed",
    "allow_incomplete",
    "on_bad_image",
)
"""What a `TrainConfig` says of the data."""
FROZEN_NAMES = ("freeze_backbone", "backbone", "weights", "image_size", "crop_size", "precision")
"""And where its features are trained on instead."""
KEPT = 2
"""Models kept at once; the pool gives a worker the cells of one method after another."""


@dataclass
class Begun:
    """What a stage began with. An object, since Keras takes the variables of a tuple or a list for the model's own."""

    optimizer: keras.optimizers.Optimizer
    values: list
    steps: dict


class RenewableModel(AdaptationModel):
    """An `AdaptationModel` that trains again: a stage that begins again finds its optimiser and its compiled steps."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.begun, self.first = {}, Begun(None, values_of(self.variables), {})

    def restart_optimizer(self, learning_rate):
        """As its base, once a stage; then what the stage began with the first time, whose schedule must be the same."""
        begun = self.begun.get(self.stage)
        if begun is None:
            super().restart_optimizer(learning_rate)
            self.begun[self.stage] = Begun(self.optimizer, values_of(self.optimizer.variables), self._compiled_steps)
            return
        put_back(begun.values)
        self.compile(begun.optimizer, jit_compile=self._jit)
        self._compiled_steps = begun.steps

    def renew(self, sizes):
        """Back to the start, for data of the same shape and these sizes."""
        put_back(self.first.values)
        self.stage, self.sizes = self.stages()[0], sizes


def values_of(variables):
    """[(variable, its value as a NumPy array)]."""
    return [(variable, keras.ops.convert_to_numpy(variable.value).copy()) for variable in variables]


def put_back(values):
    """Assigns what `values_of` took."""
    for variable, value in values:
        variable.assign(value)


class ModelShelf:
    """The last few models that were trained, by everything that shapes their graphs.

    Args:
        size: models kept.
    """

    def __init__(self, size=KEPT):
        self.size, self.kept = size, {}

    def take(self, config, task):
        """The model of a cell as `build_model` makes it, and whether it had been used before.

        Args:
            config: `TrainConfig`.
            task: `Task`.

        Returns:
            (compiled `AdaptationModel`, bool).
        """
        key = self._key(config, task)
        if key in self.kept:
            model = self.kept.pop(key)
            if not model.watched_sizes.used:
                self.kept[key] = model  # the youngest now
                model.renew(task_sizes(task))
                return model, True
        self._make_room()
        model = self.kept[key] = build_model(config, task, RenewableModel)
        return model, False

    def _make_room(self):
        while len(self.kept) >= self.size:
            del self.kept[next(iter(self.kept))]
        keras.backend.clear_session()
        gc.collect()

    @staticmethod
    def _key(config, task):
        """Every value of the configuration but the data's, and what a graph takes from the data."""
        values = {name: value for name, value in vars(config).items() if name not in DATA_NAMES}
        return repr(sorted(values.items())), len(task.class_names), sample_shape(config, task)
