"""Gradient reversal and its customary ramp (Ganin et al., "Domain-Adversarial Training", JMLR 2016)."""

from keras import ops


def reverse_gradient(x, coefficient=1.0):
    """Identity whose gradient is multiplied by `-coefficient`.

    Written as -c x + stop(x + c x), so that it needs no custom gradient and runs, compiled or not, on every
    Keras backend; the value differs from x by rounding alone (one unit in the last place for c <= 1).

    Args:
        x: float tensor of any shape.
        coefficient: float scalar or tensor that broadcasts to x; a constant, no gradient flows into it.

    Returns:
        Tensor like x.
    """
    coefficient = ops.stop_gradient(ops.cast(coefficient, x.dtype))
    reversed_x = -coefficient * x
    return reversed_x + ops.stop_gradient(x - reversed_x)


def dann_coefficient(step, max_iterations, high=1.0, slope=10.0):
    """high * (2 / (1 + exp(-slope * step / max_iterations)) - 1): rises from 0 to `high`.

    Args:
        step: int or float scalar tensor; methods differ by one in what they count, see their pages.
        max_iterations: length of the ramp in steps. There is no clamp beyond it.
        high: upper bound.
        slope: steepness.

    Returns:
        float32 scalar tensor.
    """
    ratio = ops.cast(step, "float32") / float(max_iterations)
    # 2 / (1 + e^-2y) - 1 = tanh(y), which keeps its digits near 0.
    return high * ops.tanh(0.5 * slope * ratio)
