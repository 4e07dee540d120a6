"""How far label-free scores can be trusted: known answers."""

import pytest

from isra_keras.benchmarking.evidence import LAST, between_methods, candidates_of, evidence_table, labelled, within_runs
from isra_keras.benchmarking.statistics import runs_of
from tests.benchmarking.lines import line


def test_within_a_run():
    found = within_runs(runs_of([line(accuracies=(0.5, 0.7, 0.6), entropies=(0.9, 0.1, 0.2))]))
    assert found["mean_entropy"] == {"correlation": pytest.approx(1.0), "correlated": 1, "accuracy": 0.7, "gap": 0.0}
    assert found["snd"]["correlation"] == pytest.approx(0.5)  # rises with the step
    assert found["snd"]["accuracy"] == 0.6 and found["snd"]["gap"] == pytest.approx(0.1)
    assert found[LAST]["accuracy"] == 0.6 and found[LAST]["correlation"] is None
    assert "ensemble" in found and "bnm" not in found


def test_a_run_that_does_not_vary_has_no_correlation():
    found = within_runs(runs_of([line(accuracies=(0.5, 0.5, 0.5), entropies=(0.9, 0.1, 0.2))]))
    assert found["mean_entropy"]["correlated"] == 0 and found["mean_entropy"]["correlation"] is None


def test_between_methods():
    lines = [
        line(method="source_only", accuracies=(0.6, 0.62), entropies=(0.5, 0.4)),
        line(accuracies=(0.3, 0.2), entropies=(0.3, 0.05)),  # confident and wrong
        line(isra="paper", accuracies=(0.8, 0.7), entropies=(0.2, 0.3)),
    ]
    found = between_methods(runs_of(lines))["mean_entropy"]
    # picked checkpoints: entropies 0.4, 0.05, 0.2; accuracies 0.62, 0.2, 0.8 -> ranks of -entropy 1, 3, 2 and 2, 1, 3
    assert (
        found["correlation"] == pytest.approx(-0.5) and found["accuracy"] == 0.2 and found["gap"] == pytest.approx(0.6)
    )
    assert between_methods(runs_of(lines[:1])) == {}


def test_source_only_on_images_is_not_held_to_its_own_beginning():
    """Its first evaluation was its reference: 1.0 for what had learned nothing, less for what learned on."""
    for backbone, there in (("features", True), ("mobilenet_v2", False)):
        for method, isra in (("source_only", "off"), ("source_only", "paper"), ("dann", "off")):
            entry = line(method=method, isra=isra)
            entry["config"] |= {"backbone": backbone, "weights": "imagenet"}
            entry["evaluations"]["signals"]["confident_agreement"] = [1.0, 0.9]
            (run,) = runs_of([entry])
            found = [one.signals.get("confident_agreement") for one in candidates_of(run)]
            assert found == ([1.0, 0.9] if there or (method, isra) != ("source_only", "off") else [None, None])


def test_frozen_features_of_a_data_set_have_the_same_reference_for_all():
    for dataset, there in (("office_home", True), ("folders", False)):
        entry = line("Ar-Cl", method="source_only", dataset=dataset)
        entry["config"] |= {"backbone": "resnet50", "weights": "imagenet", "freeze_backbone": True}
        entry["evaluations"]["signals"]["confident_agreement"] = [0.9, 0.9]
        assert ("confident_agreement" in candidates_of(runs_of([entry])[0])[0].signals) == there


def test_unlabelled_runs_are_left_out_and_the_table_has_all_scores():
    unlabelled = line(seed=1)
    unlabelled["evaluations"]["oracle_accuracy"] = [None, None]
    runs = labelled(runs_of([line(), unlabelled]))
    assert [run.cell.seed for run in runs] == [0]
    rows = evidence_table(within_runs(runs), "t", "n").rows
    assert [row[0] for row in rows] == ["mean entropy", "snd", "ensemble", "last evaluation"]
