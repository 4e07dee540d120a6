"""The step on PyTorch: autograd, not compiled."""

from contextlib import contextmanager

import keras
import torch
from keras import ops

from isra_keras.training.replica import ALONE
from isra_keras.training.steps import batch_of, sizes_of


def take_step(model, batch, network_training=True, replica=ALONE):
    """One step of `AdaptationModel.train_step`; returns its logs, detached."""
    batch = keras.tree.map_structure(ops.convert_to_tensor, batch)
    variables = model.trainable_variables
    with torch.enable_grad():
        outcome = model.outcome(batch, network_training)
        gradients = torch.autograd.grad(outcome.scaled, [v.value for v in variables], allow_unused=True)
    with torch.no_grad():
        logs = {name: value.detach() for name, value in model.logs(outcome).items()}
        pairs = [(g, v) for g, v in zip(gradients, variables) if g is not None]
        model.optimizer.apply([g for g, _ in pairs], [v for _, v in pairs])
        model.step.assign_add(1)
    return logs


@contextmanager
def draws(model):
    """PyTorch's own generators set from (seed, step), and put back afterwards.

    Keras's dropout draws from them, whatever its seed generator says, unless a layer was given a seed.
    """
    with torch.random.fork_rng():
        torch.manual_seed((model.seed * 1_000_003 + int(model.step)) % 2**63)
        yield


form_of = sizes_of


def compile_step(model, network_training, form=None):
    """batch -> logs."""
    return lambda batch: model.train_step(batch, network_training)


def compile_predictor(model):
    """images -> outputs, without a gradient."""
    return torch.no_grad()(model._predict)


def make_train_function(model):
    """(batch,) -> logs, as Keras's PyTorch trainer calls it."""
    return lambda data: model.train_on(batch_of(data[0]))


def make_test_function(model):
    """None: Keras's own will do."""
