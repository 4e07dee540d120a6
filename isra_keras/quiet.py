"""TensorFlow's start without the lines that its C++ parts print before their log level counts."""

import importlib.abc
import importlib.util
import os
import sys
from contextlib import contextmanager


def quiet_tensorflow():
    """From now on the first import of TensorFlow is silent; does nothing where it has been imported.

    Only lines that are printed while it loads and looks for devices are dropped. `TF_CPP_MIN_LOG_LEVEL=0` or 1 shows
    them, `isra doctor` says what devices there are.
    """
    loud = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1")
    if not loud and "tensorflow" not in sys.modules and not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow once and hands it on with a loader that is silent."""

    def find_spec(self, name, path=None, target=None):
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Another loader, silent while it executes the module."""

    def __init__(self, loader):
        self.loader = loader

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        with silent_stderr():
            self.loader.exec_module(module)
            module.config.list_physical_devices()  # CUDA's own first words


@contextmanager
def silent_stderr():
    """Drops what is written to file descriptor 2; Python's exceptions are raised as ever."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
