"""Tab "Predict": classes of uploaded images, warnings, CSV, flagging."""

import random

import gradio as gr

from app.storage import save_flag, write_csv
from app.uploads import MAX_FILES
from app.widgets import escaped, percent, readable, upload_box

NOTHING = "Nothing predicted yet."
HEADERS = ["file", "class", "confidence", "entropy (nats)", "next best", "note"]


def build(service, files, flags):
    """Adds the tab's widgets to the open `gr.Blocks`.

    Args:
        service: `RunService`. files: `TemporaryFiles`. flags: folder of flagged images.
    """
    handlers = PredictHandlers(service, files, flags)
    with gr.Row():
        with gr.Column(scale=1):
            image = upload_box("One image: drop, paste or take a photo", elem_id="predict-image")
            many = gr.File(label=f"Or many files (at most {MAX_FILES})", file_count="multiple", type="filepath",
                           height=120, elem_id="predict-files")  # fmt: skip
            top_k = gr.Slider(1, min(10, len(service.class_names)), value=min(3, len(service.class_names)), step=1,
                              label="Classes to show")  # fmt: skip
            with gr.Row():
                example = gr.Button("Example from the target")
                go = gr.Button("Predict", variant="primary", elem_id="predict-go")
        with gr.Column(scale=2):
            summary = gr.Markdown(NOTHING, elem_id="predict-summary")
            table = gr.Dataframe(headers=HEADERS, interactive=False, wrap=True, elem_id="predict-table")
            download = gr.DownloadButton("Download CSV", interactive=False, elem_id="predict-csv")
            with gr.Accordion("The answer is wrong? Flag the image", open=False):
                right = gr.Dropdown(list(service.class_names), label="Right class of the one image")
                flag = gr.Button("Flag")
                flagged = gr.Markdown()
    with gr.Accordion("Classes", open=False):
        gr.Markdown(class_list(service))
    go.click(handlers.predict, [image, many, top_k], [table, summary, download], api_name="predict")
    image.input(handlers.image_changed, [image, many, top_k], [table, summary, download], api_visibility="private")
    example.click(handlers.example, None, image, api_name="example").success(
        handlers.predict, [image, many, top_k], [table, summary, download], api_visibility="private"
    )
    flag.click(handlers.flag, [image, right], flagged, api_name="flag")


def class_list(service):
    """Markdown: the classes, those that the model judged shared in bold."""
    shared = set(service.shared_classes())
    names = [f"**{escaped(name)}**" if name in shared else escaped(name) for name in service.class_names]
    return f"{len(shared)} of {len(names)} classes were judged to be in the target (bold): " + ", ".join(names)


class PredictHandlers:
    """What the tab's buttons do."""

    def __init__(self, service, files, flags):
        self.service, self.files, self.flags = service, files, flags

    def predict(self, image, many, top_k):
        """(rows, summary, download button) of one image and many files."""
        paths = ([image] if image else []) + list(many or [])
        if not paths:
            raise gr.Error("Choose an image or some files first.", print_exception=False)
        if len(paths) > MAX_FILES:
            raise gr.Error(
                f"Choose at most {MAX_FILES} files at a time; these are {len(paths)}.", print_exception=False
            )
        top_k = int(min(max(top_k or 1, 1), len(self.service.class_names)))
        rows = self.service.classify(paths, top_k)
        path = write_csv(self.files.new("predictions.csv"), rows, top_k)
        return self.table(rows), self.summary(rows), gr.DownloadButton(value=str(path), interactive=True)

    def image_changed(self, image, many, top_k):
        """As `predict`; nothing where the image was removed and there are no files."""
        if not image and not many:
            return [], NOTHING, gr.DownloadButton(value=None, interactive=False)
        return self.predict(image, many, top_k)

    def table(self, rows):
        """Rows of `HEADERS`."""
        return [
            [row["file"], row["class"] or "—", percent(row["confidence"]),
             "" if row["entropy"] is None else f"{row['entropy']:.3f}",
             ", ".join(f"{name} {percent(p)}" for name, p in row["top"][1:]), row["note"]]
            for row in rows
        ]  # fmt: skip

    def summary(self, rows):
        """Markdown in words."""
        bad = [row for row in rows if row["class"] is None]
        if len(rows) == 1 and bad:
            return f"⚠ {escaped(rows[0]['file'])} can't be used: {escaped(rows[0]['note'])}."
        if len(rows) == 1:
            row = rows[0]
            note = f"  \n⚠ {row['note']}" if row["note"] else ""
            return f"**{escaped(row['class'])}**, {percent(row['confidence'])}{note}"
        words = f"{len(rows) - len(bad)} of {len(rows)} files predicted"
        warned = sum(bool(row["note"]) for row in rows if row["class"] is not None)
        return f"{words}, {warned} with a warning." + (f" {len(bad)} can't be used, see the notes." if bad else "")

    def example(self):
        """Path of a target image, any one."""
        image = self.service.index.example(random.randrange(1 << 30))
        if image is None:
            raise gr.Error(self.service.index.status, print_exception=False)
        from PIL import Image

        path = self.files.new("example.png")
        Image.fromarray(image).save(path)
        return str(path)

    def flag(self, image, right):
        """Sentence about the flagged image."""
        pixels = readable(self.service, image)
        if right not in self.service.class_names:
            raise gr.Error("Choose the right class first.", print_exception=False)
        row = self.service.classify([image], 1)[0]
        try:
            path = save_flag(self.flags, pixels, right, row["class"], row["file"])
        except OSError as error:
            raise gr.Error(f"Not kept: {error.strerror or 'it cannot be written'}.", print_exception=False) from error
        if path is None:
            raise gr.Error("Not kept: enough images are flagged, or the disk is full.", print_exception=False)
        return f"Kept as {escaped(path.name)}: {escaped(right)}."
