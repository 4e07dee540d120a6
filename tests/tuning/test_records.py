"""The search folder: refused where it holds another search, with the names that differ."""

import errno
import json
import os
import shlex
from dataclasses import replace

import numpy as np
import pytest

from isra_keras.data.domain import Domain, Task
from isra_keras.errors import UserError
from isra_keras.training.config import TrainConfig
from isra_keras.training.recipes import resolve
from isra_keras.training.record import folder_lock
from tuning import records, report
from tuning import space as spaces
from tuning.objectives import parse_objective

SEARCH = {"tuner": "random", "objective": "sel:snd", "seeds": 1, "max_trials": 5, "search_seed": 0}


def wanted(**given):
    config = resolve(**given)
    return records.manifest(config, spaces.make_space(config), SEARCH)


def test_same_search_is_taken_and_may_grow(tmp_path):
    records.check_manifest(tmp_path / "s", wanted())
    longer = wanted()
    longer["search"]["max_trials"] = 9
    records.check_manifest(tmp_path / "s", longer)
    assert records.read_manifest(tmp_path / "s")["search"]["max_trials"] == 9


def test_a_search_that_runs_is_not_changed(tmp_path):
    """Workers that start later go by its number of trials."""
    records.check_manifest(tmp_path, wanted())
    begin(tmp_path)
    fewer = wanted() | {"search": SEARCH | {"max_trials": 1}}
    with folder_lock(tmp_path):
        records.check_manifest(tmp_path, wanted())
        with pytest.raises(UserError, match="alone"):
            records.check_manifest(tmp_path, fewer)
    assert records.read_manifest(tmp_path)["search"]["max_trials"] == 5


def test_search_folder_lies_outside_of_the_images(tmp_path):
    for name in ("s", "t"):
        (tmp_path / name).mkdir()
    given = wanted(source_dir=str(tmp_path / "s"), target_dir=str(tmp_path / "t"))
    with pytest.raises(UserError, match="outside of the images; .* lies in --target-dir"):
        records.check_manifest(tmp_path / "t" / "tune", given)
    assert not (tmp_path / "t" / "tune").exists()
    records.check_manifest(tmp_path / "tune", given)


def begin(folder):
    (folder / "trial_0").mkdir()


def test_search_without_a_trial_gives_way_to_another(tmp_path):
    records.check_manifest(tmp_path, wanted())
    records.add_data(tmp_path, {"classes": 2})
    records.add_data(tmp_path, {"classes": 3})
    (tmp_path / "oracle.json").write_text("{}")
    other = wanted(batch_size=4) | {"search": SEARCH | {"objective": "sel:bnm"}}
    with folder_lock(tmp_path), pytest.raises(UserError, match="alone"):
        records.check_manifest(tmp_path, other)
    records.check_manifest(tmp_path, other)
    assert records.read_manifest(tmp_path) == json.loads(json.dumps(other))
    assert not (tmp_path / "oracle.json").exists()  # of the other space
    begin(tmp_path)
    with pytest.raises(UserError, match="search.objective sel:bnm -> sel:snd"):
        records.check_manifest(tmp_path, wanted(batch_size=4))


def test_data_folder_that_moved_is_kept(tmp_path):
    records.check_manifest(tmp_path, wanted(data_dir="old"))
    records.check_manifest(tmp_path, wanted(data_dir="new"))
    saved = records.read_manifest(tmp_path)
    assert saved["config"]["data_dir"] == os.path.abspath("new")
    assert saved == json.loads(json.dumps(wanted(data_dir="new")))


def test_another_search_is_refused_by_name(tmp_path):
    records.check_manifest(tmp_path, wanted())
    begin(tmp_path)
    with pytest.raises(UserError, match=r"config.iterations 2000 -> 77"):
        records.check_manifest(tmp_path, wanted(iterations=77))
    other = wanted()
    other["space"].pop("num_topics")
    with pytest.raises(UserError, match=r"space.num_topics \(there\) -> \(not there\)"):
        records.check_manifest(tmp_path, other)
    other = wanted()
    other["search"] = SEARCH | {"objective": "sel:bnm"}
    with pytest.raises(UserError, match="search.objective sel:snd -> sel:bnm"):
        records.check_manifest(tmp_path, other)


