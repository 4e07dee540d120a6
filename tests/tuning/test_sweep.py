"""The sweep: cells through the recipe, curves and tables from the jsonl alone."""

import json

import pytest

from isra_keras.errors import UserError
from isra_keras.training.recipes import resolve
from tuning import sweep, sweep_report


def row(seed=0, accuracy=0.5, r2=0.1, **values):
    base = sweep.describe(resolve(), {}, seed) | values
    metrics = {} if accuracy is None else {"oracle:accuracy": accuracy, "sel:mean_entropy": 0.3}
    return base | {"metrics": metrics, "diagnostics": {"receptor_r2": r2, "receptor_mean_weight": 0.01, "alignment": 0.25}}


def test_cells_go_through_the_recipe_seed_by_seed():
    config = resolve()
    made = sweep.cells(config, ["receptor_l1", "grid"], 2)
    assert made[0] == ("recipe", {}, 0)
    assert [cell[2] for cell in made] == sorted(cell[2] for cell in made)
    one_seed = [changed for _, changed, seed in made if seed == 0]
    assert len(one_seed) == 1 + len(sweep.PENALTIES) + 9
    assert sweep.key(row()) == sweep.key(row(accuracy=0.9))
    assert sweep.key(row()) != sweep.key(row(receptor_l1=0.123))


def test_lines_cut_off_are_passed_over(tmp_path):
    path = tmp_path / "deep" / "sweep.jsonl"
    sweep.append(path, row())
    with open(path, "a") as file:
        file.write('{"dataset": "gly')
    assert len(sweep.read(path)) == 1


def test_report_has_means_spreads_and_receptors(tmp_path):
    rows = [row(0, 0.5), row(1, 0.7)]
    for l1, r2 in ((0.001, 0.9), (0.01, 0.4)):
        rows += [row(0, 0.6, r2, receptor_l1=l1), row(1, None, r2, receptor_l1=l1)]
    out = tmp_path / "not" / "there"
    text = sweep_report.write(rows, out)
    report = (out / "sweep.md").read_text()
    assert "has changed" not in report
    assert "| **0.5** | 60.00 ± 14.14 (2) |" in report
    assert "| 0.001 | 60.00 (1) | 0.300 (1) | 0.90 ± 0.00 (2) |" in report
    assert report.count("| 0.2500 ± 0.0000 (2) |") == 3 == report.count("0.2500")  # beside the receptor L1 alone
    assert list(out.glob("*.png")) and "6 cells" in text


def test_report_says_where_the_recipe_has_changed(tmp_path):
    rows = [row(seed, alignment_weight=123.0, num_topics=topics) for seed in (0, 1) for topics in (32, 8)]
    sweep_report.write(rows, tmp_path)
    assert "**The recipe has changed since: η (alignment weight) 0.01.**" in (tmp_path / "sweep.md").read_text()


def test_heat_map_needs_the_whole_plane(tmp_path):
    rows = [row(0, 0.5, class2vec_weight=one, alignment_weight=other) for one in (1.0, 2.0) for other in (1.0, 2.0)]
    assert sweep_report.draw_grid(rows, tmp_path / "grid.png") == tmp_path / "grid.png"
    assert sweep_report.draw_grid(rows[:-1], tmp_path / "other.png") is None


def test_nothing_to_report_is_said(tmp_path):
    with pytest.raises(UserError, match="there are none"):
        sweep.main(["--report", "--results", str(tmp_path / "none.jsonl")])
    with pytest.raises(UserError, match="pacs_features"):
        sweep.main(["--data", "mnist"])
    assert json.loads(json.dumps(row()))["dataset"] == "glyphs"
