"""The step on PyTorch: autograd, not compiled."""

import keras
import torch
from keras import ops


def take_step(model, batch, network_training=True):
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


def compile_step(model, network_training):
    """batch -> logs."""
    return lambda batch: model.train_step(batch, network_training)


def compile_predictor(model):
    """images -> outputs, without a gradient."""
    return torch.no_grad()(model._predict)


def make_train_function(model):
    """(batch,) -> logs, as Keras's PyTorch trainer calls it."""
    return lambda data: model.train_on(data[0])


def make_test_function(model):
    """None: Keras's own will do."""
