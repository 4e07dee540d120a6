"""Sums over the stacked topics, in the operations that TensorFlow itself computes fastest on a processor.

Values are the same on every backend. Where TensorFlow runs a step's operations one by one, each reads and writes its
tensors, so that fewer operations are less time. Everything else, XLA, JAX, PyTorch and eager code, gets the plain form;
the two products, whose gradients TensorFlow makes badly, have its own form under XLA and eagerly, too.
benchmarks/profiles.py ("fewer passes over topics and weights") shows what that gains.
"""

from contextlib import contextmanager
from contextvars import ContextVar

import keras
from keras import ops

_ONE_BY_ONE = ContextVar("one_by_one", default=False)


@contextmanager
def one_by_one(allowed):
    """Whether TensorFlow's own operations run one after another, rather than fused by XLA; read while a step is traced."""
    token = _ONE_BY_ONE.set(bool(allowed))
    try:
        yield
    finally:
        _ONE_BY_ONE.reset(token)


def runs_one_by_one():
    """Whether this is TensorFlow's backend, in `one_by_one(True)`."""
    return _ONE_BY_ONE.get() and keras.backend.backend() == "tensorflow"


def device_kind():
    """"gpu" where Keras's backend computes on an accelerator, or else "cpu"."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return "gpu" if tf.config.list_logical_devices("GPU") else "cpu"
    if backend == "jax":
        import jax

        return "cpu" if jax.default_backend() == "cpu" else "gpu"
    from keras.src.backend.torch.core import get_device

    return "cpu" if get_device().startswith("cpu") else "gpu"


def shared_product(features, kernel):
    """Features (n, d) times each matrix of a kernel (J, d, h): (J, n, h) float32.

    TensorFlow's own gradient to the kernel multiplies by features that it transposes anew for each j, which takes up to
    twice as long as the product itself (benchmarks/semantic_step.py); here they are transposed once for all.
    """
    if keras.backend.backend() != "tensorflow":  # XLA sees to it; PyTorch's product does not mind
        return ops.matmul(features[None], kernel)
    import tensorflow as tf

    @tf.custom_gradient
    def multiply(features, kernel):
        def gradient(slopes):
            of_features = tf.reduce_sum(tf.matmul(slopes, kernel, transpose_b=True), axis=0)
            return of_features, tf.matmul(tf.transpose(features)[None], slopes)

        return tf.matmul(features[None], kernel), gradient

    return multiply(tf.convert_to_tensor(features), tf.convert_to_tensor(kernel))


def inner_products(hidden, vectors):
    """Rows of hidden (J, n, h) times the vector of their topic (J, h, 1): (J, n) float32.

    The row form's gradient to the vectors reads `hidden` as it lies, the column form's across, in twice the time.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.matmul(hidden, vectors)[..., 0]
    import tensorflow as tf

    return tf.matmul(tf.transpose(vectors, (0, 2, 1)), hidden, transpose_b=True)[:, 0]


def where_positive(values, hidden):
    """`values` where `hidden` > 0, else 0: (J, n or 1, h), (J, n, h) -> (J, n, h) float32."""
    if runs_one_by_one():
        import tensorflow as tf

        whole = values if values.shape[1] == hidden.shape[1] else tf.broadcast_to(values, tf.shape(hidden))
        return tf.raw_ops.ReluGrad(gradients=whole, features=hidden)
    return ops.where(hidden > 0, values, ops.zeros((), hidden.dtype))


def sum_of_squares(values, axis, keepdims=False):
    """Sum of squares over `axis`, of values that no gradient goes to (at zeros it would be NaN): float32."""
    values = ops.stop_gradient(ops.convert_to_tensor(values))
    if runs_one_by_one():
        import tensorflow as tf

        axes = [axis] if isinstance(axis, int) else list(axis)
        return tf.square(tf.raw_ops.EuclideanNorm(input=values, axis=axes, keep_dims=keepdims))  # squares are never written
    return ops.sum(ops.square(values), axis=axis, keepdims=keepdims)


def sum_over_rows(values, weights):
    """sum_i values_jid weights_id: (J, n, d), (n, d) -> (J, d) float32.

    A depthwise convolution whose window is all rows: values are read once, and no product is written.
    """
    if _convolves():
        import tensorflow as tf

        return tf.nn.depthwise_conv2d(values[:, :, None], weights[:, None, :, None], (1, 1, 1, 1), "VALID")[:, 0, 0]
    return ops.sum(values * weights[None], axis=1)


def sum_over_topics(values, weights):
    """sum_j values_jid weights_jd: (J, n, d), (J, d) -> (n, d) float32; see `sum_over_rows`, the window is all topics."""
    if _convolves():
        import tensorflow as tf

        return tf.nn.depthwise_conv2d(values[None], weights[:, None, :, None], (1, 1, 1, 1), "VALID")[0, 0]
    return ops.sum(values * weights[:, None, :], axis=0)


def _convolves():
    """Whether a depthwise convolution is the quicker way: oneDNN's is, a GPU's is not made for such windows."""
    return runs_one_by_one() and device_kind() == "cpu"
