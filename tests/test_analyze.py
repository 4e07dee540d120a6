"""analyze: the whole report on a small run, with and without topics, labels and another run; errors."""

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


def test_runs_on_other_images_are_not_compared():
    """Of more images than --max-samples the same number is looked at, whichever they are."""

    def data(names, places=(0, 2), labels=(0, 1)):
        domain = Domain("photos", ("a", "b"), np.zeros(3, "int32"), paths=[f"photos/{name}" for name in names])
        return SimpleNamespace(domain=domain, indices=np.array(places), labels=np.array(labels))

    one = data("abc")
    assert analyze.same_samples(one, data("abc"))
    for other in (data("abd"), data("abc", places=(0, 1)), data("abc", labels=(0, 0))):
        assert not analyze.same_samples(one, other)


def test_the_command_that_makes_the_report_again_is_whole():
    given = ["run", "--out", "there", "--batch-size", "8", "--only", "topics", "--seed", "3"]
    words = analyze.command(analyze.build_parser().parse_args(given)).split()
    assert vars(analyze.build_parser().parse_args(words[3:])) == vars(analyze.build_parser().parse_args(given))
