"""Lines of finished cells for the tests: accuracies and scores as wished, no training."""

from isra_keras.benchmarking.grid import Cell, as_given


def line(task="A-C", method="ba3us", isra="off", seed=0, accuracies=(0.5, 0.6), entropies=(0.5, 0.4), agreements=None,
         dataset="pacs_features", given=None, stages=None):  # fmt: skip
    """One line; the checkpoint with the lowest entropy is the selected one."""
    count, chosen = len(accuracies), min(range(len(entropies)), key=lambda index: entropies[index])
    steps = [10 * (index + 1) for index in range(count)]
    best = max(range(count), key=lambda index: accuracies[index])
    cell = Cell(dataset, task, method, isra, seed, as_given(given or {}))
    return {
        "format": 1,
        "cell": cell.to_dict(),
        "status": "done",
        "config": {"backbone": "features", "iterations": steps[-1], "select": "mean_entropy"},
        "commit": "abc1234",
        "selected": {"step": steps[chosen], "accuracy": accuracies[chosen]},
        "last": {"step": steps[-1], "accuracy": accuracies[-1]},
        "oracle": {"step": steps[best], "accuracy": accuracies[best]},
        "evaluations": {
            "step": steps,
            "stage": list(stages or ["adapt"] * count),
            "oracle_accuracy": list(accuracies),
            "scores": {"mean_entropy": list(entropies), "snd": [0.1 * step for step in steps]},
            "signals": {"agreement": list(agreements or [0.9] * count)},
        },
        "seconds": 3.0,
        "steps_per_second": 100.0,
        "evaluation_seconds": 1.0,
        "peak_memory_mb": 900,
        "threads": 1,
        "device": "CPU",
        "versions": {"tensorflow": "2", "keras": "3"},
    }


def failed(reason="ValueError: too | bad", **more):
    """The line of a failed cell."""
    return {"format": 1, "cell": line(**more)["cell"], "status": "failed", "reason": reason, "commit": None}
