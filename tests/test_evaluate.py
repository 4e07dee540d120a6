"""evaluate: what it says with and without target labels, how it finds the data again, errors."""

import contextlib
import json
import sys
import types

import numpy as np
import pytest

from isra_keras import cli, evaluate
from isra_keras.errors import UserError
from isra_keras.run_folder import load_run
from tests.data.made import undecodable
from tests.small_run import NAMES, colour_image, make_run

CONFIG = {"dataset": "toys", "source": "a", "target": "b", "seed": 5, "data_dir": "old", "on_bad_image": "error"}


def domain(name, labels):
    """Features whose strongest channel is the class: red, green, blue are 2, 1, 0. The last row looks like class 0."""
    labels = np.asarray(labels, "int32")
    features = np.eye(3, dtype="float32")[2 - np.maximum(labels, 0)] * 200
    features[-1] = [0, 0, 200]
    bad = (types.SimpleNamespace(path="x.jpg", reason="truncated"),)
    return types.SimpleNamespace(name=name, labels=labels, arrays=features, bad_images=bad)


@pytest.fixture
def data(monkeypatch):
    """Fake `isra_keras.data.tasks` and `.pairs`; returns the calls and the task that they hand out."""
    source, target = domain("a", [0, 1, 2, 0]), domain("b", [0, 1, 0, 1])
    state = types.SimpleNamespace(calls=[])
    state.task = types.SimpleNamespace(class_names=tuple(NAMES), source=source, target=target, kind="features")

    def handing_out(kind):
        return lambda *args, **kwargs: state.calls.append((kind, args, kwargs)) or state.task

    def evaluation_dataset(domain, batch_size, image_size, crop_size):
        for start in range(0, len(domain.labels), batch_size):
            rows = np.arange(start, min(start + batch_size, len(domain.labels)))
            yield {"images": domain.arrays[rows], "indices": rows, "readable": np.ones(len(rows), bool)}

    tasks = types.SimpleNamespace(load_task=handing_out("load"), folder_task=handing_out("folder"))
    pairs = types.SimpleNamespace(evaluation_dataset=evaluation_dataset, plain_errors=contextlib.nullcontext)
    import isra_keras.data

    for name, module in (("tasks", tasks), ("pairs", pairs)):
        monkeypatch.setitem(sys.modules, f"isra_keras.data.{name}", module)
        monkeypatch.setattr(isra_keras.data, name, module, raising=False)
    return state


