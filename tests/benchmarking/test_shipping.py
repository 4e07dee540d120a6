"""What would be shipped: the guard, the fallback, the distance from the oracle."""

import pytest

from isra_keras.benchmarking.choosing import describe_choices
from isra_keras.benchmarking.report_parts import failures_of
from isra_keras.benchmarking.shipping import complete, deliveries, rules_table, summary_table
from isra_keras.benchmarking.statistics import runs_of
from isra_keras.errors import UserError
from tests.benchmarking.lines import failed, line


def collapsed_task():
    return [
        line(method="source_only", accuracies=(0.5, 0.6), entropies=(0.5, 0.4)),
        line(accuracies=(0.3, 0.0), entropies=(0.2, 0.01), agreements=(0.3, 0.0)),
        line(isra="paper", accuracies=(0.65, 0.1), entropies=(0.3, 0.02), agreements=(0.8, 0.1)),
    ]


def test_guard_against_collapse():
    (one,) = deliveries(runs_of(collapsed_task()), "mean_entropy")
    assert one.shipped.candidate.name == "ba3us + ISRA (paper)" and one.accuracy == 0.65
    assert one.source_only["last"] == 0.6 and one.oracle == 0.65 and len(one.shipped.rejected) == 3
    (bare,) = deliveries(runs_of(collapsed_task()), "mean_entropy", guard=False)
    assert bare.accuracy == 0.0


def test_source_only_where_all_else_collapsed():
    (one,) = deliveries(runs_of(collapsed_task()[:2]), "mean_entropy")
    assert one.shipped.candidate.source_only and one.accuracy == 0.6
    assert "every adapted model looks collapsed" in one.shipped.reason


def test_summary_compares_like_with_like():
    runs = runs_of([*collapsed_task(), line(task="A-P", accuracies=(1.0, 1.0))])
    assert len(complete(runs)) == 3
    rows = {row[0]: row for row in summary_table(runs, "t", "mean_entropy").rows}
    assert rows["BA3US"][1].mean == 0.0 and rows["BA3US"][2].mean == pytest.approx(-60.0) and rows["BA3US"][3] == "1"
    assert rows["Shipped (mean_entropy)"][1].mean == 65.0 and rows["Shipped (mean_entropy)"][3] == "0"
    assert not any("oracle" in name.lower() for name in rows), "no upper bound in a column of label-free results"


def test_a_failed_cell_costs_the_others_nothing():
    more = [line(task="A-P", accuracies=(0.5, 0.5)), line(task="A-P", method="source_only", accuracies=(0.9, 0.5))]
    lines = [*collapsed_task(), *more, failed(task="A-P", isra="paper"), failed(task="A-S", isra="paper")]
    gone = failures_of(lines, runs_of(lines))
    assert {run.place for run in complete(runs_of(lines), gone)} == {("A-C", 0), ("A-P", 0)}
    rows = {row[0]: row for row in summary_table(runs_of(lines), "t", "mean_entropy", gone).rows}
    assert rows["BA3US"][1].mean == 25.0 and rows["BA3US + ISRA (paper) (1 of 2 pairs, the others failed)"][5] == "1"
    assert "2 pairs" in summary_table(runs_of(lines), "t", "mean_entropy", gone).note


def test_rules_with_and_without_the_guard():
    rows = {row[0]: row[1:] for row in rules_table(runs_of(collapsed_task()), "t").rows}
    guarded, bare = rows["mean entropy, guarded"], rows["mean entropy"]
    assert guarded[0].mean == 65.0 and guarded[1].mean == pytest.approx(0.0) and guarded[3] == "0"
    assert bare[0].mean == 0.0 and bare[1].mean == pytest.approx(65.0) and bare[2].mean == pytest.approx(-60.0)
    assert len(rows) == 2 * 3


def test_text_of_the_choice():
    text = describe_choices(collapsed_task())
    assert "| A-C, seed 0 | " in text and "pacs_features: what would be shipped" in text
    blind = [line(method="source_only"), line()]
    for entry in blind:
        entry["evaluations"]["oracle_accuracy"] = [None, None]
    assert "A-C, seed 0: " in describe_choices(blind)
    with pytest.raises(UserError, match="none"):
        describe_choices([failed()])
