"""`PartwiseSGD` with a momentum of its own for some parts (AFN trains the backbone without any)."""

import keras

from isra_keras.training.optimizer import PartwiseSGD


@keras.saving.register_keras_serializable("isra_keras")
class PartMomentumSGD(PartwiseSGD):
    """As `PartwiseSGD`.

    Args:
        part_momentum: {part: momentum in [0, 1)}; parts not named have `momentum`.
        **kwargs: of `PartwiseSGD`.

    Reference:
        The authors' code of AFN, which has two optimisers.
    """

    def __init__(self, *args, part_momentum=None, name="part_momentum_sgd", **kwargs):
        super().__init__(*args, name=name, **kwargs)
        self.part_momentum = {part: float(value) for part, value in (part_momentum or {}).items()}
        for part, value in self.part_momentum.items():
            if not 0.0 <= value < 1.0:
                raise ValueError(f"Expected momentum of part '{part}' in [0, 1); received {value}.")

    def update_step(self, gradient, variable, learning_rate):
        ordinary = self.momentum
        self.momentum = self._momentum_of(variable)
        try:
            super().update_step(gradient, variable, learning_rate)
        finally:
            self.momentum = ordinary

    def _momentum_of(self, variable):
        known = self._trainable_variables[self._get_variable_index(variable)]
        part = self._part_of.get(id(known))
        if part is None:
            part = next((name for name in known.path.split("/") if name in self.part_momentum), None)
        return self.part_momentum.get(part, self.momentum)

    def get_config(self):
        return super().get_config() | {"part_momentum": dict(self.part_momentum)}
