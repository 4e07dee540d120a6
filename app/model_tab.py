"""Tab "Model": what this model is, how good it is, where it came from."""

import json

import gradio as gr

from app.widgets import escaped, percent
from isra_keras.train import SEMANTIC_ONLY

PICTURES = (
    ("report/class_weights.png", "Class weights"),
    ("report/confusion.png", "Confusion (from target labels)"),
    ("analysis/tsne.png", "t-SNE of the features (by `analyze`)"),
    ("report/curves.png", "Curves of the training"),
)
CARD = ("backbone", "feature_dim", "iterations", "batch_size", "learning_rate", "seed", "select", "num_topics",
        "variant", "class2vec_weight", "alignment_weight", "weights")  # fmt: skip


def build(service):
    """Adds the tab's widgets to the open `gr.Blocks`."""
    gr.Markdown(card(service))
    with gr.Row():
        gr.Dataframe(score_rows(service), headers=["label-free score", "value"], interactive=False)
        gr.Dataframe(class_rows(service), interactive=False, max_height=400,
                     headers=["class", "samples", "accuracy", "predicted", "most often taken for"])  # fmt: skip
    button = gr.Button("Show the table as data", visible=False)
    output = gr.JSON(visible=False)
    button.click(lambda: description(service), None, output, api_name="model")
    found = pictures(service)
    for start in range(0, len(found), 2):  # no gallery: its squares cut off what is taller; a label hides a corner
        with gr.Row():
            for path, caption in found[start : start + 2]:
                with gr.Column():
                    gr.Markdown(f"**{caption}**")
                    gr.Image(path, show_label=False, type="filepath", format="png", interactive=False, buttons=["fullscreen"])


def pictures(service):
    """[(path, caption)] of the run's figures that exist."""
    return [(str(service.folder / name), caption) for name, caption in PICTURES if (service.folder / name).is_file()]


def card(service):
    """Markdown: the model card."""
    info, config = service.info, read_config(service)
    lines = [f"## {escaped(info.get('method', 'model'))} on {escaped(info.get('task', 'a task'))}", ""]
    lines.append(
        f"{len(info['class_names'])} source classes, {len(service.shared_classes())} judged to be in the target."
    )
    by, step = info.get("selected_by"), info.get("selected_step")
    lines.append(f"Chosen without target labels by {escaped(by)} at step {step}." if by != "last"
                 else f"The last evaluation, at step {step}; no score chose it.")  # fmt: skip
    accuracy = (service.result().get("selected") or {}).get("accuracy")
    if accuracy is not None:
        lines.append(f"Accuracy on the target's labelled images: **{percent(accuracy)}**.")
    hidden = {"weights"} | (set() if config.get("semantic", True) else SEMANTIC_ONLY)
    lines += ["", "**Made with:** " + ", ".join(f"{name} {escaped(config[name])}" for name in CARD
                                                if config.get(name) is not None and name not in hidden)]  # fmt: skip
    lines += ["", "**Meant for:** images like those of its target domain, of classes that the source has. It always "
              "answers with one of the source's classes; heed the warnings.", "",
              "**Not meant for:** decisions about people, or images of other kinds."]  # fmt: skip
    return "\n".join(lines)


def read_config(service):
    """dict of config.json, {} if it can't be read."""
    try:
        return json.loads((service.folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def score_rows(service):
    """[[score, value]]."""
    scores = (service.result().get("selected") or {}).get("scores") or {}
    return [[name.replace("_", " "), f"{value:.4f}"] for name, value in scores.items() if value is not None]


def class_rows(service):
    """Rows of the class table."""
    rows = []
    for row in service.info.get("classes") or []:
        wrong = f"{row['mistaken_for']} ({row['mistakes']})" if row["mistakes"] else ""
        count = "unknown" if row["count"] is None else row["count"]
        rows.append([row["name"], count, percent(row["accuracy"]), row["predicted"], wrong])
    return rows


def description(service):
    """dict: what the tab says, as data."""
    info = service.info
    return {
        "task": info.get("task"),
        "method": info.get("method"),
        "class_names": info["class_names"],
        "shared_classes": service.shared_classes(),
        "scores": (service.result().get("selected") or {}).get("scores") or {},
        "classes": info.get("classes") or [],
    }
