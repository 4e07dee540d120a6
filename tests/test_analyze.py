"""analyze: the whole report on a small run, with and without topics, labels and another run; errors."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from isra_keras import analyze, cli
from isra_keras.data.domain import Domain
from tests.app.runs import make_app_run
from tests.small_run import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return make_app_run(root / "isra"), make_app_run(root / "plain", semantic=False, seed=1)


def test_whole_report(runs, capsys):
    run, other = runs
    assert cli.run(analyze.main, [str(run), "--against", str(other), "--max-samples", "150"]) == 0
    out = run / "analysis"
    assert f"report {out / 'report.html'}" in capsys.readouterr().out
    figures = {path.name for path in out.iterdir()}
    wanted = {"class_weights", "batch_attention", "tsne", "similarity", "improvement", "topic_classes", "topic_domains"}
    assert {f"{name}.{kind}" for name in wanted for kind in ("png", "svg")} <= figures
    assert {"uncertain.png", "confidently_wrong.png", "topic_images.png"} <= figures
    text = (out / "report.html").read_text()
    assert text.count("data:image/png;base64,") == 10 and "http" not in text
    assert f"python -m isra_keras.analyze {run} --against {other} --max-samples 150" in text
    assert "a sample of 150 of" in text and "(with target labels) of 150 of the target" in text
    assert "A-distance" in text and "Most confused pairs" in text and "of 5 topics respond" in text


def test_parts_of_a_run_without_topics(runs, tmp_path):
    out = tmp_path / "out"
    command = [str(runs[1]), "--max-samples", "60", "--out", str(out), "--only", "topics", "--only", "classes"]
    assert cli.run(analyze.main, command) == 0
    assert [path.name for path in out.iterdir()] == ["report.html"]
    assert "This run has no topics" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("extra", "words"),
    [(["--max-samples", "2"], "--max-samples of at least 8"), (["--against", "nowhere"], "Expected a run folder"),
     (["--data-dir", "x", "--only", "weights"], "")],
)  # fmt: skip
def test_refusals(runs, capsys, extra, words):
    code = cli.run(analyze.main, [str(runs[1]), *extra, *(["--max-samples", "20"] if not words else [])])
    assert code == (2 if words else 0) and words in capsys.readouterr().err


def test_other_classes_are_refused(runs, tmp_path, capsys):
    wrong = make_run(tmp_path / "wrong")
    (wrong / "config.json").write_text((runs[0] / "config.json").read_text())
    assert cli.run(analyze.main, [str(wrong)]) == 2
    assert "the data has others" in capsys.readouterr().err


def test_answers_that_are_no_numbers_are_refused(runs, monkeypatch, tmp_path, capsys):
    """Figures were drawn of them, or scikit-learn ended with a traceback."""
    from isra_keras.analysis import run_data

    predict = run_data._predict

    def broken(*args):
        found = predict(*args)
        found.features[0] = np.nan
        return found

    monkeypatch.setattr(run_data, "_predict", broken)
    assert cli.run(analyze.main, [str(runs[1]), "--out", str(tmp_path / "out"), "--max-samples", "20"]) == 2
    assert "Expected finite answers of the model; 1 of 20 samples" in capsys.readouterr().err


def test_classes_of_the_target_are_those_of_all_its_labels():
    """Of a sample, rare classes were called absent."""
    from isra_keras.analysis.run_data import RunData

    labels = np.array([0] * 9 + [2] + [-1])
    sample = SimpleNamespace(labels=labels[:5])
    task = SimpleNamespace(target=SimpleNamespace(labels=labels), source=SimpleNamespace(labels=np.arange(3)))
    run = RunData(None, "", {"class_names": ["a", "b", "c"]}, None, None, task, None, sample)
    assert run.target_counts().tolist() == [9, 0, 1] and run.shared().tolist() == [True, False, True]
    assert "no label-free result" in run.shared_by()
    labels[:] = -1
    run.info["class_weights"] = [0.0, 1.0, 0.0]
    assert run.target_counts() is None and run.shared().tolist() == [False, True, False]
    assert "no labels: shared are the classes that the run judges so" in run.shared_by()
    run.info["class_weights"], sample.logits = None, np.log([[0.3, 0.1, 0.6]] * 5)
    assert run.shared().tolist() == [True, False, True]
    task.source.labels = np.arange(2)  # the third was never learnt
    assert run.class_weights() == pytest.approx([0.3, 0.1, 0]) and not run.shared()[2]


def test_runs_of_another_source_are_not_compared(monkeypatch, tmp_path):
    """The target's samples alone were looked at, and t-SNE ended in a traceback."""
    from isra_keras.analysis import run_data
    from isra_keras.errors import UserError

    def load(folder, *rest):
        photos, target = (
            SimpleNamespace(domain=Domain(name, ("a", "b"), np.zeros(3, "int32"), paths=[f"photos/{k}" for k in name]),
                            indices=np.arange(3), labels=np.zeros(3))
            for name in (folder, "xyz")
        )  # fmt: skip
        return SimpleNamespace(folder=folder, class_names=["a", "b"], source=photos, target=target)

    monkeypatch.setattr(run_data, "load_run_data", load)
    args = analyze.build_parser().parse_args(["abc", "--against", "abd"])
    with pytest.raises(UserError, match="'abd' is on another"):
        analyze.analyze(args, tmp_path)


