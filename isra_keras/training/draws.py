"""What a step draws is a function of (seed, step), and no other step's: every seed generator is set before it."""

from keras import ops

CALLS = 1024
"""More than a generator is asked in a step. Each call adds one to its state: where steps lie closer than that, the second
call of a step draws what the first of the next one does."""


def seed_draws(model, replica=0):
    """Sets every seed generator of an `AdaptationModel` to (seed and its number, step).

    Replicas forward rows of their own: the network draws otherwise on each. Objectives draw the same on all.

    Args:
        model: `AdaptationModel`.
        replica: its number.
    """
    own = {id(g) for layer in model.network._flatten_layers() for g in layer._seed_generators}
    for number, generator in enumerate(seed_generators(model)):
        key = model.seed * 7919 + number + (104_729 * replica if id(generator) in own else 0)
        first = ops.cast(key % (2**31 - 1), "uint32")
        second = ops.cast(ops.convert_to_tensor(model.step) * CALLS, "uint32")  # PyTorch can't multiply these
        generator.state.assign(ops.cast(ops.stack([first, second]), generator.state.dtype))


def seed_generators(model):
    """Those of all layers of a Keras model, in their order."""
    return [generator for layer in model._flatten_layers() for generator in layer._seed_generators]
