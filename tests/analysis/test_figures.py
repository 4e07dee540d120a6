"""The maths behind the figures of `analyze`, and that figures with 65 long names can be drawn."""

import numpy as np
import pytest

from isra_keras.analysis import comparison, embedding, similarity, topics
from isra_keras.analysis.html_report import HtmlReport

NAMES65 = [f"A_rather_long_class_name_{index}" for index in range(65)]


def rng(seed=0):
    return np.random.default_rng(seed)


def test_aligned_undoes_turn_and_mirror():
    points = rng().normal(size=(40, 2))
    turn = np.array([[np.cos(2), -np.sin(2)], [-np.sin(2), -np.cos(2)]])  # with a mirror
    moved = embedding.aligned(points @ turn + [3, -1], points)
    np.testing.assert_allclose(moved, points - points.mean(axis=0), atol=1e-5)


def test_embedding_keeps_clusters_and_starts_from_a_layout():
    features = np.repeat(np.eye(3), 12, axis=0) + 0.01 * rng().normal(size=(36, 3))
    points = embedding.embed(features)
    centres = points.reshape(3, 12, 2).mean(axis=1)
    spread = np.linalg.norm(points.reshape(3, 12, 2) - centres[:, None], axis=-1).max()
    apart = min(np.linalg.norm(centres[a] - centres[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert apart > 2 * spread
    again = embedding.embed(features, points)
    assert again.shape == (36, 2) and np.isfinite(again).all()


def test_the_panels_claim_nothing_of_a_target_without_labels(monkeypatch, tmp_path):
    """Classes that the run judged absent were "not in the target"."""
    from isra_keras.analysis import style

    seen = []
    monkeypatch.setattr(style, "save_both", lambda made, path: seen.extend(t.get_text() for t in made.legends[0].get_texts()))
    panel = ("run", rng().normal(size=(6, 2)), np.arange(6) > 3, np.arange(6) % 2)
    embedding.plot_embeddings([panel], np.array([True, False]), tmp_path / "e.png")
    assert seen == ["source, class not shared", "source, shared class", "target"]


def test_separation_counts_the_nearest():
    features = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 0.05], [0.05, 1], [0, 2]], "float32")
    is_target = np.array([False] * 4 + [True] * 3)
    found = embedding.separation(features, is_target, np.array([0, 0, 1, 1, 0, 0, 0]), np.array([True, False]))
    assert found["nearest_is_shared"] == pytest.approx(1 / 3) and found["silhouette"] > 0.8


def test_category_similarity_of_the_same_domain_is_one_on_the_diagonal():
    features, labels = rng().normal(size=(60, 5)) + 3, np.repeat(np.arange(3), 20)
    means = similarity.class_means(features, labels, 4)
    assert np.isnan(means[3]).all()
    table = similarity.category_similarity(means, means)
    np.testing.assert_allclose(np.diag(table)[:3], 1, rtol=1e-6)
    assert np.nanmax(np.abs(table)) <= 1 + 1e-9 and np.isnan(table[3]).all()


def test_a_class_that_is_judged_absent_is_not_compared_with_itself(monkeypatch, tmp_path):
    """Without labels, one image in a class that is not shared was a class whose own one is never nearer."""
    from types import SimpleNamespace

    from isra_keras.analysis import sections

    monkeypatch.setattr(similarity, "plot_similarity", lambda *given: None)
    predictions, said = np.array([0] * 10 + [1] * 10 + [2]), []
    run = SimpleNamespace(
        source=SimpleNamespace(features=np.eye(4).repeat(5, axis=0), labels=np.arange(4).repeat(5)),
        target=SimpleNamespace(features=np.eye(4)[predictions], labels=np.full(21, -1)),
        predictions=predictions, class_names=list("abcd"), shared=lambda: np.arange(4) < 2,
    )  # fmt: skip
    report = SimpleNamespace(section=lambda *given: None, figure=lambda *given: None, paragraph=said.append)
    sections.category(report, run, [], tmp_path, 0)
    (text,) = said
    assert "source-only class -0.333" in text and "the own class is nearer for 2 of 2 classes" in text


def test_a_distance_of_equal_and_of_far_domains():
    first, second = rng(1).normal(size=(300, 4)), rng(2).normal(size=(300, 4))
    assert similarity.a_distance(first, second) < 0.4
    assert similarity.a_distance(first, second + 8) > 1.95


def test_improvement_and_pairs():
    labels = np.array([0, 0, 1, 1, 1, -1])
    here, there = np.array([0, 0, 1, 2, 2, 0]), np.array([0, 1, 1, 1, 1, 0])
    rows = comparison.improvement(labels, here, there, ["a", "b", "c"])
    assert rows[0] == ("a", 2, 1.0, 0.5, 0.5) and rows[1][4] == pytest.approx(1 / 3 - 1) and len(rows) == 2
    assert comparison.confused_pairs(labels, here, ["a", "b", "c"]) == [("b", "c", 2, pytest.approx(2 / 3))]
    logits = 4 * np.eye(3)[here] + np.array([0, 0, 0, 1, 9, 0])[:, None] * np.eye(3)[here]
    found = comparison.noteworthy(labels, logits)
    assert found["confidently wrong"].tolist() == [4, 3] and found["uncertain"][-1] == 4


