"""Runs without their figures, for tests that look at none; report.md is written all the same."""

from contextlib import contextmanager

import pytest


@contextmanager
def figures_left_out():
    """A run's report has no pictures within."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("plot_class_weights", "plot_confusion"):
            patch.setattr(f"isra_keras.analysis.report.{name}", lambda *args, **kwargs: None)
        patch.setattr("isra_keras.analysis.curves.plot_curves", lambda history, *args, **kwargs: bool(history))
        yield


@pytest.fixture
def no_figures():
    with figures_left_out():
        yield
