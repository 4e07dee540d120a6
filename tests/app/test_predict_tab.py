"""The Predict tab: what follows what."""

import gradio as gr

from app import predict_tab


def test_without_an_example_nothing_else_is_predicted(served):
    """A second message, "Choose an image", covered why there was none; or the image of before was predicted again."""
    _, service, files, flags = served
    with gr.Blocks() as demo:
        predict_tab.build(service, files, str(flags))
    first = next(number for number, one in demo.fns.items() if one.api_name == "example")
    (after,) = [one for one in demo.fns.values() if one.trigger_after == first]
    assert after.fn.__name__ == "predict" and after.trigger_only_on_success
