"""The Predict tab: what follows what."""

import gradio as gr
import pytest

from app import predict_tab


def test_without_an_example_nothing_else_is_predicted(served):
    """A second message, "Choose an image", covered why there was none; or the image of before was predicted again."""
    _, service, files, flags = served
    with gr.Blocks() as demo:
        predict_tab.build(service, files, str(flags))
    first = next(number for number, one in demo.fns.items() if one.api_name == "example")
    (after,) = [one for one in demo.fns.values() if one.trigger_after == first]
    assert after.fn.__name__ == "predict" and after.trigger_only_on_success


def test_a_folder_that_can_not_hold_flags_gets_a_sentence(served, image, tmp_path):
    """Gradio said "Error"."""
    (tmp_path / "flagged").write_text("a file")
    handlers = predict_tab.PredictHandlers(*served[1:3], tmp_path / "flagged")
    with pytest.raises(gr.Error, match="Not kept: Not a directory"):
        handlers.flag(image, "7")


def test_a_removed_image_takes_its_answer_away(served, image):
    """The box tells of that as of an upload: "Choose an image" was the answer, and the old one stayed."""
    _, service, files, flags = served
    with gr.Blocks() as demo:
        predict_tab.build(service, files, str(flags))
    (changed,) = [one.fn for one in demo.fns.values() if any(event == "input" for _, event in one.targets)]
    rows, summary, download = changed(None, None, 3)
    assert rows == [] and summary == "Nothing predicted yet." and not download.interactive
    assert changed(image, None, 3)[0][0][0] == changed(None, [image], 3)[0][0][0] == "glyph.png"
