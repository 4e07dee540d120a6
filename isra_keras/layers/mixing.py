"""Random draws and mixtures of SLM."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops


@dataclass
class MixingDraws:
    """What one step of SLM draws at random.

    Attributes:
        ratio: float32 scalar in [0, 0.4] or [0.6, 1], share of the source in mixtures of both domains.
        gumbel: (n, 2) float32 Gumbel noise of the selector.
        source_ratio, target_ratio: float32 scalars in [0, 1], of mixtures within a domain.
        source_order, target_order: (n,) and (m,) int32 permutations, each row's partner within its domain.
    """

    ratio: Any
    gumbel: Any
    source_ratio: Any
    target_ratio: Any
    source_order: Any
    target_order: Any

    @classmethod
    def sample(cls, source_rows, target_rows, generator):
        """Draws for batches of `source_rows` and `target_rows`; ratios are Beta(2, 2).

        Args:
            generator: `keras.random.SeedGenerator`; its state settles the result.
        """
        beta = [beta22(generator) for _ in range(3)]
        noise = keras.random.uniform((source_rows, 2), seed=generator)
        gumbel = -ops.log(-ops.log(ops.clip(noise, 1e-20, 1.0 - 1e-7)))
        orders = [ops.argsort(keras.random.uniform((rows,), seed=generator)) for rows in (source_rows, target_rows)]
        return cls(far_from_half(beta[0]), gumbel, beta[1], beta[2], *orders)


def beta22(generator):
    """A draw from Beta(2, 2), float32 scalar: the median of three uniform ones."""
    return ops.sort(keras.random.uniform((3,), seed=generator))[1]


def far_from_half(ratio):
    """Rounds to 2 decimals and pushes out of (0.4, 0.6): 0.5 and above to 0.6, below to 0.4."""
    percent = ops.round(100.0 * ratio)
    percent = ops.where((percent >= 50) & (percent < 60), 60.0, percent)
    return ops.where((percent > 40) & (percent < 50), 40.0, percent) / 100.0


def mix(first, second, ratio):
    """ratio first + (1 - ratio) second."""
    return ratio * first + (1.0 - ratio) * second


def reorder(values, order):
    """Rows `order` (n,) int32 of values (n,) or (n, k), by a product with a permutation: where a gradient goes through
    `take`, TensorFlow sums it with others in no fixed order."""
    return ops.matmul(ops.one_hot(order, values.shape[0], dtype=values.dtype), values)
