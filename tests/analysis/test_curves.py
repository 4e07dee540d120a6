"""Reading metrics.jsonl and drawing it."""

import json

from isra_keras.analysis.curves import ORACLE_TITLE, plot_curves, read_history, series


def lines():
    train = [{"kind": "train", "step": s, "loss": 2.0 / (s + 1), "lr": 1e-3} for s in range(0, 100, 2)]
    evaluations = [
        {"kind": "eval", "step": s, "scores": {"snd": 5.0 + s}, "accuracy": 0.5, "mean_entropy": 1.0,
         "class_weights": [0.5, 0.5]}
        for s in (40, 80)
    ]  # fmt: skip
    return train + evaluations


def test_cut_off_and_foreign_lines_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, lines())) + '\n[1]\nnonsense\n{"kind": "train", "st')
    assert read_history(path) == lines()
    assert read_history(tmp_path / "none.jsonl") == []


def test_series_keeps_the_oracle_apart_and_the_last_of_equal_steps():
    again = {"kind": "train", "step": 4, "loss": 9.0, "lr": float("nan")}
    training, evaluation = series([*lines(), again])
    assert training["loss"][1][2] == 9.0 and training["loss"][0] == list(range(0, 100, 2))
    assert evaluation["snd"] == ([40, 80], [45.0, 85.0])
    assert evaluation[ORACLE_TITLE] == ([40, 80], [0.5, 0.5])
    assert "accuracy" not in evaluation and "class_weights" not in evaluation and "step" not in training


def test_plot(tmp_path):
    assert plot_curves(lines(), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert not plot_curves([], tmp_path / "none.png") and not (tmp_path / "none.png").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
