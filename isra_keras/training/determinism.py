"""What holds for a process while a run trains in it: precision, seeds, equal results of equal runs."""

from contextlib import contextmanager

import keras
import tensorflow as tf


@contextmanager
def policy(config):
    """Precision, seeds and determinism of a run; precision is put back."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        make_deterministic()
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def make_deterministic():
    """Equal results of equal runs, bit by bit.

    TensorFlow's op determinism is not enough: its graph optimiser turns sums into `AddN`, which starts with whichever
    input's memory is free to be reused, so that equal runs part by a rounding once in a thousand steps.
    """
    tf.config.experimental.enable_op_determinism()
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


def pairwise_gradients(loss, variables):
    """Gradients of a graph, summed two by two where several paths meet; None where there is no path.

    A tape sums by `AddN`, which starts with whichever input's memory is free to be reused: with three inputs or more,
    equal steps then differ by a rounding now and then, TensorFlow's op determinism notwithstanding.
    """
    values = [variable.value for variable in variables]
    return tf.gradients(loss, values, aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE)
