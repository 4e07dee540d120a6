"""What tracing a step leaves behind in TensorFlow."""

import gc

import pytest
from tensorflow.python.framework import ops
from tensorflow.python.framework.func_graph import FuncGraph

from isra_keras.methods import get_method
from isra_keras.semantic import SemanticAlignment
from tests.methods.objective_test import make_batch, make_model, optimizer


@pytest.mark.parametrize("block", [None, 2])
def test_a_traced_step_leaves_no_gradient_functions_and_no_graph(block):
    """Each held its graph for ever: a search of 30 trials on glyphs grew by a gigabyte."""
    before, graphs = set(ops.gradient_registry.list()), count()
    plugin = SemanticAlignment(4, receptor_width=4, topic_block=block or "auto")
    model = make_model(get_method("source_only"), semantic=plugin)
    model.compile(optimizer())
    first = float(model.train_on(make_batch(model, 0))["loss"])
    assert first > 0 and count() > graphs
    assert {name for name in set(ops.gradient_registry.list()) - before if name.startswith("CustomGradient")} == set()
    del model, plugin
    assert count() == graphs


def count():
    gc.collect()
    return sum(isinstance(one, FuncGraph) for one in gc.get_objects())
