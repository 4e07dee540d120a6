"""SGD in PyTorch's form with a learning-rate and a decay multiplier for each part of the network."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("isra_keras")
class PartwiseSGD(keras.optimizers.Optimizer):
    """SGD whose momentum buffer holds no learning rate, with coupled decay and multipliers by part.

    For a variable w of a part with multipliers (a, c):

        g <- g + c * weight_decay * w        coupled decay, on biases and normalisation too
        b <- momentum * b + g                first step: b = g
        w <- w - a * rate * (g + momentum * b)      Nesterov; without it: w - a * rate * b

    Keras's own SGD folds the rate into the buffer and decouples decay, which is another trajectory as soon
    as the rate changes from step to step.

    Args:
        learning_rate: float or `LearningRateSchedule`, rate of a part whose multiplier is 1.
        momentum: float in [0, 1).
        nesterov: bool.
        weight_decay: float >= 0, decay of a part whose multiplier is 1.
        multipliers: {part: (learning-rate multiplier, decay multiplier)}. A part is the name of a layer on the
            variable's way: "backbone", "bottleneck", "classifier", "discriminator", "class2vec", "receptors".
            Parts not named have (1, 1).

    Reference:
        The form of torch.optim.SGD that the authors of ISRA, BA3US, CDAN and PADA trained with.
    """

    def __init__(self, learning_rate=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4,
                 multipliers=None, name="partwise_sgd", **kwargs):  # fmt: skip
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"Expected momentum in [0, 1); received {momentum}.")
        self.momentum, self.nesterov, self.coupled_decay = float(momentum), bool(nesterov), float(weight_decay)
        self.multipliers = {part: tuple(map(float, pair)) for part, pair in (multipliers or {}).items()}
        self._part_of = {}
        self._factors = {}

    def assign_parts(self, parts):
        """Says which variables make up a part, for networks whose variable paths do not tell.

        Args:
            parts: {part: list of variables}.
        """
        self._part_of = {id(variable): part for part, variables in parts.items() for variable in variables}
        self._factors = {}

    def factors(self, variable):
        """(learning-rate multiplier, decay multiplier) of a variable."""
        index = self._get_variable_index(variable)
        if index not in self._factors:
            known = self._trainable_variables[index]  # TensorFlow hands update_step its own kind of variable
            part = self._part_of.get(id(known))
            if part is None:
                part = next((p for p in known.path.split("/") if p in self.multipliers), None)
            self._factors[index] = self.multipliers.get(part, (1.0, 1.0))
        return self._factors[index]

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        rate_multiplier, decay_multiplier = self.factors(variable)
        gradient = ops.cast(gradient, variable.dtype)
        rate = ops.cast(learning_rate, variable.dtype) * rate_multiplier
        decay = self.coupled_decay * decay_multiplier
        if decay:
            gradient = gradient + decay * variable
        buffer = self.momentums[self._get_variable_index(variable)]
        if keras.backend.backend() == "tensorflow":
            return _fused_update(variable, buffer, gradient, rate, self.momentum, self.nesterov)
        renewed = self.momentum * ops.convert_to_tensor(buffer) + gradient
        self.assign(buffer, renewed)
        direction = gradient + self.momentum * renewed if self.nesterov else renewed
        self.assign_sub(variable, rate * direction)

    def get_config(self):
        config = super().get_config()
        config.update(
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.coupled_decay,
            multipliers={part: list(pair) for part, pair in self.multipliers.items()},
        )
        return config


def _fused_update(variable, buffer, gradient, rate, momentum, nesterov):
    """The last two lines of the update in one pass over the weights: most of the time of a step on features is here."""
    import tensorflow as tf

    weights, mean = (one.value if isinstance(one, keras.Variable) else one for one in (variable, buffer))
    tf.raw_ops.ResourceApplyMomentum(
        var=weights.handle, accum=mean.handle, lr=rate, grad=gradient,
        momentum=tf.cast(momentum, gradient.dtype), use_nesterov=nesterov,
    )  # fmt: skip
