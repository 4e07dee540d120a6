"""Reading metrics.jsonl and drawing it."""

import json

import numpy as np

from isra_keras.analysis.curves import ORACLE_TITLE, moving_means, plot_curves, read_history, series, stage_borders


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
    of_a_run = series([{"kind": "eval", "step": 1, "scores": {"snd": 5.0}, "oracle_accuracy": 0.25}])[1]
    assert of_a_run == {"snd": ([1], [5.0]), ORACLE_TITLE: ([1], [0.25])}  # never in the colour of the label-free ones
    assert "accuracy" not in evaluation and "class_weights" not in evaluation and "step" not in training


def test_plot(tmp_path):
    assert plot_curves(lines(), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert not plot_curves([], tmp_path / "none.png") and not (tmp_path / "none.png").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_moving_means_stay_within_a_stage():
    """Across the border they drew a ramp of a learning rate that jumps."""
    steps = np.arange(200.0)
    history = [{"step": int(s), "stage": "warmup" if s <= 60 else "adapt"} for s in steps]
    borders = stage_borders(history)
    rate = np.where(steps <= 60, 1.0, 5.0 - 0.001 * steps)
    assert np.array_equal(moving_means(steps, rate, borders), [(steps, rate)])  # schedules are no noise, as they are
    rate[61:] += (-1) ** steps[61:]
    warm, adapt = moving_means(steps, rate, borders)
    assert np.array_equal(warm, (steps[:61], rate[:61])) and len(adapt[0]) == 139 - 9 and adapt[1].min() > 4.5
    noisy = np.where(steps <= 60, 1.0, 5.0) + 0.1 * (-1) ** steps
    warm, adapt = moving_means(steps, noisy, borders)
    assert np.allclose(warm[1], 1.0) and np.allclose(adapt[1], 5.0)
    assert warm[0][-1] <= 60 < adapt[0][0] and len(warm[0]) == 61 - 9 and len(adapt[0]) == 139 - 9
    (whole,) = moving_means(steps, noisy, [])
    assert len(whole[0]) == 191 and whole[1].max() <= 5.1
    short, rest = moving_means(steps, noisy, [9])  # shorter than two windows
    assert np.array_equal(short[1], noisy[:10]) and len(rest[0]) == 181
    assert [len(x) for x, _ in moving_means(steps, noisy, [-1, 300])] == [191]


def test_few_values_are_one_line():
    assert [list(x) for x, _ in moving_means(np.arange(3.0), np.array([1.0, 0.0, 1.0]), [0, 1])] == [[0, 1, 2]]


def test_labels_stay_in_the_picture_and_off_their_neighbours(tmp_path, monkeypatch):
    """The margins are given, not measured: small rates and large losses have the widest labels."""
    from isra_keras.analysis import curves, style

    found = []

    def look(made, path, dpi=150, tight=True):
        made.draw_without_rendering()
        axes = [axis for axis in made.axes if axis.get_visible()]
        boxes = [axis.get_position().transformed(made.transFigure) for axis in axes]
        for axis in axes:
            texts = [text for ticks, labels, (low, high) in (
                (axis.get_yticks(), axis.get_yticklabels(), axis.get_ylim()),
                (axis.get_xticks(), axis.get_xticklabels(), axis.get_xlim()),
            ) for tick, text in zip(ticks, labels) if low <= tick <= high] + [axis._left_title]  # fmt: skip
            for text in (text for text in texts if text.get_text()):
                box = text.get_window_extent()
                found.append(text.get_text())
                assert tight or (box.x0 >= 0 and box.y0 >= 0 and box.x1 <= made.bbox.x1 and box.y1 <= made.bbox.y1)
                others = [other for other, at in zip(boxes, axes) if at is not axis]
                assert not any(box.overlaps(other) for other in others), text.get_text()

    monkeypatch.setattr(style, "save", look)
    names = ("loss", "classification", "learning_rate", "receptors", "class2vec", "alignment", "adversarial", "target_entropy")
    scales = (123456.0, 1e-5, 2.215e-4, 1e7, -1e-7, -98765.0, 1.0, 1e-9)
    history = [{"kind": "train", "step": 100_000 + 1000 * step, "stage": "adapt"} | {n: s * (step + 1.5) for n, s in zip(names, scales)}
               for step in range(60)]  # fmt: skip
    for count in (1, 3, 8):
        assert curves.plot_curves([{k: v for k, v in line.items() if k not in names[count:]} for line in history], tmp_path / "a.png")
    assert any("e-06" in text for text in found) and any("e+08" in text for text in found)
