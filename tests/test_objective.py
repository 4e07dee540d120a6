"""Views and contexts made by hand: what dtypes they take."""

import numpy as np
import pytest
from keras import ops

from isra_keras.methods import get_method
from isra_keras.objective import Context, View, Views

CLASSES = 4


def terms(name, dtype):
    """{term: float} of a method on a fixed batch whose labels have this dtype."""
    draw = np.random.default_rng(0)
    method = get_method(name)(**({} if name == "source_only" else {"discriminator_width": 8, "dropout": 0.0}))
    method.build_parts(5, CLASSES, 5, {})
    for weight in method.trainable_variables:
        weight.assign(draw.normal(size=weight.shape))

    def part(rows, labels=True):
        features, logits = (draw.normal(size=(rows, width)).astype("float32") for width in (5, CLASSES))
        return View(None, None, features, logits, draw.integers(0, CLASSES, rows).astype(dtype) if labels else None)

    views = Views(part(6), part(5, labels=False), part(2) if name == "ba3us" else None)
    weights = ops.convert_to_tensor(np.arange(1.0, 1.0 + CLASSES, dtype="float32"))
    found = method.loss_terms(views, Context(3, 10, weights, ops.convert_to_tensor(True)))
    return {term: float(ops.convert_to_numpy(value)) for term, value in found.items()}


@pytest.mark.parametrize("dtype", ["int64", "uint8", "int8", "uint16"])
@pytest.mark.parametrize("name", ["source_only", "ba3us", "pada", "mwpda"])
def test_labels_of_any_integer_dtype(name, dtype):
    assert terms(name, dtype) == terms(name, "int32")


def test_labels_become_int32_once():
    labels = np.array([2, 0], "uint8")
    view = View(None, None, np.zeros((2, 3), "float32"), np.zeros((2, CLASSES), "float32"), labels)
    assert ops.convert_to_numpy(view.labels).dtype == "int32"
    plain = labels.astype("int32")
    assert View(None, None, view.features, view.logits, plain).labels is plain
    context = Context(0, 10, ops.convert_to_tensor(np.array([1, 2, 3, 4], "float32")), ops.convert_to_tensor(True))
    assert ops.convert_to_numpy(context.sample_weights(labels)).tolist() == [3.0, 1.0]
