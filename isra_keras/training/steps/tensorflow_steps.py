"""The step on TensorFlow, the default and the reference: a graph for each shape of batch, but one for all middle batches.

A graph takes seconds to make, and BA3US's middle batch shrinks at every evaluation.
"""

import threading
from contextlib import contextmanager, nullcontext

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops

from isra_keras.semantic.kernels import one_by_one
from isra_keras.training.determinism import pairwise_gradients
from isra_keras.training.replica import ALONE
from isra_keras.training.steps import batch_of, sizes_of

TRACING = threading.RLock()
"""One step is traced at a time, so that none forgets another's gradients."""


def take_step(model, batch, network_training=True, replica=ALONE):
    """One step of `AdaptationModel.train_step`, eager or inside a graph; returns its logs."""
    variables = model.trainable_variables
    with tf.GradientTape() if tf.executing_eagerly() else nullcontext() as tape:
        outcome = model.outcome(batch, network_training, replica)
    # Before the gradients, at whose sums replicas wait for each other: what an objective observed is kept in the object.
    logs = model.logs(outcome)
    gradients = tape.gradient(outcome.scaled, variables) if tape else pairwise_gradients(outcome.scaled, variables)
    pairs = [(g, v) for g, v in zip(replica.place(gradients), variables) if g is not None]
    # The graph optimiser of TensorFlow 2.21 (its dependency pass) drops the edge from a read to the write that
    # follows where another read of the same weight already feeds the write: IWAN's constant weights (its
    # equation 3) were now and then those of the renewed discriminator. So every value is waited for by hand.
    with tf.control_dependencies([*logs.values(), *(g for g, _ in pairs)]):
        model.optimizer.apply([g for g, _ in pairs], [v for _, v in pairs])
    model.step.assign_add(1)
    return logs


def draws(model):
    """Nothing to do: every draw comes from a seed generator, and `outcome` sets them all."""
    return nullcontext()


class OpenMiddle(tuple):
    """((domain, name, `tf.TensorSpec`), ...) of a batch whose middle rows are left open."""


def form_of(model, batch):
    """`OpenMiddle` where there are middle rows, or else `sizes_of`, as a signature costs every call a tenth of a millisecond.

    Open from the first step on, so that a run which goes on computes by the graph of one that was never stopped. XLA
    compiles each size anew anyway, and better where it knows it.
    """
    if model._jit or not len(batch.get("middle", {}).get("images", ())):
        return sizes_of(model, batch)

    def spec(domain, value):
        value = value if hasattr(value, "dtype") else np.asarray(value)
        rows, *rest = value.shape
        return tf.TensorSpec((None if domain == "middle" else rows, *rest), value.dtype)

    return OpenMiddle((domain, name, spec(domain, value)) for domain, part in sorted(batch.items())
                      for name, value in sorted(part.items()))  # fmt: skip


def compile_step(model, network_training, form):
    """batch -> logs as one graph, under XLA if the model was compiled so."""
    signature = {}
    for domain, name, spec in form if isinstance(form, OpenMiddle) else ():
        signature.setdefault(domain, {})[name] = spec

    def step(batch):
        with one_by_one(not model._jit), gradients_for_now():
            return model.train_step(batch, network_training)

    return tf.function(step, [signature] if signature else None, jit_compile=model._jit or None, autograph=False)


@contextmanager
def gradients_for_now():
    """Around a step that is being traced, its gradients included: forgets what `tf.custom_gradient` registered in it.

    TensorFlow keeps a function for each such operation of each graph for ever, and by it the whole graph, though nothing
    asks for it once the gradients are there: 36 MB with every run of a search on glyphs.
    """
    known = getattr(ops.gradient_registry, "_registry", {})
    with TRACING:
        before = set(known)
        try:
            yield
        finally:
            for name in set(known) - before:
                if name.startswith("CustomGradient-"):
                    del known[name]


def compile_predictor(model):
    """images -> outputs as a graph."""
    return tf.function(model._predict, reduce_retracing=True, autograph=False)


def make_train_function(model):
    """iterator -> logs; it takes the batch outside of the compiled step, so that the middle batch may change size."""
    return lambda iterator: (model.train_step if model.run_eagerly else model.train_on)(batch_of(next(iterator)))


def make_test_function(model):
    """None: Keras's own will do."""