@pytest.fixture
def run_dir(tmp_path):
    folder = make_run(tmp_path / "run", kind="features", method="ba3us", task="a-b")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def evaluate_json(capsys, *arguments):
    assert cli.run(evaluate.main, [*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_with_labels(data, run_dir, capsys):
    result = evaluate_json(capsys, run_dir, "--batch-size", 3)
    assert result["labelled"] and result["samples"] == 4 and result["accuracy"] == 0.75
    assert result["class_averaged_accuracy"] == 0.75
    assert result["confusion"] == {"blue": {"blue": 2}, "green": {"blue": 1, "green": 1}}
    by_name = {row["name"]: row for row in result["per_class"]}
    assert by_name["green"]["accuracy"] == 0.5 and by_name["green"]["mistaken_for"] == "blue" and "red" not in by_name
    assert result["shared_classes_judged"] == ["blue", "green"] and set(result["scores"]) >= {"mean_entropy", "snd", "bnm"}
    assert "dev" not in result["scores"] and result["bad_images"] == [{"path": "x.jpg", "reason": "truncated"}]


def test_with_source(data, run_dir, capsys):
    data.task.source.bad_images = (types.SimpleNamespace(path="y.jpg", reason="empty file"),)
    result = evaluate_json(capsys, run_dir, "--with-source")
    assert result["scores"]["source_accuracy"] == 1.0 and np.isfinite(result["scores"]["dev"])
    assert [bad["path"] for bad in result["bad_images"]] == ["x.jpg", "y.jpg"]  # the source's were counted, not named


def test_without_labels(data, run_dir, capsys):
    data.task.target.labels[:] = -1
    result = evaluate_json(capsys, run_dir)
    assert not result["labelled"] and "accuracy" not in result and result["scores"]["mean_entropy"] >= 0
    assert evaluate.main([str(run_dir)]) == 0
    assert "The target has no labels" in capsys.readouterr().out


def test_tables_for_people(data, run_dir, capsys):
    assert evaluate.main([str(run_dir)]) == 0
    text = capsys.readouterr().out
    assert "75.00 %" in text and "mean_entropy (label-free)" in text and "blue (1)" in text
    assert "Judged shared, 2 of 3 classes: blue, green" in text and "x.jpg: truncated" in text


def test_what_adaptation_changed(data, run_dir, capsys):
    """Before, no command said whether adaptation had helped."""
    assert "after_warmup" not in evaluate_json(capsys, run_dir)
    network, _ = load_run(run_dir)
    network.get_layer("classifier").set_weights([np.eye(3), np.zeros(3)])  # takes red for blue and blue for red
    network.save(run_dir / "source_model.keras")
    result = evaluate_json(capsys, run_dir, "--report")
    assert result["accuracy"] == 0.75 and result["after_warmup"] == {"accuracy": 0.25, "predictions_changed": 0.75}
    assert evaluate.main([str(run_dir)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "accuracy at the end of the warm-up" in text and "25.00 %" in text and "fewer steps than a run of source" in text
    data.task.target.labels[:] = -1
    assert evaluate_json(capsys, run_dir)["after_warmup"] == {"predictions_changed": 0.75}
    assert evaluate.main([str(run_dir)]) == 0
    text = capsys.readouterr().out
    assert "predictions changed since the warm-up" in text and "accuracy at" not in text


def test_report_is_written(data, run_dir, capsys):
    evaluate_json(capsys, run_dir, "--report")
    assert "75.00 %" in (run_dir / "report" / "report.md").read_text()


def test_the_report_judges_classes_as_the_command_does(data, run_dir, capsys):
    """Of a method without class weights it took a class for shared that the source has no image of."""
    data.task.source.labels[:] = 0
    assert evaluate_json(capsys, run_dir, "--report")["shared_classes_judged"] == ["blue"]
    assert "1 of 3 classes, by the mean of its predictions" in (run_dir / "report" / "report.md").read_text()


def test_data_is_found_as_the_run_found_it(data, run_dir, capsys):
    evaluate_json(capsys, run_dir)
    evaluate_json(capsys, run_dir, "--data-dir", "new")
    (run_dir / "config.json").write_text(json.dumps({"source_dir": "s", "target_dir": "t"}))
    evaluate_json(capsys, run_dir)
    options = {"data_dir": "old", "seed": 5, "allow_incomplete": False, "on_bad_image": "error"}
    assert data.calls == [
        ("load", ("toys", "a", "b"), options),
        ("load", ("toys", "a", "b"), options | {"data_dir": "new"}),
        ("folder", ("s", "t"), {"on_bad_image": "skip"}),
    ]


def test_a_data_dir_does_not_move_own_folders(data, run_dir, capsys):
    (run_dir / "config.json").write_text(json.dumps({"source_dir": "s", "target_dir": "t"}))
    assert cli.run(evaluate.main, [str(run_dir), "--data-dir", "new"]) == 2
    error = capsys.readouterr().err
    assert "folders 's' and 't'" in error and "config.json" in error and not data.calls


def test_refuses(data, run_dir, capsys):
    data.task.class_names = ("blue", "green", "yellow")
    assert cli.run(evaluate.main, [str(run_dir)]) == 2
    assert "blue, green, red); received blue, green, yellow" in capsys.readouterr().err
    for text, words in (("{}", "'dataset' or 'source_dir'"), ("{", "missing or broken"), ("[]", "an object")):
        (run_dir / "config.json").write_text(text)
        with pytest.raises(UserError, match=words):
            evaluate.main([str(run_dir)])
    assert cli.run(evaluate.main, [str(run_dir), "--batch-size", "0"]) == 2
    assert cli.run(evaluate.main, [str(run_dir / "nowhere")]) == 2


def test_an_image_that_only_decoding_refuses_has_no_row(tmp_path, capsys):
    """Its header and ending look whole; before, the next image was counted in its place, under its label."""
    run = make_run(tmp_path / "run", image_size=32)
    for name in NAMES:
        for index in range(2):
            colour_image(tmp_path / "data" / name / f"{index}.png", name)
    (run / "config.json").write_text(json.dumps({"source_dir": str(tmp_path / "data"), "target_dir": str(tmp_path / "data")}))
    whole = evaluate_json(capsys, run)
    bad = undecodable(tmp_path / "data" / "blue" / "9.jpg")
    with pytest.warns(UserWarning, match="evaluations leave it out"):
        result = evaluate_json(capsys, run)
    assert [found["path"] for found in result["bad_images"]] == [bad] and "damaged" in result["bad_images"][0]["reason"]
    assert result["samples"] == 6 and result["accuracy"] == 1.0 and result["scores"] == whole["scores"]


def test_brackets_in_names_are_no_markup(data, run_dir, capsys):
    """rich took "[/new] bus" for the end of a style that nobody began, and "[red]" for one."""
    info = json.loads((run_dir / "model.json").read_text())
    names = ["[/new] bus", "[red] car", "tram"]
    (run_dir / "model.json").write_text(json.dumps(info | {"class_names": names, "task": "[/a]-b", "method": "[bold]m"}))
    data.task.class_names = tuple(names)
    assert cli.run(evaluate.main, [str(run_dir)]) == 0
    text = capsys.readouterr().out
    assert "Judged shared, 2 of 3 classes: [/new] bus, [red] car" in text and "[/a]-b · [bold]m" in text
    assert text.count("[/new] bus") == 3  # a row, the class that another one is taken for, the line


def test_answers_that_are_no_numbers_are_counted(data, run_dir, capsys):
    """It ended in a traceback of the eigenvalues."""
    data.task.target.arrays[1:3, 0] = [np.nan, np.inf]
    assert cli.run(evaluate.main, [str(run_dir)]) == 2
    assert "Expected finite answers of the model; 2 of 4 samples of b" in capsys.readouterr().err


def test_a_report_that_cannot_be_written(data, run_dir, capsys):
    (run_dir / "report").write_text("a file")
    assert cli.run(evaluate.main, [str(run_dir), "--report"]) == 2
    assert "Expected to write to" in capsys.readouterr().err


def test_own_folders_that_have_moved(data, run_dir, capsys):
    assert cli.run(evaluate.main, [str(run_dir), "--target-dir", "new"]) == 2
    assert "--data-dir for a run of the dataset toys; received --target-dir" in capsys.readouterr().err
    (run_dir / "config.json").write_text(json.dumps({"source_dir": "s", "target_dir": "t"}))
    evaluate_json(capsys, run_dir, "--target-dir", "new")
    assert data.calls == [("folder", ("s", "new"), {"on_bad_image": "skip"})]


def test_a_moved_folder_below_the_home(data, run_dir, capsys, monkeypatch):
    """A shell leaves the ~ of --target-dir=~/new as it is; `train` has always taken it."""
    monkeypatch.setenv("HOME", "/home/me")
    (run_dir / "config.json").write_text(json.dumps({"source_dir": "s", "target_dir": "t"}))
    evaluate_json(capsys, run_dir, "--target-dir=~/new")
    assert data.calls == [("folder", ("s", "/home/me/new"), {"on_bad_image": "skip"})]
