"""Models that train again: a cell that differs from the one before in its data alone takes that one's compiled steps.

Building the graph of a step takes longer than a few hundred steps on precomputed features. The model's variables hold
all that training changes, so that a used model with its first values back is a fresh one, to the bit.
"""

import gc

import keras

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
KEPT = 2
"""Models kept at once; the pool gives a worker the cells of one method after another."""


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
            model, values = self.kept.pop(key)
            if not model.watched_sizes.used:
                self.kept[key] = model, values  # the youngest now
                model.renew(values)
                model.sizes = task_sizes(task)
                return model, True
        self._make_room()
        model = build_model(config, task)
        self.kept[key] = model, model.keep_steps()
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
