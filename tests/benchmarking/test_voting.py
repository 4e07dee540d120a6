"""Models of a target voting together, from lines alone."""

import numpy as np
import pytest

from isra_keras.benchmarking.report import build_report
from isra_keras.benchmarking.report_parts import failures_of
from isra_keras.benchmarking.statistics import runs_of
from isra_keras.benchmarking.votes import pack
from isra_keras.benchmarking.voting import _expected_by_lot, by_trust, elections, votes_by_target, voting_table
from tests.benchmarking.lines import failed, line

LABELS = np.array([0, 1, 2, 3])


def voted(classes, step=20, **more):
    """A line whose selected checkpoint gives these classes; without classes one without a sound evaluation."""
    return line(**more) | {"vote": None if classes is None else pack(step, classes, LABELS)}


def four_models():
    """The vote is right on three rows of four."""
    return [
        voted([0, 0, 2, 0], method="source_only", accuracies=(0.2, 0.25), entropies=(0.9, 0.8)),
        voted([0, 1, 0, 0], method="drcn", entropies=(0.4, 0.3)),
        voted([0, 1, 2, 0], method="afn", entropies=(0.4, 0.2)),
        voted([1, 1, 2, 0], method="ba3us", isra="paper", entropies=(0.4, 0.1)),
    ]


def test_vote_and_the_member_that_agrees_most():
    (one,) = elections(runs_of(four_models()))
    assert one.accuracy == 0.75 and one.source_only["last"] == 0.25
    assert one.standing[0].cell.method == "afn" and one.standing[1] == 0.75
    assert [run.cell.method for run in one.members] == ["ba3us", "afn", "drcn", "source_only"]


def test_tie_goes_to_the_more_trusted():
    runs = runs_of([voted([0, 1, 3, 2], method="afn", entropies=(0.9, 0.8)), voted([0, 1, 2, 3], method="drcn"),
                    voted(None, method="san")])  # fmt: skip
    assert [run.cell.method for run in by_trust(runs[:2])] == ["drcn", "afn"]
    (one,) = elections(runs)
    assert one.accuracy == 1.0 and len(one.members) == 2 and one.source_only is None


def test_what_drawing_lots_for_ties_is_expected_to_give():
    given = np.array([[0, 0, 1, 0], [0, 1, 2, 1], [1, 1, 3, 2], [1, 2, 3, 0]])
    right = given == np.array([1, 2, 3, 3])
    assert _expected_by_lot(given, right).tolist() == [0.5, 0.0, 1.0, 0.0]
    rows = [voted([0, 1, 3, 2], method="afn"), voted([0, 1, 2, 3], method="drcn"), voted([1, 1, 2, 3], method="san")]
    (one,) = elections(runs_of(rows[:2]))
    assert one.drawn == 0.75
    table = voting_table(runs_of(rows), "t").markdown()
    assert "| Vote, ties by lot | **100.00** |" in table and "`predict --with`" in table


def test_the_more_trusted_half_votes_and_source_only():
    """Nine may: five of them do, and source only, which is trusted least; at odds, its answer stays."""
    names = ("afn", "drcn", "san", "iwan", "cdan", "pada", "etn", "shot")
    given = ([0, 0, 2, 3], [0, 4, 2, 3], [0, 5, 1, 1], [2, 2, 0, 0], [4, 6, 5, 5], *[[3, 3, 3, 7]] * 3)
    rows = [voted(classes, method=name, entropies=(0.9, 0.1 * number)) for number, (name, classes) in enumerate(zip(names, given), 1)]
    rows.append(voted([3, 1, 2, 3], method="source_only", entropies=(0.9, 0.9)))
    for number, row in enumerate(rows):  # the entropy alone tells whom to trust
        row["evaluations"]["scores"] = {"mean_entropy": row["evaluations"]["scores"]["mean_entropy"]}
    (one,) = elections(runs_of(rows))
    assert [run.cell.method for run in one.members] == [*names[:5], "source_only"]
    assert one.accuracy == one.drawn == 1.0, "by three of six, and where six differ by source only's"
    (every,) = elections(runs_of(rows), every=True)
    assert len(every.members) == 9 and every.accuracy == 0.25
    table = {row[0]: row[1].mean for row in voting_table(runs_of(rows), "t").rows}
    assert table["Vote"] == 100.0 and table["Vote of all that look sound, most votes alone"] == 25.0