def test_runs_on_other_images_are_not_compared():
    """Of more images than --max-samples the same number is looked at, whichever they are."""

    def data(names, places=(0, 2), labels=(0, 1)):
        domain = Domain("photos", ("a", "b"), np.zeros(3, "int32"), paths=[f"photos/{name}" for name in names])
        return SimpleNamespace(domain=domain, indices=np.array(places), labels=np.array(labels))

    one = data("abc")
    assert analyze.same_samples(one, data("abc"))
    for other in (data("abd"), data("abc", places=(0, 1)), data("abc", labels=(0, 0))):
        assert not analyze.same_samples(one, other)


def test_runs_of_one_name_are_told_apart(monkeypatch, tmp_path):
    """`train --seeds` calls its runs seed0, seed1, ...: the panels, columns and dots of two methods had the same name."""
    from isra_keras.analysis import run_data, sections

    def load(folder, *rest):
        part = SimpleNamespace(
            domain=Domain("photos", ("a", "b"), np.zeros(3, "int32"), paths=list("xyz")), indices=np.arange(3), labels=np.zeros(3)
        )
        return SimpleNamespace(folder=Path(folder), name=Path(folder).name, class_names=["a", "b"], source=part, target=part, info={},
                               shared_by=lambda: "By labels.")  # fmt: skip

    def named(*folders):
        words = [word for folder in folders[1:] for word in ("--against", folder)]
        analyze.analyze(analyze.build_parser().parse_args([folders[0], *words, "--only", "classes"]), tmp_path)
        return seen

    seen = []
    monkeypatch.setattr(run_data, "load_run_data", load)
    monkeypatch.setitem(sections.WRITERS, "classes", lambda report, run, others, *rest: seen.__setitem__(
        slice(None), [one.name for one in (run, *others)]))  # fmt: skip
    assert named("isra/seed0", "isra/seed1") == ["seed0", "seed1"]
    assert named("isra/seed0", "ba3us/seed0", "ba3us/seed1") == ["isra/seed0", "ba3us/seed0", "ba3us/seed1"]
    text = (tmp_path / "report.html").read_text()
    assert "Against ba3us/seed0, ba3us/seed1." in text and "<p>By labels.</p>" in text
    assert named("isra/seed0", "isra/seed0") == ["seed0", "seed0"]  # the same run


def test_the_command_that_makes_the_report_again_is_whole():
    given = ["run", "--out", "there", "--batch-size", "8", "--only", "topics", "--seed", "3"]
    words = analyze.command(analyze.build_parser().parse_args(given)).split()
    assert vars(analyze.build_parser().parse_args(words[3:])) == vars(analyze.build_parser().parse_args(given))