def test_topics_of_one_class_are_found():
    labels = np.repeat(np.arange(4), 25)
    source = 0.1 * rng().normal(size=(100, 3)).astype("float32")
    source[labels == 2, 1] += 5
    source[:, 2] = 0
    rows = topics.topic_table(source, source[:10], labels, 5)
    assert rows[1]["classes"][0] == 2 and rows[1]["explained"] > 0.95 and rows[0]["explained"] < 0.2
    assert not rows[2]["active"] and rows[2]["explained"] == 0
    matrix = topics.topic_class_matrix(source, labels, 5)
    assert matrix[1].argmax() == 2 or np.nanargmax(matrix[1]) == 2
    assert np.isnan(matrix[:, 4]).all()


def test_noise_is_not_explained_by_many_classes_of_few_images():
    """By eta squared classes "explained" 20 % of nothing."""
    labels = np.repeat(np.arange(40), 5)
    rows = topics.topic_table(rng().normal(size=(200, 50)), rng().normal(size=(9, 50)), labels, 40)
    explained = np.array([row["explained"] for row in rows])
    assert explained.mean() < 0.04 and explained.min() == 0
    single = topics.topic_table(rng().normal(size=(4, 2)), rng().normal(size=(4, 2)), np.arange(4), 4)
    assert [row["explained"] for row in single] == [0, 0]


def test_sheet_of_topics_keeps_its_rows_where_the_target_has_two_images(monkeypatch, tmp_path):
    from types import SimpleNamespace

    from isra_keras.analysis import sections

    def part(count):
        return SimpleNamespace(
            responses=np.zeros((count, 3)), labels=np.zeros(count, int),
            images=lambda rows, info: np.full((len(rows), 8, 8, 3), count, "uint8"),
        )  # fmt: skip

    seen = {}
    monkeypatch.setattr(comparison, "contact_sheet", lambda *given: seen.update(images=given[0], captions=given[1]))
    run = SimpleNamespace(source=part(9), target=part(2), info={}, class_names=["a"])
    sections._top_images(SimpleNamespace(figure=lambda *given: None), run, [0, 2], tmp_path)
    assert seen["images"][:, 0, 0, 0].reshape(2, 8).tolist() == [[9, 9, 9, 9, 2, 2, 255, 255]] * 2
    assert seen["captions"] == (["a"] * 6 + [""] * 2) * 2


def test_figures_of_65_classes_have_no_overlapping_labels(tmp_path):
    """Every tick's label is apart from the next one's."""
    import matplotlib.figure

    table = rng().uniform(-1, 1, (65, 65))
    seen = {}
    original = matplotlib.figure.Figure.savefig

    def watched(figure, path, **kwargs):
        if str(path).endswith(".svg"):  # the same figure once more
            return original(figure, path, **kwargs)
        figure.canvas.draw()
        for number, axis in enumerate(figure.axes[:1]):
            for direction, ticks in (("x", axis.get_xticklabels()), ("y", axis.get_yticklabels())):
                boxes = [t.get_window_extent() for t in ticks if t.get_text()]
                seen[(number, direction)] = sum(a.overlaps(b) for a, b in zip(boxes, boxes[1:]))
        return original(figure, path, **kwargs)

    matplotlib.figure.Figure.savefig = watched
    try:
        similarity.plot_similarity(table, np.arange(65) < 25, NAMES65, tmp_path / "s.png")
        assert not any(seen.values()), seen
        topics.plot_topic_classes(table, np.arange(65) < 25, NAMES65, tmp_path / "t.png")
        assert not any(seen.values()), seen
        rows = [(name, 5, 0.5, 0.4, 0.1) for name in NAMES65]
        comparison.plot_improvement(rows, ("a", "b"), tmp_path / "i.png")
        assert not any(seen.values()), seen
    finally:
        matplotlib.figure.Figure.savefig = original
    assert {p.name for p in tmp_path.iterdir()} == {f"{n}.{e}" for n in "sti" for e in ("png", "svg")}


def test_numbers_below_the_topics_means_are_apart(monkeypatch, tmp_path):
    from isra_keras.analysis import style

    def look(made, path):
        made.canvas.draw()
        axis, low, high = made.axes[0], *made.axes[0].get_xlim()
        shown = [label for label, tick in zip(axis.get_xticklabels(), axis.get_xticks()) if low <= tick <= high]
        boxes = [label.get_window_extent() for label in shown]
        seen.append(min(b.x0 - a.x1 for a, b in zip(boxes, boxes[1:])))

    seen = []
    monkeypatch.setattr(style, "save_both", look)
    for low, high in ((-0.092, 0.086), (-2, 3), (0.9997, 1.0003), (-1e-5, 2e-5)):
        topics.plot_topic_domains([{"source_mean": mean, "target_mean": mean} for mean in (low, high)], tmp_path / "d.png")
    assert min(seen) > 4, seen


def test_html_is_one_file_and_takes_names_literally(tmp_path):
    from isra_keras.analysis import style

    with style.figure(1, 1) as (made, _):
        style.save(made, tmp_path / "f.png")
    report = HtmlReport("<script>x</script>", "python -m x")
    report.section("One & two")
    report.figure(tmp_path / "f.png", 'a "caption"')
    report.table(("a<b", "n"), [("<img src=x>", 3)])
    text = report.write(tmp_path / "r.html").read_text()
    assert "<script>" not in text and "<img src=x>" not in text and "data:image/png;base64," in text
    assert "http://" not in text and "https://" not in text and "python -m x" in text
