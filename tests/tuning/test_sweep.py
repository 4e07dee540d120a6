"""The sweep: cells through the recipe, curves and tables from the jsonl alone."""

import json

import pytest

from isra_keras.errors import NotFinite, UserError
from isra_keras.training.interrupt import Interrupted
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


def test_line_after_one_that_was_cut_off_is_whole(tmp_path):
    path = tmp_path / "sweep.jsonl"
    path.write_text('{"a": 1}\n{"a": 2, "b')
    for number in (3, 4):
        sweep.append(path, {"a": number})
    assert [row["a"] for row in sweep.read(path)] == [1, 3, 4]


@pytest.fixture
def train(monkeypatch):
    """Trainings that end with the error that is put into the list."""
    errors = []

    def train_seed(*args, **given):
        raise errors[0]

    monkeypatch.setattr("tuning.trial.train_seed", train_seed)
    monkeypatch.setattr("isra_keras.training.prepare.load_data", lambda config: None)
    monkeypatch.setattr("isra_keras.training.determinism.make_deterministic", lambda: None)
    return errors


def test_data_that_go_away_are_no_finding(tmp_path, train):
    path = tmp_path / "r.jsonl"
    args = sweep.build_parser().parse_args(["--axes", "receptor_l1", "--seeds", "1", "--results", str(path)])
    count = len({sweep.key(row) for row in todo_of(args)})
    train[:] = [UserError("Expected readable images; none. Is the disk still there?")]
    with pytest.raises(UserError, match="Is the disk"):
        sweep.run_cells(args)
    assert not sweep.read(path)
    for cell in todo_of(args):  # as it was noted once
        sweep.append(path, cell | {"metrics": {}, "failure": "Expected readable images; none."})
    train[:] = [NotFinite("Expected finite losses; received NaN.")]
    sweep.run_cells(args)
    assert sum(map(sweep.is_finding, sweep.read(path))) == count
    train[:] = [AssertionError("trained again")]
    sweep.run_cells(args)


def todo_of(args):
    config = sweep.base_of(args)
    return [sweep.describe(config, changed, seed) for _, changed, seed in sweep.cells(config, args.axes, args.seeds)]


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    """The sweep ended in a traceback once the data were loaded."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sweep.store.commit() is None


def test_interrupt_is_one_for_the_command_line(tmp_path, train):
    args = sweep.build_parser().parse_args(["--seeds", "1", "--results", str(tmp_path / "r.jsonl")])
    train[:] = [Interrupted(15, 3, tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        sweep.run_cells(args)


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


def test_report_says_where_lines_are_of_several_commits(tmp_path):
    for other, told in (("a1", False), ("b2", True)):
        sweep_report.write([row(0) | {"commit": "a1"}, row(1) | {"commit": other}], tmp_path)
        assert ("Of commits a1, b2:" in (tmp_path / "sweep.md").read_text()) == told


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
