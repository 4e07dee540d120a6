"""Learning-rate schedules and the size of BA3US's middle batch."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("isra_keras")
class InverseDecay(keras.optimizers.schedules.LearningRateSchedule):
    """initial * (1 + gamma * min(step, clamp) / period)^-power.

    Args:
        initial: learning rate of step 0, of parts whose multiplier is 1.
        gamma, power: 0.001 and 0.75 in DANN, CDAN, BA3US and ISRA (period 1).
        period: steps over which gamma is counted; ETN and SHOT use gamma 10 over 10,000 or all steps.
        clamp: step after which the rate stays constant (ETN: 10,000), or None.
    """

    def __init__(self, initial, gamma=1e-3, power=0.75, period=1.0, clamp=None):
        super().__init__()
        self.initial, self.gamma, self.power, self.period, self.clamp = initial, gamma, power, period, clamp

    def __call__(self, step):
        step = ops.cast(step, "float32")
        if self.clamp is not None:
            step = ops.minimum(step, float(self.clamp))
        return self.initial * ops.power(1.0 + self.gamma * step / self.period, -self.power)

    def get_config(self):
        return {
            "initial": self.initial,
            "gamma": self.gamma,
            "power": self.power,
            "period": self.period,
            "clamp": self.clamp,
        }


def shrinking_middle_size(step, batch_size, mu, max_iterations, eval_interval):
    """Rows of the middle batch at a step: int(max(0, (batch // mu) (1 - epoch / epochs))), BA3US section 3.1.

    Args:
        step: int >= 0; epoch = step // eval_interval.
        batch_size: int, source rows.
        mu: int; 0 none, negative a constant batch_size // |mu|.
        max_iterations, eval_interval: ints; epochs = max_iterations // eval_interval.

    Returns:
        int >= 0.
    """
    if mu == 0:
        return 0
    if mu < 0:
        return batch_size // -mu
    epochs = max(max_iterations // eval_interval, 1)
    return int(max(0.0, (batch_size // mu) * (1 - (step // eval_interval) / epochs)))
