"""Attention of all topics from one backward pass over a broadcast input, and its normalisation."""

import keras
from keras import ops

NORMALISATIONS = ("frobenius", "row")


def input_gradients(function, inputs):
    """Values of `function` and the gradient of their sum with respect to its input.

    The only backend-specific function of the maths, but for speed alone (`kernels`). On TensorFlow it is a `tf.GradientTape` and may stand
    inside another one; on JAX `jax.vjp`; on PyTorch `torch.autograd.grad` with the graph kept.

    Args:
        function: tensor -> tensor of any shape.
        inputs: float tensor.

    Returns:
        (values, gradients), the second shaped like `inputs` and constant.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            values = function(inputs)
        gradients = tape.gradient(values, inputs)
    elif backend == "jax":
        import jax

        values, pullback = jax.vjp(function, inputs)
        (gradients,) = pullback(ops.ones_like(values))
    else:
        import torch

        inputs = inputs.detach().requires_grad_(True)
        with torch.enable_grad():
            values = function(inputs)
            (gradients,) = torch.autograd.grad(values.sum(), inputs, retain_graph=True)
    return values, ops.stop_gradient(gradients)


def topic_attention(response, features, num_topics):
    """|d response_j(x_i) / d x_i| for every topic j and row i in one backward pass.

    Each topic receives its own copy of the features (a broadcast), so that one gradient of the sum over
    topics and rows leaves them apart.

    Args:
        response: (J, n, d) -> (J, n), row i of topic j depending on inputs [j, i] alone.
        features: (n, d) float32; treated as a constant.
        num_topics: J.

    Returns:
        (values (J, n), attention (J, n, d) float32 >= 0). Only the values carry gradients, into the weights
        that `response` uses.
    """
    features = ops.stop_gradient(features)
    copies = ops.broadcast_to(features[None], (num_topics, *features.shape))
    values, gradients = input_gradients(response, copies)
    return values, ops.abs(gradients)


def normalise_attention(attention, axis="frobenius", count=1.0):
    """count * A_j / ||A_j||, safe at zero and for norms far below 1e-20 (the reference's late training).

    Args:
        attention: (J, n, d) float32 >= 0.
        axis: "frobenius", the norm over the whole (n, d) matrix of a topic, or "row", over d for each row.
        count: n' of the authors' code, which multiplies the result; 1 in the paper.

    Returns:
        (J, n, d) float32; 0 where the norm is 0 (the original divides 0 by 0). The norm itself is divided by, where the
        original's `normalize` has 1e-12 at least: its attention of smaller norms fades out.

    Raises:
        ValueError: another axis.
    """
    if axis not in NORMALISATIONS:
        raise ValueError(f"Expected axis to be one of {NORMALISATIONS}; received {axis!r}.")
    axes = (1, 2) if axis == "frobenius" else (2,)
    largest = ops.max(attention, axis=axes, keepdims=True)
    # Dividing by the largest entry first keeps the squares from underflowing.
    scaled = attention / ops.where(largest > 0, largest, ops.ones_like(largest))
    norm = ops.sqrt(ops.sum(ops.square(scaled), axis=axes, keepdims=True))
    return scaled * (ops.cast(count, scaled.dtype) / ops.where(norm > 0, norm, ops.ones_like(norm)))