def test_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="thesis.tex"):
        records.check_manifest(tmp_path, wanted())
    assert not (tmp_path / "search.json").exists()


def test_folder_that_can_not_be_is_one_sentence(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="to be a folder; .*file' is a file"):
        records.check_manifest(file, wanted())
    with pytest.raises(UserError, match="to write in the folder .*the system refused: Not a directory"):
        records.check_manifest(file / "below", wanted())

    def refuse(*args, **given):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(records.Path, "mkdir", refuse)
    with pytest.raises(UserError, match="the system refused: Permission denied. Take another"):
        records.check_manifest(tmp_path / "new", wanted())


def test_other_data_are_refused(tmp_path):
    def data(value):
        rows = np.full((4, 2), value, "float32")
        names, labels = ("a", "b"), np.array([0, 0, 1, 1])
        domain = Domain("d", names, labels, None, rows)
        return records.fingerprint(Task("t", domain, domain, names, None, "features", None))

    records.check_manifest(tmp_path, wanted())
    begin(tmp_path)
    records.add_data(tmp_path, data(0.0))
    records.add_data(tmp_path, data(0.0))
    records.check_manifest(tmp_path, wanted())
    with pytest.raises(UserError, match="data.target 4 samples"):
        records.add_data(tmp_path, data(1.0))


def test_other_pictures_under_the_same_names_are_other_data(tmp_path):
    path = tmp_path / "0001.jpg"

    def data(content):
        path.write_bytes(content)
        domain = Domain("d", ("a",), np.zeros(1, "int32"), (str(path),), None)
        return records.fingerprint(Task("t", domain, domain, ("a",), None, "images", None))

    first = data(b"one")
    assert data(b"one") == first != data(b"three")


def row(number, score, accuracy, status="COMPLETED", budget=None):
    values = {"x": 1.0} | ({"tuner/epochs": budget} if budget else {})
    metrics = {"sel:mean_entropy": score, "sel:snd": -score, "oracle:accuracy": accuracy}
    return records.Row(str(number), status, values, score, metrics)


def test_best_is_of_completed_trials_of_the_largest_budget():
    rows = [
        row(0, 0.3, 0.5, budget=9),
        row(1, 0.1, 0.9, budget=3),
        row(2, 0.2, 0.1, "FAILED", 9),
        row(3, 0.4, 1, budget=9),
    ]
    assert records.best_row(rows, "min").trial_id == "0"
    assert records.best_row(rows, "max").trial_id == "3"
    assert records.best_row([], "min") is None


def hyperband(*trials, **search):
    """(manifest, rows, best row) of trials (score, evaluations)."""
    values = {item.name: item.default for item in spaces.make_space(resolve())}
    rows = [row(number, score, 0.5, budget=budget) for number, (score, budget) in enumerate(trials)]
    for item in rows:
        item.values |= values
    found = json.loads(json.dumps(wanted() | {"search": SEARCH | {"tuner": "hyperband"} | search}))
    return found, rows, records.best_row(rows, "min")


def page(manifest, rows, best):
    return report.markdown(manifest, rows, parse_objective("sel:mean_entropy"), best, [], [])


def test_budgets_are_told_apart():
    text = page(*hyperband((0.1, 2), (0.3, 10), (0.2, 10)))
    assert "Trial 2 is the best of those with 10 evaluations." in text and "to its end" not in text
    assert "| evaluations | mean entropy (min) |" in text and "| 2 | 0.1 |" in text and "| 10 | 0.2 |" in text
    text = page(*hyperband((0.1, 2), (0.3, 2)))
    assert "No trial was trained to its end; the longest ones have 2 of 10 evaluations." in text
    assert "evaluations" not in page(*hyperband((0.1, None)))


