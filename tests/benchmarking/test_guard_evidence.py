"""What the guard of `train` would have kept, from lines alone."""

import pytest

from isra_keras.benchmarking.guard_evidence import guard_table, guarded_pick
from isra_keras.benchmarking.report import build_report
from isra_keras.benchmarking.statistics import runs_of
from tests.benchmarking.lines import line

ACCURACIES, ENTROPIES = (0.4, 0.5, 0.6, 0.1), (0.1, 0.6, 0.5, 0.2)


def fresh(agreements=(1.0, 0.6, 0.3, 0.05), knows=0.9, backbone="small_cnn", method="dann", **more):
    """A network from nothing: two evaluations of its warm-up, then two of the adaptation, of which the last is surest."""
    entry = line(method=method, accuracies=ACCURACIES, entropies=ENTROPIES, agreements=agreements,
                 stages=["warmup", "warmup", "adapt", "adapt"], **more)  # fmt: skip
    entry["config"] |= {"backbone": backbone, "weights": "none" if backbone == "small_cnn" else "imagenet"}
    entry["evaluations"]["scores"]["source_accuracy"] = [0.1, knows, 0.2, 0.2]
    entry["selected"] = {"step": 40, "accuracy": 0.1}
    return entry


@pytest.mark.parametrize("given, expected", [
    ({}, (0.6, False)),  # 0.3 is sound at a fifth of the limits, 0.05 is not
    ({"backbone": "mobilenet_v2"}, (0.5, True)),  # at the whole limits none is: the last before adaptation
    ({"agreements": (1.0, 1.0, 0.05, 0.05)}, (0.5, True)),
    ({"agreements": (1.0, 1.0, 0.9, 0.9)}, (0.1, False)),  # both sound: the surest, as without a guard
    ({"knows": 0.4}, None),
    ({"knows": 0.4, "backbone": "mobilenet_v2", "agreements": (1, 1, 1, 1)}, (0.1, False)),
])  # fmt: skip
def test_what_is_kept(given, expected):
    (run,) = runs_of([fresh(**given)])
    assert guarded_pick(run) == expected


def test_table_has_gain_and_loss_and_only_runs_with_a_refuge():
    lines = [fresh(), fresh(task="A-P", agreements=(1.0, 1.0, 0.05, 0.05)), fresh(method="cdan"), line(method="source_only")]
    rows = {row[0]: row for row in guard_table(runs_of(lines), "t").rows}
    assert set(rows) == {"DANN", "CDAN+E", "all"} and rows["DANN"][1:3] == ["2", "1"]
    assert rows["DANN"][4].mean == pytest.approx(55) and rows["DANN"][5].mean == pytest.approx(50)
    assert rows["DANN"][6].mean == pytest.approx(40) and rows["all"][1] == "3"
    assert "What the guard of `train` would have kept" in build_report(lines)[0]
    assert "guard of `train`" not in build_report([line()])[0], "features have another reference there"


@pytest.mark.parametrize("config", [{"guard": True}, {"freeze_backbone": True}, {"guard": False, "reference_quirks": True}])
def test_only_runs_without_the_guard_that_train_would_have_guarded(config):
    """A user's own runs stood there as picked without a guard; features of a frozen backbone are held to another reference."""
    kept, left = fresh(), fresh(method="cdan")
    left["config"] |= config
    assert [row[0] for row in guard_table(runs_of([kept, left]), "t").rows] == ["DANN"]


def test_source_only_is_not_guarded():
    assert not guard_table(runs_of([fresh(method="source_only")]), "t").rows


def test_selection_under_the_guard_is_told():
    entry = fresh(dataset="folders", task="a-b")
    entry["config"]["guard"] = True
    told = "of the evaluations that do not look collapsed, or the model from before adaptation"
    text = build_report([entry])[0]
    assert told in text and "train without the guard" not in text
    assert told not in build_report([fresh()])[0]
