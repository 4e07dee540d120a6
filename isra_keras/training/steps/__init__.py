"""The training step of `AdaptationModel` on each of Keras's backends: one module each, the same seven functions.

    take_step(model, batch, network_training, replica) -> logs      one step, run as it is written; several replicas
                                                                    there are on TensorFlow alone
    draws(model)                                                    around a forward pass: what it draws is set
    form_of(model, batch) -> hashable                               what batches have in common that share a compiled step
    compile_step(model, network_training, form) -> (batch -> logs)  the same, compiled where the backend compiles
    compile_predictor(model) -> (images -> outputs)                 `model._predict`, likewise
    make_train_function(model), make_test_function(model)           what Keras's `fit` and `evaluate` call a batch

A batch is a dict of arrays or of the backend's tensors. TensorFlow is the reference; a step means the same on all
three: weights that no term reaches keep their value (no decay either), and draws come from (seed, step).
"""

import importlib
from collections.abc import Mapping

import keras

BACKENDS = ("tensorflow", "jax", "torch")


def backend_steps():
    """The module of the backend that Keras runs on; no other backend is imported.

    Raises:
        RuntimeError: Keras runs on a backend that cannot train.
    """
    backend = keras.backend.backend()
    if backend not in BACKENDS:
        raise RuntimeError(f"Expected KERAS_BACKEND to be one of {', '.join(BACKENDS)}; received {backend!r}.")
    return importlib.import_module(f"{__name__}.{backend}_steps")


def within_stage(model, function):
    """A train function that refuses a step beyond the end of the current stage, if another one follows.

    `fit` would else train on in it for good: SHOT on source labels alone, any method in its warm-up.
    """

    def step(*args):
        following = [stage.name for stage in model.stages()]
        following = following[following.index(model.stage.name) + 1 :]
        if following and model.steps_left < 1:
            raise ValueError(
                f"Expected at most {model.steps_of_stage()} steps in stage '{model.stage.name}'; received more. Call "
                f"model.begin_stage with the next one of model.stages(), '{following[0]}', then fit again."
            )
        model.steps_left -= 1
        return function(*args)

    return step


def sizes_of(model, batch):
    """`form_of` where each size of batch has a step of its own: (domain, rows) of each."""
    return tuple(sorted((name, len(part["images"])) for name, part in batch.items()))


def batch_of(data):
    """The batch in what a Keras data adapter yields: a generator's elements are tuples, (batch,).

    Raises:
        ValueError: arrays, or a dict without a target: what `fit` of an ordinary Keras model takes.
    """
    batch = data[0] if isinstance(data, (tuple, list)) and len(data) else data
    if isinstance(batch, Mapping) and "target" in batch:
        return batch
    received = f"a dict of {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else type(batch).__name__
    raise ValueError(
        "Expected batches {'source': {'images', 'labels', 'indices'}, 'target': {'images', 'indices'}}, as DomainPairs yields "
        f"them; received {received}. Labels are part of the source, `fit` takes none beside the batches."
    )


def class_numbers(labels):
    """int64 (n,) of labels (n,) or (n, 1); one-hot rows, which would be read as many labels, are refused.

    Raises:
        ValueError: another shape.
    """
    try:
        shape = tuple(labels.shape)
    except ValueError:  # TensorFlow, after (n,) and (n, 1) in turn: of any rank
        shape = ()
    if len(shape) > 2 or len(shape) == 2 and shape[1] not in (1, None):
        raise ValueError(f"Expected a class number for each image, of shape (n,) or (n, 1); received shape {shape}. "
                         "One-hot labels: give their argmax.")  # fmt: skip
    return keras.ops.cast(keras.ops.reshape(labels, (-1,)), "int64")