def test_own_photos_vote_elsewhere():
    """They may have changed between two runs: `--report` ended in a traceback, or mixed votes on different photos."""
    rows = [voted(classes, method=name, task="a-b", dataset="folders")
            for name, classes in (("afn", [0, 1, 2, 3]), ("drcn", [0, 1, 2, 3]), ("san", [0, 1, 2, 3]))]  # fmt: skip
    rows[0]["vote"] = pack(20, [0, 1], LABELS[:2])
    assert elections(runs_of(rows)) == [] and "voting together" not in build_report(rows)[0]


def test_trust_is_that_of_the_voting_checkpoint():
    early = voted([0, 0, 0, 0], step=10, method="afn", entropies=(0.5, 0.1))
    late = voted([1, 1, 1, 1], step=20, method="drcn", entropies=(0.5, 0.4))
    late["evaluations"]["scores"].pop("snd"), early["evaluations"]["scores"].pop("snd")
    assert [run.cell.method for run in by_trust(runs_of([early, late]))] == ["drcn", "afn"]


def test_lines_from_before_there_were_votes_do_not_vote():
    older = [line(method="drcn", isra="reference"), *(line(method=name, task="A-P") for name in ("drcn", "afn"))]
    runs = runs_of([*four_models(), *older])
    (one,) = elections(runs)
    assert one.accuracy == 0.75 and "of 4 models 4 to 4 vote" in voting_table(runs, "t").note
    late = runs_of([*four_models(), *older, voted([0, 1, 2, 3], method="san", task="A-P")])
    names = [{run.cell.method for run in one.members} for one in elections(late)]
    assert names == [{"source_only", "ba3us"}, {"san"}], "rows with gaps vote nowhere"


def test_table_compares_over_the_same_targets():
    lines = [*four_models(), failed(method="drcn", task="A-P", reason="NaN")]
    lines += [voted([0, 1, 2, 3], task="A-P", method=one["cell"]["method"], isra=one["cell"]["isra"], accuracies=(1.0, 1.0))
              for one in four_models() if one["cell"]["method"] != "drcn"]  # fmt: skip
    table = voting_table(runs_of(lines), "t")
    rows = {row[0]: row for row in table.rows}
    assert rows["Vote"][1].mean == 75.0 and "1 pairs" in table.note
    gone = {(("drcn", "off"), ("A-P", 0))}
    rows = {row[0]: row for row in voting_table(runs_of(lines), "t", gone).rows}
    assert rows["Vote"][1].mean == pytest.approx((75 + 100) / 2)
    assert rows["Vote of those without ISRA"][1].mean == pytest.approx((75 + 100) / 2)
    assert rows["Vote"][2].mean == 0.0 and rows["Vote"][3] == "0"
    assert "hindsight" in table.note and not any("hindsight" in row[0] for row in table.rows)
    assert [row[1] for row in votes_by_target(elections(runs_of(lines)), "t").rows] == ["4", "3"]


