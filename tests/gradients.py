"""Values and gradients on whatever backend Keras runs on, for tests that compare them with golden numbers."""

import keras
from keras import ops


def values_and_gradients(function, inputs):
    """Scalars and the gradient of each, zeros where independent.

    Args:
        function: takes {name: tensor} and returns {term: float32 scalar}; variables of layers may be used within.
        inputs: {name: array or Keras variable}.

    Returns:
        ({term: float}, {term: {name: array}}).
    """
    terms, gradients = _BACKENDS[keras.backend.backend()](function, inputs)
    values = {term: float(ops.convert_to_numpy(value)) for term, value in terms.items()}
    arrays = {term: {name: ops.convert_to_numpy(g) for name, g in found.items()} for term, found in gradients.items()}
    return values, arrays


def _tensorflow(function, inputs):
    import tensorflow as tf

    watched = {}
    with tf.GradientTape(persistent=True) as tape:
        for name, value in inputs.items():
            watched[name] = value.value if isinstance(value, keras.Variable) else tf.convert_to_tensor(value)
            tape.watch(watched[name])
        terms = function(watched)
    zero = tf.UnconnectedGradients.ZERO
    return terms, {term: tape.gradient(value, watched, unconnected_gradients=zero) for term, value in terms.items()}


def _jax(function, inputs):
    import jax

    def stateless(values):
        pairs = [(v, values[name]) for name, v in inputs.items() if isinstance(v, keras.Variable)]
        with keras.StatelessScope(state_mapping=pairs):
            return function(values)

    @jax.jit
    def both(values):
        terms, pullback = jax.vjp(stateless, values)
        return terms, {
            term: pullback({other: ops.cast(other == term, value.dtype) for other, value in terms.items()})[0]
            for term in terms
        }

    return both({name: ops.convert_to_tensor(value) for name, value in inputs.items()})


def _torch(function, inputs):
    import torch

    leaves = {
        name: value.value if isinstance(value, keras.Variable)
        else ops.convert_to_tensor(value).detach().clone().requires_grad_(True)
        for name, value in inputs.items()
    }  # fmt: skip
    terms, gradients = function(leaves), {}
    for term, value in terms.items():
        found = [None] * len(leaves)
        if value.requires_grad:
            found = torch.autograd.grad(value, list(leaves.values()), retain_graph=True, allow_unused=True)
        pairs = zip(leaves.items(), found)
        gradients[term] = {name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in pairs}
    return terms, gradients


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
