"""A cell on the compiled steps of another is the cell on its own, to the bit."""

import warnings

import pytest

from isra_keras.benchmarking import cell as cells
from isra_keras.benchmarking.grid import Cell
from isra_keras.benchmarking.pool import take_next
from isra_keras.methods import METHODS
from isra_keras.objective import Sizes
from tests.benchmarking.small_features import small_cell, write_features

FIRST = {("ba3us", "paper"), ("iwan", "off")}
"""Class weights, middle batches and ISRA; two stages and a network of its own."""
CASES = [
    pytest.param(method, isra, marks=() if (method, isra) in FIRST else pytest.mark.slow)
    for method in METHODS
    for isra in ("off", "paper")
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    yield write_features(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def shelf(monkeypatch):
    monkeypatch.setattr(cells, "SHELF", cells.ModelShelf())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield cells.SHELF


def on(task, cell):
    return Cell(cell.dataset, task, cell.method, cell.isra, cell.seed, cell.given)


@pytest.mark.parametrize("method, isra", CASES)
def test_equals_a_cell_of_its_own(data, shelf, method, isra):
    cell = small_cell(method, isra)
    cells.run_cell(on("P-S", cell), data)
    again = cells.run_cell(cell, data)
    shelf.kept.clear()
    fresh = cells.run_cell(cell, data)
    (model,) = shelf.kept.values()
    reads_sizes = model.watched_sizes.used
    assert "warm" not in fresh and again.get("warm", False) == (not reads_sizes)
    assert reads_sizes or method not in ("shot", "a2kt")
    assert again["evaluations"] == fresh["evaluations"]
    assert again["selected"] == fresh["selected"]


@pytest.mark.parametrize("look", [lambda sizes: sizes["target"], lambda sizes: sizes.get("source"), dict, list, len, bool])
def test_who_looks_at_the_sizes_is_known(look):
    sizes = Sizes({"source": 3, "target": 2})
    assert not sizes.used
    look(sizes)
    assert sizes.used and dict(sizes) == {"source": 3, "target": 2}


def test_another_seed_or_setting_is_another_model(data, shelf):
    cell = small_cell("source_only")
    cells.run_cell(cell, data)
    for other in (
        small_cell("source_only", learning_rate=0.5),
        Cell(cell.dataset, cell.task, cell.method, "off", 1, cell.given),
    ):
        assert "warm" not in cells.run_cell(other, data)
    assert len(shelf.kept) == 2, "the oldest went"


def test_a_failed_cell_leaves_nothing_behind(data, shelf, monkeypatch):
    cell = small_cell("source_only")
    monkeypatch.setattr(cells.CellTraining, "evaluate", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cells.run_cell(cell, data)
    monkeypatch.undo()
    again = cells.run_cell(cell, data)
    cells.SHELF.kept.clear()
    assert again["evaluations"] == cells.run_cell(cell, data)["evaluations"]


def test_a_worker_stays_with_its_setting():
    waiting = [Cell("pacs_features", task, method) for task in ("A-C", "A-P") for method in ("dann", "afn", "san")]
    order = lambda: [f"{cell.task} {cell.method}" for cell in waiting]  # noqa: E731
    first = take_next(waiting, None)
    assert first == Cell("pacs_features", "A-C", "dann")
    second = take_next(waiting, None, [first])
    assert second == Cell("pacs_features", "A-C", "afn"), "not the setting of the other worker"
    assert take_next(waiting, first, [second]) == Cell("pacs_features", "A-P", "dann")
    assert take_next(waiting, first, [second]) == Cell("pacs_features", "A-C", "san")
    assert take_next(waiting, Cell("pacs_features", "A-C", "afn", seed=1), [second]).method == "san"
    assert order() == ["A-P afn"] and take_next(waiting, None, [second]).method == "afn" and not waiting