def test_best_so_far_is_of_the_best_trials_budget(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn, real = [], Axes.step
    monkeypatch.setattr(Axes, "step", lambda axis, x, y, **style: drawn.append((x, y)) or real(axis, x, y, **style))
    manifest, rows, best = hyperband((0.1, 2), (0.3, 10), (0.2, 10))
    report.draw(tmp_path, rows, manifest, parse_objective("sel:mean_entropy"), best)
    assert drawn == [([1, 2], [0.3, 0.2])]


def test_files_that_went_bad_are_told():
    manifest, rows, best = hyperband((0.1, 10), (0.2, 10))
    rows[0].outcomes, rows[1].outcomes = [{"late_bad_images": 0}], [{"late_bad_images": 2}, {}]
    assert "Files could not be read any more in trial 1: " in page(manifest, rows, best)


def test_trials_that_fell_back_are_told():
    """Their scores are of the model from before adaptation; nothing told them from the others."""
    manifest, rows, best = hyperband((0.1, 10), (0.2, 10))
    assert "looked collapsed" not in page(manifest, rows, best)
    rows[0].outcomes, rows[1].outcomes = [{"fell_back": False}, {"fell_back": True}], [{"fell_back": True}]
    assert "The adaptation looked collapsed to its end in trials 0, 1: the score" in page(manifest, rows, best)


def test_a_grid_that_was_tried_in_part_says_so():
    text = page(*hyperband((0.1, None), tuner="grid", max_trials=30))
    assert "The grid has 150 combinations, and --max-trials 30 tries" in text and "class2vec_weight stays as" in text
    assert "combinations" not in page(*hyperband((0.1, None), tuner="grid", max_trials=150))


def test_comparison_shows_what_each_score_would_have_chosen():
    table = report.compare_objectives([row(0, 0.3, 0.5), row(1, 0.1, 0.6), row(2, 0.2, 0.9)])
    entropy, oracle = table[0], table[-1]
    assert entropy["score"] == "mean_entropy" and entropy["trial"] == "1"
    assert entropy["gap"] == pytest.approx(0.3) and entropy["correlation"] == pytest.approx(0.5)
    assert oracle["trial"] == "2" and "ORACLE" in oracle["score"]
    assert report.oracle_line(table) == "ORACLE (target labels) would have chosen trial 2: 90.00 %."
    assert report.compared_cells(entropy)[-1] == "+0.50"
    alike = report.compare_objectives([row(0, 0.3, 0.5), row(1, 0.1, 0.5)])
    assert report.compared_cells(alike[0])[2:] == ["50.00 %", "0.00", "–"], "not +nan"


def test_comparison_says_which_scores_the_trials_do_not_have():
    rows = [row(0, 0.3, 0.5), row(1, 0.1, 0.6)]
    text = report.missing_text(rows)
    assert "dev, source_accuracy, source_risk are not compared: the trials ran without --compare-objectives" in text
    rows[1].metrics |= {f"sel:{name}": 0.5 for name in ("dev", "source_accuracy", "source_risk")}
    assert "trials 0 ran without" in report.missing_text(rows)
    page = report.markdown(json.loads(json.dumps(wanted())), rows, parse_objective("sel:mean_entropy"), rows[1],
                           report.compare_objectives(rows), [], report.missing_text(rows))  # fmt: skip
    assert "would have chosen" in page and "Missing: dev" in page
    rows[0].metrics |= rows[1].metrics
    assert report.missing_text(rows) == ""


def test_best_folder_never_mixes_two_trials(tmp_path):
    def write(trial, **given):
        config = resolve(num_topics=8 * trial, **given)
        return report.write_best(tmp_path, config, row(trial, 0.1, 0.5)).name, config

    def saved(name):
        return TrainConfig.load(tmp_path / name / "config.json")

    assert write(1)[0] == "best"
    name, second = write(2)  # nothing was trained there yet
    assert name == "best" and saved("best") == second
    (tmp_path / "best" / "checkpoints").mkdir()
    name, moved = write(2, data_dir="new")
    assert name == "best" and saved("best") == moved
    name, third = write(3)
    assert name == "best_trial_3" and saved(name) == third and saved("best") == moved
    best = json.loads((tmp_path / "best.json").read_text())
    assert (best["trial"], best["folder"]) == ("3", "best_trial_3")
    longer = replace(third, iterations=9999)  # the run in it was made longer
    (tmp_path / name / "config.json").write_text(longer.to_json())
    (tmp_path / name / "checkpoints").mkdir()
    assert write(3)[0] == name and saved(name) == longer
    (tmp_path / name / "config.json").write_text(second.to_json())
    with pytest.raises(UserError, match="best_trial_3"):
        write(3)


def test_conclusion_is_whole_though_there_is_nothing_to_compare(tmp_path, capsys):
    tmp_path = tmp_path / "my search"
    records.check_manifest(tmp_path, wanted())
    folder = tmp_path / "trial_0"
    folder.mkdir()
    values = {"class2vec_weight": 0.1, "alignment_weight": 0.1, "num_topics": 8}
    state = {"trial_id": "0", "status": "COMPLETED", "score": 0.5, "message": None,
             "hyperparameters": {"values": values}}  # fmt: skip
    (folder / "trial.json").write_text(json.dumps(state))
    assert report.conclude(tmp_path, compare=True) == 0
    text = capsys.readouterr().out
    assert f"tensorboard --logdir '{tmp_path}/tensorboard'\n" in text
    assert "next:\n" in text and text.strip().splitlines()[-1].startswith("note: ") and "two trials" in text
    for name in ("results.md", "best.json", "best/config.json", "figures/values.png"):
        assert (tmp_path / name).is_file(), name


def test_command_trains_what_was_found():
    config = spaces.apply(resolve(iterations=60, semantic=True), {"num_topics": 8, "class2vec_weight": 0.123})
    words = report.train_command(config).split()[3:]
    from isra_keras import train

    assert train.configuration(train.given_values(train.build_parser().parse_args(words)), None, False) == config
    odd = spaces.apply(config, {"receptor_width": 32})
    assert report.train_command(odd) is None  # there is no option for it; best/config.json says it


def test_short_search_names_the_training_of_full_length():
    full = resolve(num_topics=8)
    assert report.at_recipe_length(resolve(num_topics=8, iterations=60, eval_interval=30)) == full
    assert report.at_recipe_length(full) is None


def test_reason_of_a_failed_trial_is_the_note(tmp_path):
    folder = tmp_path / "trial_0"
    folder.mkdir()
    state = {"trial_id": "0", "status": "FAILED", "score": None, "message": "Traceback\nValueError: x",
             "hyperparameters": {"values": {}}}  # fmt: skip
    (folder / "trial.json").write_text(json.dumps(state))
    assert records.read_rows(tmp_path)[0].reason == "ValueError: x"
    (folder / "failure.txt").write_text("out of memory\n")
    assert records.read_rows(tmp_path)[0].reason == "out of memory"


@pytest.mark.parametrize("given", [
    {"dataset": "pacs_features", "num_topics": 8},
    {"dataset": "office31", "source": "dslr", "target": "webcam"},
    {"source_dir": "a", "target_dir": "b"},
    {"source_dir": "a", "target_dir": "b", "freeze_backbone": True, "batch_size": 16},
    {"source_dir": "a", "target_dir": "b", "augment": False, "guard": False, "warmup": 0.5, "on_bad_image": "error"},
    {"dataset": "glyphs", "reference_quirks": True, "batch_norm": "fixed", "weight_smoothing": 0.25},
])  # fmt: skip
def test_command_of_every_data_set(given):
    from isra_keras import train

    config = resolve(**given, alignment_weight=0.25)
    words = shlex.split(report.train_command(config))[3:]
    assert train.configuration(train.given_values(train.build_parser().parse_args(words)), None, False) == config
