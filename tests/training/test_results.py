"""The three choices of a run side by side."""

from isra_keras.training.results import choices


def evaluation(step, stage, accuracy):
    return {"step": step, "stage": stage, "oracle_accuracy": accuracy, "scores": {}}


def test_the_upper_bound_is_not_below_the_model_that_the_guard_kept():
    """Where every evaluation of the adaptation collapsed, the label-free choice had more than its own upper bound."""
    history = [
        evaluation(1, "warmup", 0.7),
        evaluation(2, "warmup", 0.6),
        evaluation(3, "adapt", 0.2),
        evaluation(4, "adapt", 0.1),
    ]
    selected, last, oracle = choices(history, 2, "adapt")
    assert (selected.step, last.step, oracle.step) == (2, 4, 2), "what was not kept is no choice"
    assert choices(history, 4, "adapt")[2].step == 3
    equal = [evaluation(2, "warmup", 0.2), evaluation(3, "adapt", 0.2)]
    assert choices(equal, 2, "adapt")[2].step == 3
    assert choices([evaluation(1, "adapt", None)], 1, "adapt")[2] is None
