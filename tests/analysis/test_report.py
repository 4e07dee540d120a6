"""The report of a run: what it says, with labels and without, and that its figures don't overlap."""

import json

import numpy as np
import pytest

from isra_keras.analysis import report, style
from isra_keras.objective import Evaluation

NAMES = [f"class_{i:02d}" for i in range(65)]


def arrays(classes, shared, rows=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % shared
    logits = rng.normal(size=(rows, classes))
    logits[np.arange(rows), labels] += 6
    return {"features": rng.normal(size=(rows, 4)), "logits": logits}, labels


def weights_of(shared, classes):
    weights = np.where(np.arange(classes) < shared, 1.0, 0.01)
    return weights / weights.sum()


def test_report_with_labels(tmp_path):
    evaluation, labels = arrays(65, 25)
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"kind": "train", "step": 0, "loss": 1.0}) + "\n")
    path = report.write_report(tmp_path, Evaluation(**evaluation), labels, NAMES, weights_of(25, 65))
    text = path.read_text()
    assert path == tmp_path / "report" / "report.md"
    files = {"report.md", "confusion.png", "curves.png", "class_weights.png"}
    assert {p.name for p in path.parent.iterdir()} == files
    assert "25 of 65 classes, by the method's class weights" in text and report.RULE in text
    assert "25 of 25 present classes found; missed: none; taken although absent: none" in text
    expected = np.mean(evaluation["logits"].argmax(1) == labels)
    assert f"| accuracy | {100 * expected:.2f} % |" in text and "| class_24 | 12 |" in text


def test_report_without_labels_or_weights(tmp_path):
    evaluation, labels = arrays(10, 4)
    report.write_report(tmp_path, evaluation, labels, NAMES[:10])
    path = report.write_report(tmp_path, evaluation, np.full(300, -1), NAMES[:10])
    text = path.read_text()
    assert "unknown: the target has no labels" in text and "mean of its predictions" in text
    assert "4 of 10 classes" in text and "No metrics were recorded" in text
    assert "confusion" not in text and not (tmp_path / "report" / "confusion.png").exists()


def test_names_cannot_break_the_table(tmp_path):
    evaluation, labels = arrays(2, 2)
    text = report.write_report(tmp_path, evaluation, labels, ["a|b", "line\nbreak"]).read_text()
    assert "| a\\|b | 150 |" in text and "| line break | 150 |" in text


def test_markdown_shows_names_as_they_are(tmp_path):
    """A class <b> was not there to see, *star* lost its stars, _junk_ its underscores."""
    evaluation, labels = arrays(4, 4)
    names = ["<b>", "*star*", "_junk_", "fine_name"]
    text = report.write_report(tmp_path, evaluation, labels, names, weights_of(4, 4), title="a <run>").read_text()
    assert text.startswith("# a \\<run\\>\n")
    for shown in ("\\<b\\>", "\\*star\\*", "\\_junk\\_", "fine_name"):
        assert f"| {shown} | 75 |" in text and f"{shown} (0.2500)" in text


def test_refuses_what_does_not_fit(tmp_path):
    evaluation, labels = arrays(10, 4)
    with pytest.raises(ValueError, match="one column a class"):
        report.write_report(tmp_path, evaluation, labels, NAMES)
    with pytest.raises(ValueError, match="labels"):
        report.write_report(tmp_path, evaluation, labels[:5], NAMES[:10])
    with pytest.raises(ValueError, match="class weights"):
        report.write_report(tmp_path, evaluation, labels, NAMES[:10], [1.0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("classes", [5, 36, 65])
def test_tick_labels_do_not_overlap(classes, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(style, "save", lambda made, path: seen.append(_overlaps(made)))
    evaluation, labels = arrays(classes, classes)
    names = [f"quite_a_long_name_{i}" for i in range(classes)]
    report.plot_class_weights(weights_of(classes // 2, classes), names, tmp_path / "w.png")
    from isra_keras.analysis.per_class import confusion

    report.plot_confusion(confusion(labels, evaluation["logits"].argmax(1), classes), names, tmp_path / "c.png")
    assert seen == [0, 0]


def _overlaps(made):
    """Neighbouring tick labels of the first axes whose boxes overlap."""
    made.canvas.draw()
    axis = made.axes[0]
    count = 0
    for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels if label.get_text()]
        count += sum(a.overlaps(b) for a, b in zip(boxes, boxes[1:]))
    return count


def test_names_that_look_like_formulas(tmp_path):
    """Price levels are called so; matplotlib would typeset them, or end the run."""
    names = ["$", "$$", "$_$", "a$b#c$", "$10_$20 bills"]
    report.plot_class_weights(weights_of(2, 5), names, tmp_path / "w.png")
    assert (tmp_path / "w.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([3.0, 2.0, 2.5], {"judged shared": style.BLUE}),
     ([3.0, 2.0, 0.1], {"judged shared": style.BLUE, "judged absent": style.GREY})],
)  # fmt: skip
def test_the_legend_has_the_colours_of_the_bars(weights, expected, tmp_path, monkeypatch):
    """Where no class was judged absent it said so in blue, the colour of the shared ones."""
    from matplotlib.colors import to_hex

    seen = {}

    def look(made, path):
        legend = made.axes[0].get_legend()
        for handle, text in zip(legend.legend_handles, legend.get_texts()):
            if text.get_text().startswith("judged"):
                seen[text.get_text()] = to_hex(handle.get_facecolor()).upper()

    monkeypatch.setattr(style, "save", look)
    report.plot_class_weights(np.array(weights), ["a", "b", "c"], tmp_path / "w.png")
    assert seen == expected
