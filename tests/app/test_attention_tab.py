"""The Attention tab's topics: which are said to drive a class, and how numbers are written."""

import gradio as gr
import numpy as np
import pytest

from app import pictures
from app.attention_tab import ALL, AttentionHandlers, driving_topics
from app.widgets import signed


def test_only_topics_that_speak_for_a_class_are_listed():
    drives = np.array([[2.0, -0.3, -0.0001], [0.5, 0.015, 0.0002], [0.01, 0.9, 0.0004], [-1.0, 0.03, -2e-9]])
    assert driving_topics(drives, 0).tolist() == [0, 1]
    assert driving_topics(drives, 1).tolist() == [2, 3]  # 0.015 is nothing beside 2.0
    assert driving_topics(drives, 2).tolist() == driving_topics(drives / 1e4, 0).tolist() == []
    assert driving_topics(np.zeros((0, 3)), 0).tolist() == []


@pytest.mark.parametrize("value, text", [(0.3104, "+0.310"), (-0.0004, "0.000"), (0.0004, "0.000"), (-0.0006, "-0.001")])
def test_no_zero_has_a_sign(value, text):
    assert signed(value) == text


@pytest.fixture()
def handlers(served):
    return AttentionHandlers(served[1], served[2])


@pytest.fixture()
def state(served):
    """Of an image, with topics that give the class 1 nothing."""
    state = served[1].explain(served[1].index.example(3))
    drives = np.zeros_like(state["drives"])
    drives[:, 0], drives[:, 1] = [0.4, 0.0, -0.2, 0.1, 0.001], [-1e-5, -2e-5, 0.0, 1e-6, 1e-5]
    return state | {"drives": drives}


def test_a_class_that_no_topic_speaks_for(handlers, state):
    """Twelve topics of "-0.000" were listed."""
    zero, one = handlers.service.class_names[:2]
    listed, picture, _, gallery, words, _ = handlers.choose_class(state, one, 0.6)
    assert [name for name, _ in listed.choices] == [ALL] and gallery == []
    assert words.endswith("No topic speaks for this class.") and "0.000" not in words
    assert np.array_equal(picture, handlers.choose_class(state, one, 0.0)[1])  # no heat of topics that say nothing
    assert not np.array_equal(handlers.choose_class(state, zero, 0.6)[1], picture)
    listed, *_, words, _ = handlers.choose_class(state, zero, 0.6)
    assert [name for name, _ in listed.choices] == [ALL, "topic 0 (drive +0.400)", "topic 3 (drive +0.100)"]
    assert "Driven most by the topics 0 (+0.400), 3 (+0.100)." in words
    listed, *_, words, _ = handlers.any_topic(state, one, 1, 0.6)  # asked for, it is shown
    assert listed.value == "topic 1 (drive 0.000)" and "gives this class 0.000." in words


def test_explain_draws_with_the_opacity_that_the_slider_shows(handlers, state, monkeypatch):
    asked = []
    monkeypatch.setattr("app.attention_tab.readable", lambda service, path: path)
    monkeypatch.setattr(handlers.service, "explain", lambda image: state)
    monkeypatch.setattr(handlers, "draw", lambda *args: asked.append(args[-1]) or ())
    handlers.explain("image", 0.2), handlers.explain("image")
    assert asked == [0.2, 0.6]


def test_a_new_image_takes_the_old_ones_pictures_away(handlers, served):
    """They stood beside it, and the drop-downs went on drawing the old one."""
    state, topics, *pictures, gallery, words, download = handlers.forget()
    assert state is None and [name for name, _ in topics.choices] == [ALL] and pictures == [None, None] and gallery == []
    assert words.startswith("Press Explain. 5 topics.") and not download.interactive
    with pytest.raises(gr.Error, match="Explain an image first"):
        handlers.draw(state, "0", ALL, 0.6)


def test_bars_where_there_is_no_map(handlers, state):
    zero, one = 0, 1
    state = state | {"topic_maps": None}
    assert handlers.topic_picture(state, zero, None, 0.6).shape[1] != 448
    assert handlers.topic_picture(state, one, None, 0.6).shape == (448, 448, 3)


def test_bars_of_all_topics_are_of_all(handlers, state, monkeypatch):
    """They were the strongest topic's, above "all topics that drive 0"."""
    monkeypatch.setattr("app.attention_tab.feature_bars", lambda attention, *label: attention)
    attention = np.zeros_like(state["attention"])
    attention[0, 2], attention[3, 5], attention[4, 7] = 0.01, 2.0, 9.0  # topic 4 hardly drives the class 0
    state = state | {"topic_maps": None, "attention": attention}
    bars = handlers.topic_picture(state, 0, None, 0.6)
    assert np.flatnonzero(bars).tolist() == [2, 5] and bars[[2, 5]] == pytest.approx([0.4, 0.1])
    assert np.array_equal(handlers.topic_picture(state, 0, 3, 0.6), attention[3])


def test_the_number_is_that_of_the_drawn_topic(handlers, state):
    """It stayed at an earlier one's."""
    listed, *_ = handlers.choose_class(state, handlers.service.class_names[0], 0.6)
    assert [handlers.shown_number(name) for name, _ in listed.choices] == ["", "0", "3"]
    assert handlers.shown_number(None) == ""


@pytest.mark.parametrize("number", ["", None, "5", "-1", "1.5", "two", "²", "9" * 5000])
def test_numbers_of_no_topic_get_a_sentence(handlers, state, number):
    with pytest.raises(gr.Error, match="from 0 to 4"):
        handlers.any_topic(state, handlers.service.class_names[0], number, 0.6)
    assert handlers.any_topic(state, handlers.service.class_names[0], " 4 ", 0.6)[0].value.startswith("topic 4 ")


def test_the_download_says_what_is_in_it(handlers, state):
    best = handlers.service.class_names[state["probabilities"].argmax()]
    share = f"{100 * state['probabilities'].max():.1f} %"
    zero, one = handlers.service.class_names[:2]
    first = f"predicted: {best}, {share}"
    said = handlers.captions(state, 0, 3)
    assert said[:2] == [first, f"topic 3: +0.100 for {zero}"] and said[2].startswith(f"Grad-CAM of {zero}, ")
    assert handlers.captions(state, 0, None)[:2] == [first, f"all topics that drive {zero}"]
    assert handlers.captions(state, 1, None)[1] == f"no topic speaks for {one}"
    assert handlers.captions(state | {"responses": np.zeros(0)}, 1, None)[1] == "no topics"
    assert handlers.captions(state | {"class_maps": None}, 0, 3)[2].startswith(f"no map for Grad-CAM of {zero}, ")


def test_captions_are_below_their_pictures_and_fit():
    grey = [np.full((60, 80, 3), 90, "uint8"), np.full((40, 120, 3), 90, "uint8")]
    sheet = pictures.side_by_side(grey, ["a", "a very long\nname of a class, 12.3 %"])
    assert sheet.shape == (60 + 2 * pictures.FONT_SIZE, 80 + 8 + 120, 3) and (sheet[:60, :80] == 90).all()
    below = sheet[60:].min(axis=(0, 2)) < 128
    assert below[:80].any() and below[88:].any() and not below[80:88].any()
    assert (pictures.side_by_side(grey, ["", ""])[60:] == 255).all()
