"""Cells from the command line's values and from files."""

import json

import pytest

from isra_keras.benchmarking.grid import Cell, as_given, cell_config, check_data, folder_cells, make_cells, read_grid
from isra_keras.errors import UserError
from isra_keras.methods import METHODS
from tests.data.made import tree


def test_product_in_order_without_doubles():
    cells = make_cells("office-caltech10-features", "source_only,BA3US", ["A2W", "dslr-amazon"], 2, "both")
    assert len(cells) == 2 * 2 * 3 * 2 and len({cell.key for cell in cells}) == len(cells)
    assert cells[0] == Cell("office_caltech10_features", "A-W", "source_only", "off", 0)
    assert [cell.seed for cell in cells] == [0] * 12 + [1] * 12
    assert {cell.isra for cell in cells} == {"off", "reference", "paper"}


def test_all():
    cells = make_cells("pacs_features", "all", "all", 1, "off")
    assert len(cells) == 12 * len(METHODS)
    assert len(make_cells("pacs_features", ["ba3us"], "all", 1, "on")) == 24
    assert len(make_cells("pacs_features", ["ba3us"], "all", [3], "off,paper")) == 24


def test_overrides_are_part_of_the_cell():
    plain, short = (
        make_cells("pacs_features", "ba3us", "A-C", 1, "off", values)[0] for values in ({}, {"iterations": 5})
    )
    assert plain.key != short.key and short.overrides == {"iterations": 5}
    assert Cell.from_dict(json.loads(json.dumps(short.to_dict()))) == short
    assert plain.folder != short.folder
    assert as_given({"b": [1], "a": "x"}) == (("a", '"x"'), ("b", "[1]"))


@pytest.mark.parametrize(
    "values, said",
    [
        ({"dataset": "nowhere"}, "Expected a dataset of"),
        ({"methods": "ba4us"}, "--methods to be all or some of"),
        ({"tasks": "A-Q"}, "domain of pacs_features"),
        ({"seeds": 0}, "at least one seed"),
        ({"seeds": "three"}, "--seeds as a number"),
        ({"semantic": "perhaps"}, "--semantic to be one of"),
        ({"overrides": {"seed": 3}}, "--set to name one of"),
        ({"overrides": {"speed": 3}}, "received 'speed'"),
    ],
)
def test_refuses(values, said):
    with pytest.raises(UserError, match=said):
        make_cells(**({"dataset": "pacs_features"} | values))


def test_file(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'dataset = "pacs_features"\nseeds = [1, 2]\ntasks = "A-C"\n[[grid]]\nmethods = ["source_only"]\nsemantic = "off"\n'
        '[[grid]]\nmethods = ["ba3us"]\nset = {iterations = 7}\n'
    )
    cells = read_grid(path)
    assert [(cell.method, cell.isra, cell.seed) for cell in cells[:2]] == [
        ("source_only", "off", 1),
        ("source_only", "off", 2),
    ]
    assert len(cells) == 2 + 6 and cells[-1].overrides == {"iterations": 7}
    path.write_text(
        'dataset = "pacs_features"\nmethods = ["ba3us"]\nset = {iterations = 7, eval_interval = 7}\n'
        '[[grid]]\nset = {iterations = 9}\n[[grid]]\nseeds = [4]\n'
    )
    assert read_grid(path)[0].overrides == {"iterations": 9, "eval_interval": 7}  # what lies beside `grid` holds on
    assert read_grid(path)[-1].overrides == {"iterations": 7, "eval_interval": 7}
    (tmp_path / "grid.json").write_text(
        json.dumps({"dataset": "pacs_features", "methods": ["ba3us"], "semantic": "off"})
    )
    assert len(read_grid(tmp_path / "grid.json")) == 12


@pytest.mark.parametrize("text", ["methods = 'all'", "dataset = 'pacs_features'\nspeed = 3", "dataset = ", "[dataset"])
def test_broken_file(tmp_path, text):
    path = tmp_path / "grid.toml"
    path.write_text(text)
    with pytest.raises(UserError, match="grid.toml"):
        read_grid(path)
    with pytest.raises(UserError, match="can't be read"):
        read_grid(tmp_path / "missing.toml")


def test_missing_data_is_told_before_the_first_cell(tmp_path, monkeypatch):
    for name in ("ISRA_DATA", "ISRA_TEST_DATA"):
        monkeypatch.delenv(name, raising=False)
    features, images = (make_cells(name, "ba3us", "all", 1, "off") for name in ("pacs_features", "office_caltech10"))
    check_data(make_cells("glyphs", "ba3us", "all", 1, "off"))
    (cell,) = make_cells("glyphs", "ba3us", "Pr-Ha", 1, "off")
    assert not cell_config(cell).guard
    (cell,) = make_cells("glyphs", "ba3us", "Pr-Ha", 1, "off", {"guard": True})
    assert cell_config(cell).guard, "--set guard=true had a name of its own and no effect"
    for cells in (features, images):
        with pytest.raises(UserError, match="--data-dir"):
            check_data(cells)
    (tmp_path / "pacs_any.npz").write_bytes(b"")
    check_data(features, tmp_path)
    for domain in ("amazon", "caltech10", "dslr", "webcam"):
        (tmp_path / domain / "backpack").mkdir(parents=True)
    check_data(images, tmp_path)
    (tmp_path / "dslr" / "backpack").rmdir()
    with pytest.raises(UserError, match="dslr"):
        check_data(images, tmp_path)


def test_wrong_values_are_told_before_the_first_cell(tmp_path):
    tree(tmp_path / "shop", {"cup": 20, "mug": 20})
    tree(tmp_path / "street", {"cup": 9})
    folders = [str(tmp_path / "shop"), str(tmp_path / "street")]
    cells = folder_cells(*folders, "source_only", 2, "off")
    with pytest.raises(UserError, match="batch_size of at most 9, the target domain 'street'.*--set batch_size=9"):
        check_data(cells, None, folders)
    check_data(folder_cells(*folders, "source_only", 2, "off", {"batch_size": 9}), None, folders)
    for dataset in ("glyphs", "pacs_features"):
        with pytest.raises(UserError, match="iterations to be a whole number; received 'abc'"):
            check_data(make_cells(dataset, "ba3us", "all", 1, "off", {"iterations": "abc"}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("semantic = true", 'received True. Did you mean "both"'),
        ("methods = 3", "Expected names.*received 3"),
        ("set = 5", "'set' in .* to be a table"),
        ('grid = ["x"]', "a list of tables"),
        ("grid = []", "a list of tables"),
        ('seeds = [0, "a"]', "--seeds as a number"),
    ],
)
def test_values_of_a_wrong_type(tmp_path, text, said):
    path = tmp_path / "grid.toml"
    path.write_text(f'dataset = "pacs_features"\n{text}\n')
    with pytest.raises(UserError, match=said):
        read_grid(path)
