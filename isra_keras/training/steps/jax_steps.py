"""The step on JAX: a pure function of (state, batch), compiled once for each shape of batch.

The state is what Keras's JAX trainer carries through `fit`: the values of the trainable variables, the others (class
weights, step, BN statistics, seed generators, what methods keep), the optimiser's and the metrics', a list of each.
"""

import warnings
from contextlib import nullcontext

import jax
import keras

from isra_keras.training.replica import ALONE
from isra_keras.training.steps import batch_of, sizes_of


def take_step(model, batch, network_training=True, replica=ALONE):
    """One step of `AdaptationModel.train_step`, not compiled; returns its logs."""
    return _on_variables(model, _pure_step(model, network_training))(batch)


def draws(model):
    """Nothing to do: every draw comes from a seed generator, and `outcome` sets them all."""
    return nullcontext()


form_of = sizes_of


def compile_step(model, network_training, form=None):
    """batch -> logs; reads and writes the model's variables around one compiled call."""
    return _on_variables(model, _compiled(_pure_step(model, network_training)))


def compile_predictor(model):
    """images -> outputs, compiled; the variables are arguments, so that training goes on in between."""

    @jax.jit
    def predict(values, images):
        return _with_values([model.variables], [values], lambda: model._predict(images))[0]

    return lambda images: predict([v.value for v in model.variables], images)


def make_train_function(model):
    """(state, iterator) -> (logs, state), as Keras's JAX trainer calls it."""
    step = _pure_step(model, True)
    step = step if model.run_eagerly else _compiled(step)
    return lambda state, iterator: step(state, batch_of(next(iterator)))


def make_test_function(model):
    """(state, iterator) -> (logs, state); the state has no optimiser here."""

    def test(state, data):
        groups = (model.trainable_variables, model.non_trainable_variables, model.metrics_variables)
        return _with_values(groups, state, lambda: model.test_step(data))

    test = test if model.run_eagerly else jax.jit(test)
    return lambda state, iterator: test(state, next(iterator))


def _pure_step(model, network_training):
    """(state, batch) -> (logs, state)."""

    def step(state, batch):
        trainable, others, optimizer, metrics = state
        reached = set()

        def loss(values):
            values = [_watch(value, index, reached) for index, value in enumerate(values)]
            groups = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
            (scaled, logs), (_, renewed, _) = _with_values(groups, (values, others, optimizer), compute)
            return scaled, (logs, renewed)

        def compute():
            outcome = model.outcome(batch, network_training)
            logs = model.logs(outcome)  # here, since what the objectives observed ends with the differentiation
            model.step.assign_add(1)
            return outcome.scaled, logs

        gradients, (logs, renewed) = jax.grad(loss, has_aux=True)(trainable)
        # A variable that no term reaches has no gradient on the other backends, which leave it alone, decay and all.
        gradients = [gradient if index in reached else None for index, gradient in enumerate(gradients)]
        trainable, optimizer = _apply(model.optimizer, optimizer, gradients, trainable)
        return logs, (trainable, renewed, optimizer, metrics)

    return step


def _compiled(step):
    """A pure step under `jax.jit`; weights and optimiser state are given up to it, so that neither is there twice.

    The rest is small, and others may hold on to it: an `Evaluation` has the class weights.
    """

    def reordered(trainable, optimizer, others, metrics, batch):
        return step((trainable, others, optimizer, metrics), batch)

    jitted = jax.jit(reordered, donate_argnums=(0, 1))
    return lambda state, batch: jitted(state[0], state[2], state[1], state[3], batch)


def _apply(optimizer, state, gradients, values):
    """(new values, new state) of the optimiser; a gradient of None leaves its variable as it is."""
    if all(gradient is None for gradient in gradients):
        return values, state
    with warnings.catch_warnings():  # Keras warns of each None
        warnings.filterwarnings("ignore", "Gradients do not exist")
        return optimizer.stateless_apply(state, gradients, values)


def _watch(value, index, reached):
    """`value`; adds `index` to `reached` while a gradient is traced that comes back through it."""

    @jax.custom_vjp
    def identity(x):
        return x

    def backward(_, cotangent):
        if not isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
            reached.add(index)
        return (cotangent,)

    identity.defvjp(lambda x: (x.value, None), backward, symbolic_zeros=True)
    return identity(value)


def _with_values(groups, values, function):
    """(function(), its values afterwards) with other values in place of the variables' own, group by group."""
    pairs = [pair for group, own in zip(groups, values) for pair in zip(group, own)]
    with keras.StatelessScope(state_mapping=pairs) as scope:
        result = function()
        renewed = tuple([scope.get_current_value(v) for v in group] for group in groups)
    return result, renewed


def _on_variables(model, step):
    """batch -> logs of a pure step: the state is read from the variables and written back."""

    def run(batch):
        groups = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
        logs, (*state, _) = step((*([v.value for v in group] for group in groups), []), batch)
        for group, values in zip(groups, state):
            for variable, value in zip(group, values):
                variable.assign(value)
        return logs

    return run