def test_the_vote_without_isra_is_held_against_its_own_targets():
    """Where no plain model has a vote, the others were paired with the targets that come after it; with none, a traceback."""
    names = (("drcn", "off"), ("drcn", "paper"), ("afn", "paper"))
    plain, *ours = (voted([1, 1, 1, 3], method=name, isra=isra) for name, isra in names)
    lines = [voted([0, 1, 2, 3], method="source_only", accuracies=(1.0, 1.0)), plain, *ours]
    silent = [failed(method="source_only", task="A-P")]
    lines += [voted(None if isra == "off" else [0, 1, 2, 3], method=name, isra=isra, task="A-P") for name, isra in names]
    lines += [voted([0, 0, 0, 0], method="source_only", task="A-S", accuracies=(0.9, 0.9))]
    lines += [voted([1, 1, 1, 3], method=name, isra=isra, task="A-S") for name, isra in names]
    gone = {(("source_only", "off"), ("A-P", 0))}
    rows = {row[0]: row for row in voting_table(runs_of(lines), "t", gone).rows}
    row = rows["Vote of those without ISRA, 2 of 3 pairs"]
    assert row[2].mean < -30 and row[3] != "0" and silent
    only = [voted([0, 1, 2, 3], method=name, isra="paper") for name in ("drcn", "afn", "san")]
    assert "Vote of those without ISRA" not in build_report(only)[0] and "Vote" in build_report(only)[0]


def test_a_network_from_nothing_votes_if_it_looks_sound_beside_the_finished_source_only_model():
    """Its warm-up is no reference; without one, runs that had gone astray outvoted the others."""
    lines = [voted([0, 1, 2, 3], method="source_only"), voted([0, 1, 2, 2], method="afn"), *(
        voted([7, 7, 7, 7], method=name) for name in ("dann", "drcn", "san", "iwan", "pada", "etn", "shot", "cdan"))]  # fmt: skip
    assert elections(runs_of(lines))[0].accuracy == 0.0, "features have signals of their own"
    for entry in lines:
        entry["config"] |= {"backbone": "small_cnn", "weights": "none"}
    (one,) = elections(runs_of(lines))
    assert {run.cell.method for run in one.members} == {"source_only", "afn"} and one.accuracy >= 0.75
    assert elections(runs_of(lines[1:]))[0].accuracy == 0.0, "nothing to be held to"
    weak = [voted([0, 2, 0, 0], method="source_only"), *(voted([0, 1, 2, 3], method=name) for name in ("afn", "san"))]
    for entry in weak:
        entry["config"] |= {"backbone": "small_cnn", "weights": "none"}
    assert elections(runs_of(weak))[0].accuracy == 1.0, "who is right agrees with it only where it is right"


def test_report_has_the_section_only_where_there_are_votes():
    assert "### Models voting together" in build_report(four_models())[0]
    assert "voting together" not in build_report([line(method=name) for name in ("source_only", "afn", "drcn")])[0]


def test_all_data_sets_together():
    more = [one | {"cell": one["cell"] | {"dataset": "office_caltech10_features", "task": "A-C"}} for one in four_models()[:3]]
    text, tables = build_report([*four_models(), *more])
    rows = {row[0]: row for row in tables[-1].rows}
    assert "## All data sets" in text and tables[-1].title == "all data sets: models voting together"
    assert rows["Vote"][1].mean == 75.0 and "2 pairs" in tables[-1].note
    assert rows["Source only"][1].mean == 25.0 and "BA3US + ISRA (paper)" not in rows, "it ran on one data set alone"
    assert "## All data sets" not in build_report(four_models())[0]


def test_the_best_single_model_is_one_of_those_that_finished_everywhere():
    """A method that failed where all have little was the best in hindsight."""
    lines = [voted([0, 1, 2, 3], method=name, task=task, accuracies=(value,), entropies=(0.1,), step=10)
             for name in ("source_only", "ba3us") for task, value in (("A-C", 0.9), ("A-P", 0.4))]  # fmt: skip
    lines += [voted([0, 1, 2, 3], method="drcn", accuracies=(0.9,), entropies=(0.1,), step=10), failed(task="A-P", method="drcn")]
    runs = runs_of(lines)
    note = voting_table(runs, "t", failures_of(lines, runs)).note
    assert "of 3 models 2 to 3 vote" in note and note.endswith("is Source only with 65.00.")
