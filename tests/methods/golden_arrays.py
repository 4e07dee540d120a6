"""Losses and gradients against golden arrays. Every file of a kind is a case of its own, new ones included."""

import numpy as np
import pytest

from tests import golden_tools
from tests.gradients import values_and_gradients


def golden_cases(kind):
    """Parametrises the argument `golden` = {name: array} over the files tests/golden/{kind}_*.npz."""
    files = golden_tools.golden_cases(kind)
    assert files, f"no golden file of kind {kind}"
    cases = [pytest.param(golden_tools.load(f), id=f.stem, marks=pytest.mark.golden) for f in files]
    return pytest.mark.parametrize("golden", cases)


def assert_close(actual, expected, tolerance, name=""):
    """max |difference| <= tolerance * max |expected|; absolute where everything expected is exactly zero."""
    error = golden_tools.relative_error(actual, expected)
    assert error <= tolerance, f"{name}: relative error {error:.2e} > {tolerance:.0e}"


def value_and_gradients(function, inputs):
    """A scalar and its gradients, zeros where independent: (float, {name: array}).

    Args:
        function: takes {name: tensor} and returns a float32 scalar; variables of layers may be used within.
        inputs: {name: array or Keras variable}.
    """
    values, gradients = values_and_gradients(lambda tensors: {"": function(tensors)}, inputs)
    return values[""], gradients[""]


def check_loss(golden, loss, function, inputs, tolerance=1e-5):
    """Compares `function` with out/<loss>, and its gradients with every grad/<loss>/<name of an input>."""
    value, found = value_and_gradients(function, inputs)
    assert_close(value, golden[f"out/{loss}"], tolerance, loss)
    for key in (k for k in golden if k.startswith(f"grad/{loss}/")):
        assert_close(found[key.removeprefix(f"grad/{loss}/")], golden[key], tolerance, key)


def assert_change_close(actual, expected, initial, tolerance=1e-4, name="", silent=False):
    """As `assert_close`, for weights less their initial value; two float32 steps of the weight itself are granted.

    A bias in front of BN moves by weight decay alone, less than float32 weights near 0.1 can tell apart to 1e-4.

    Args:
        silent: the weight has no gradient but rounding (a zero bias in front of BN): compares absolutely, 1e-7.
    """
    actual, expected, initial = (np.asarray(a, "float64") for a in (actual, expected, initial))
    error = np.abs(actual - expected).max()
    allowed = tolerance * np.abs(expected - initial).max() + 2 * np.spacing(np.float32(np.abs(expected).max()))
    allowed = max(allowed, 1e-7) if silent else allowed
    assert error <= allowed, f"{name}: weight change off by {error:.2e} > {allowed:.2e}"
