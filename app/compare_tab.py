"""Tab "Compare": two runs on the same image, for example with and without ISRA."""

import threading

import gradio as gr
import numpy as np

from app.pictures import overlay
from app.service import RunService
from app.widgets import escaped, percent, readable, upload_box
from isra_keras.errors import UserError

MOST_LOADED = 2


def build(service, others):
    """Adds the tab's widgets to the open `gr.Blocks`.

    Args:
        service: `RunService`.
        others: {name: folder} of runs that can be chosen.
    """
    if not others:
        gr.Markdown("There is no other run beside this one. `--against DIR` names one.")
    handlers = CompareHandlers(service, others)
    with gr.Row():
        with gr.Column(scale=1):
            image = upload_box("Image", elem_id="compare-image")
            other = gr.Dropdown(list(others), value=next(iter(others), None), label="Other run")
            go = gr.Button("Compare", variant="primary", elem_id="compare-go")
        with gr.Column(scale=3):
            words = gr.Markdown(elem_id="compare-words")
            table = gr.Dataframe(headers=["", "class", "confidence", "entropy (nats)", "next best"], interactive=False)
            with gr.Row():
                left = gr.Image(
                    label="This run, Grad-CAM", buttons=["download", "fullscreen"], interactive=False, format="jpeg"
                )
                right = gr.Image(
                    label="Other run, Grad-CAM", buttons=["download", "fullscreen"], interactive=False, format="jpeg"
                )
    go.click(handlers.compare, [image, other], [table, left, right, words], api_name="compare")


class CompareHandlers:
    """Loads other runs when they are asked for and keeps the last two."""

    def __init__(self, service, others):
        self.service, self.others, self.loaded, self.lock = service, others, {}, threading.Lock()

    def compare(self, path, name):
        """(table, both pictures, words)."""
        if name not in self.others:
            raise gr.Error("Choose the other run first.", print_exception=False)
        readable(self.service, path)
        other = self.load(name)
        results = [self.look(service, path) for service in (self.service, other)]
        titles = [f"this run ({self.service.folder.resolve().name})", name]
        table = [[title, *result["row"]] for title, result in zip(titles, results)]
        classes = [result["row"][0] for result in results]
        if "—" in classes:
            words = "There is no answer to compare, see the table."
            return table, results[0]["picture"], results[1]["picture"], words
        agree = "Both runs agree" if classes[0] == classes[1] else "The runs disagree"
        words = f"{agree}: {escaped(classes[0])} and {escaped(classes[1])}."
        return table, results[0]["picture"], results[1]["picture"], words

    def look(self, service, path):
        """Row of the table and Grad-CAM of the predicted class."""
        row = service.classify([path], 3)[0]
        state = service.explain(service.read(path).image)
        if row["class"] is None:
            return {"row": ["—", "", "", row["note"]], "picture": overlay(state["image"], None)}
        maps = state["class_maps"]
        heat = None if maps is None else maps[int(np.argmax(state["probabilities"]))]
        others = ", ".join(f"{name} {percent(p)}" for name, p in row["top"][1:])
        cells = [row["class"], percent(row["confidence"]), f"{row['entropy']:.3f}", others]
        return {"row": cells, "picture": overlay(state["image"], heat, 0.6)}

    def load(self, name):
        """`RunService` of another run.

        Raises:
            gr.Error: with a sentence, if it can't be read.
        """
        with self.lock:
            if name not in self.loaded:
                try:
                    service = RunService(self.others[name], index=False)
                except UserError as error:
                    said = str(error).replace(str(self.others[name]), name)
                    raise gr.Error(f"{name} can't be opened: {said}", print_exception=False) from error
                if len(self.loaded) >= MOST_LOADED:
                    self.loaded.pop(next(iter(self.loaded)))
                self.loaded[name] = service
            return self.loaded[name]
