"""No figures: what they show is tested in tests/analysis."""

import pytest

from tests.figures import figures_left_out


@pytest.fixture(scope="module", autouse=True)
def no_figures():
    with figures_left_out():
        yield
