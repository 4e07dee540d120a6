"""Several runs that vote: the network, and predict and evaluate with it."""

import csv
import json

import keras
import numpy as np
import pytest

from isra_keras import cli, evaluate, predict
from isra_keras.committee import _different, load_committee
from isra_keras.errors import UserError
from tests.small_run import NAMES, colour_image, make_run


def biased_run(folder, bias, **given):
    """A run of `make_run` whose logits have this added."""
    make_run(folder, **{"image_size": 32} | given)
    network = keras.models.load_model(folder / "model.keras", compile=False)
    layer = network.get_layer("classifier")
    layer.set_weights([layer.get_weights()[0], np.asarray(bias, "float32")])
    network.save(folder / "model.keras")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One that is right, one that says blue whatever it sees, one that says green."""
    folder = tmp_path_factory.mktemp("runs")
    return [biased_run(folder / str(number), bias) for number, bias in
            enumerate(([0, 0, 0], [50, 0, 0], [0, 50, 0]))]  # fmt: skip


def red(count=2):
    images = np.zeros((count, 32, 32, 3), "float32")
    images[..., 0] = 200
    return images


def test_most_votes_win_and_shares_are_the_probability(runs, tmp_path):
    right = [runs[0], biased_run(tmp_path / "right", [0.5, 0, 0])]
    network, info = load_committee([*right, runs[1]])
    outputs = network.predict_on_batch(red())
    found = keras.ops.convert_to_numpy(keras.ops.softmax(outputs["logits"]))
    assert found.argmax(axis=1).tolist() == [2, 2] and info["class_names"] == NAMES
    mean = np.mean([keras.ops.softmax(predict.load_run(one)[0](red())["logits"]) for one in (*right, runs[1])], axis=0)
    assert found == pytest.approx((np.array([1, 0, 2]) + mean) / 4, abs=1e-5)
    assert outputs["features"].shape == (2, 9)


def test_own_probabilities_break_a_tie(runs):
    network, _ = load_committee(runs)
    mean = np.mean([keras.ops.softmax(predict.load_run(one)[0](red())["logits"]) for one in runs], axis=0)
    assert network.predict_on_batch(red())["logits"].argmax(axis=1).tolist() == mean.argmax(axis=1).tolist()


def test_a_tie_goes_to_the_class_that_stands_best_on_the_target(runs, tmp_path):
    """The rule that RESULTS.md measures: the classes' votes over all rows, here of the members' model.json."""
    members = []
    for number, counts in enumerate(([0, 5, 1], [1, 4, 1])):
        folder = biased_run(tmp_path / str(number), ([0, 0, 50], [0, 60, 0])[number])
        info = json.loads((folder / "model.json").read_text())
        info["predicted"] = counts
        (folder / "model.json").write_text(json.dumps(info))
        members.append(folder)
    network, _ = load_committee(members)
    found = keras.ops.convert_to_numpy(keras.ops.softmax(network.predict_on_batch(red(1))["logits"]))[0]
    assert found.argmax() == 1 and found.sum() == pytest.approx(1.0, abs=1e-5) and found[1] >= found[2] > found[0]
    info["predicted"] = [1, 0, 9]
    (members[1] / "model.json").write_text(json.dumps(info))
    assert load_committee(members)[0].predict_on_batch(red(1))["logits"][0].argmax() == 2
    network, _ = load_committee([*members, runs[1], biased_run(tmp_path / "3", [50, 0, 0])])
    assert network.standing is None, "runs that do not tell"


def test_at_odds_the_source_only_run_decides(runs, tmp_path):
    """As `selection.committee.vote` has it, which RESULTS.md measures; with two of three, the majority does."""
    source = biased_run(tmp_path / "source", [0, 55, 0], method="source_only")
    network, _ = load_committee([runs[0], runs[1], source])
    found = keras.ops.convert_to_numpy(keras.ops.softmax(network.predict_on_batch(red(1))["logits"]))[0]
    assert network.steady == (2,) and found.argmax() == 1 and found.sum() == pytest.approx(1.0, abs=1e-5)
    network, _ = load_committee([runs[0], biased_run(tmp_path / "right", [0.5, 0, 0]), source])
    assert network.predict_on_batch(red(1))["logits"][0].argmax() == 2
    assert load_committee([runs[0], runs[1]])[0].steady == ()
    mild, sure = (biased_run(tmp_path / str(number), bias, method="source_only") for number, bias in enumerate(([0, 9, 0], [0, 0, 50])))
    for order in ([mild, sure, runs[1]], [runs[1], mild, sure], [sure, runs[1], mild]):  # of two the mean of their probabilities
        assert load_committee(order)[0].predict_on_batch(red(1))["logits"][0].argmax() == 2, "in any order"


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_ties_end_as_they_were_measured(seed):
    from isra_keras.committee import _led_by_standing
    from isra_keras.selection.committee import vote

    draw = np.random.default_rng(seed)
    classes = draw.integers(0, 5, (4, 60))
    counts = np.stack([(classes == name).sum(axis=0) for name in range(5)], axis=1).astype("float32")
    standing = np.bincount(classes.ravel(), minlength=5).astype("float32")
    assert len(set(standing)) == 5
    found = keras.ops.convert_to_numpy(_led_by_standing((counts + draw.dirichlet(np.ones(5), 60)) / 5, counts, standing))
    assert found.argmax(axis=1).tolist() == vote(classes)[0].tolist() and found.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_single_run_is_itself(runs):
    assert load_committee(runs[:1])[0].name == "network"


def test_predict_with_others(runs, tmp_path):
    photo, out = colour_image(tmp_path / "photo.png", "red"), tmp_path / "rows.csv"
    right = biased_run(tmp_path / "right", [0.5, 0, 0])
    arguments = [str(runs[1]), "--with", str(runs[0]), "--with", str(right), str(photo), "--out", str(out)]
    assert cli.run(predict.main, arguments) == 0
    with open(out, newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["class"] == "red" and 0.5 < float(row["probability"]) < 0.8


def test_evaluate_with_others(runs, tmp_path, capsys):
    for name in NAMES:
        for index in range(2):
            colour_image(tmp_path / "data" / name / f"{index}.png", name)
    (runs[1] / "config.json").write_text(
        json.dumps({"source_dir": str(tmp_path / "data"), "target_dir": str(tmp_path / "data")})
    )
    right = biased_run(tmp_path / "right", [0.5, 0, 0])
    arguments = [str(runs[1]), "--with", str(runs[0]), "--with", str(right), "--json"]
    assert cli.run(evaluate.main, arguments) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0
    assert cli.run(evaluate.main, [*arguments, "--report"]) != 0 and "--report of one run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given, said",
    [({"size": 64}, "take the same input"), ({"class_names": ["a", "b", "c"]}, "same class names"),
     ({"image_size": 40}, "same image size")],
)  # fmt: skip
def test_runs_that_do_not_fit_together(runs, tmp_path, given, said):
    other = make_run(tmp_path / "other", **{"image_size": 32} | given)
    with pytest.raises(UserError, match=said):
        load_committee([runs[0], other])


def test_runs_of_the_same_size_vote_whether_it_is_written_down_or_not(runs, tmp_path):
    """Runs on stored images held no size at first."""
    older = make_run(tmp_path / "older", image_size=None)
    assert load_committee([runs[0], older])[1]["image_size"] == 32
    with pytest.raises(UserError, match="same image size; .* has 32, .* 40"):
        load_committee([older, make_run(tmp_path / "other", image_size=40)])


def test_the_same_run_twice(runs):
    with pytest.raises(UserError, match="every run once"):
        load_committee([runs[0], runs[0]])
    with pytest.raises(UserError, match="every run once"):
        load_committee([runs[0], runs[0] / "model.keras"])


def test_long_lists_of_classes_are_told_apart_where_they_differ():
    names = [f"class {number}" for number in range(40)]
    described = _different(names, [*names[:38], "other", "class 39"])
    assert described == (["class 38", "class 39"], ["other", "class 39"])
    assert _different(names, names[:39]) == (["class 39"], "no more")


def test_runs_on_features_vote_too(tmp_path, monkeypatch):
    """And their rows are gone on with by the same runs only, in whichever order they are named, counted in the same way."""
    made = [biased_run(tmp_path / name, bias, kind="features", image_size=None)
            for name, bias in (("a", [0, 0, 0]), ("b", [0.5, 0, 0]), ("c", [50, 0, 0]))]  # fmt: skip
    np.save(tmp_path / "rows.npy", np.eye(3, dtype="float32") * 255)
    out = tmp_path / "out.csv"

    def predicted(first, *others, more=()):
        named = [word for other in others for word in ("--with", str(other))]
        return cli.run(predict.main, [str(first), *named, str(tmp_path / "rows.npy"), "--out", str(out), *more])

    assert predicted(*made) == 0
    with open(out, newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["red", "green", "blue"]
    assert predicted(*made[::-1], more=["--resume"]) == 0 and predicted(made[0], more=["--resume"]) == 2
    monkeypatch.setattr(predict, "VOTES", 1)
    assert predicted(*made, more=["--resume"]) == 2
