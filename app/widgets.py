"""What several tabs use: an upload box that decodes nothing itself, the look, messages."""

import gradio as gr

SANS = ["system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"]
MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]


def upload_box(label="Image", **kwargs):
    """Image box that hands on the file's path as it came: gradio would decode it, without limits of its own.

    Its `preprocess` is set on the object, since gradio writes a .pyi file beside every subclass of a component.

    Args:
        label: above the box.
        **kwargs: for `gr.Image`.
    """
    box = gr.Image(label=label, type="filepath", image_mode=None, sources=["upload", "clipboard", "webcam"],
                   height=300, buttons=["fullscreen"], **kwargs)  # fmt: skip
    box.preprocess = lambda payload: None if payload is None or not payload.path else str(payload.path)
    return box


def theme():
    """A theme that asks for no fonts from outside."""
    return gr.themes.Default(primary_hue="blue", font=SANS, font_mono=MONO)


def readable(service, path):
    """uint8 image of an upload.

    Raises:
        gr.Error: with a sentence, if there is none or it can't be read.
    """
    if not path:
        raise gr.Error("Choose an image first.", print_exception=False)
    upload = service.read(path)
    if upload.image is None:
        raise gr.Error(f"{upload.name} can't be used: {upload.reason}.", print_exception=False)
    return upload.image


def percent(value):
    """0.873 -> "87.3 %"; "" for None."""
    return "" if value is None else f"{100 * value:.1f} %"


def escaped(text):
    """Text that Markdown and HTML take literally."""
    out = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*_[]|#$~":
        out = out.replace(mark, "\\" + mark)
    return out


def signed(value):
    """0.3104 -> "+0.310"; what rounds to nothing is "0.000", without a sign."""
    text = f"{value:+.3f}"
    return text if float(text) else "0.000"
