"""Keras's other backends, each in a process of its own: the golden numbers, and training without TensorFlow."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FAST_COMPILER = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""JAX spends most of these tests in XLA's passes, which the few small steps that follow do not pay back."""

backends = pytest.mark.parametrize("backend", ["jax", "torch"])


def run(backend, *arguments):
    """A command of this Python under another backend; its output if it fails."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = os.environ | {
        "KERAS_BACKEND": backend, "XLA_FLAGS": FAST_COMPILER, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def golden(backend, *arguments):
    """The tests marked golden, in one process."""
    run(backend, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", "-m", "golden", *arguments)


@backends
def test_without_tensorflow(backend):
    run(backend, "-m", "tests.without_tensorflow")


def test_golden_numbers_under_torch():
    golden("torch", "tests/methods", "tests/semantic/test_golden.py", "tests/test_model_golden.py")


def test_golden_numbers_under_jax():
    """ISRA; trajectories with BN, two discriminators and their frozen weights (IWAN), class weights (PADA), momenta by part (AFN)."""
    golden("jax", "tests/semantic/test_golden.py", "tests/test_model_golden.py",
           *(f"tests/methods/test_{name}.py" for name in ("iwan", "pada", "afn")),
           "-k", "(test_golden or trajectory) and not ba3us_trajectory")  # fmt: skip


@pytest.mark.slow
def test_all_golden_numbers_under_jax():
    golden("jax", "tests/methods", "tests/test_model_golden.py")
