"""Tab "Attention": where a topic and where the class is seen, and which source images mean the same topic."""

import gradio as gr
import numpy as np

from app.pictures import feature_bars, overlay, side_by_side
from app.widgets import escaped, percent, readable, signed, upload_box
from isra_keras.predict import NOT_FINITE

ALL = "all topics that drive the class"
STRONGEST = 12
LEAST_SHARE = 0.01  # of the largest drive in the image, whatever its class: topics that give a class less are noise
LEAST_DRIVE = 0.0005  # of the class's logit, which alone changes no probability that is shown
BUTTONS = ["download", "fullscreen"]  # without gradio's button that shares a picture with the internet


def build(service, files):
    """Adds the tab's widgets to the open `gr.Blocks`.

    Args:
        service: `RunService`. files: `TemporaryFiles`.
    """
    handlers = AttentionHandlers(service, files)
    state = gr.State(None, time_to_live=1800)
    with gr.Row():
        with gr.Column(scale=1):
            image = upload_box("Image", elem_id="attention-image")
            go = gr.Button("Explain", variant="primary", elem_id="attention-go")
            label = gr.Dropdown(list(service.class_names), label="Class", elem_id="attention-class")
            topic = gr.Dropdown([ALL], value=ALL, label="Topic (the strongest first)", allow_custom_value=False,
                                elem_id="attention-topic")  # fmt: skip
            # a gr.Number would show 0 for None, as if topic 0 were drawn
            number = gr.Textbox("", label=f"Or any topic, 0 to {max(service.maps.num_topics - 1, 0)}", max_lines=1,
                                elem_id="attention-number")  # fmt: skip
            opacity = gr.Slider(0, 1, value=0.6, step=0.05, label="Opacity", elem_id="attention-opacity")
        with gr.Column(scale=3):
            words = gr.Markdown(handlers.introduction())
            with gr.Row():
                topics = gr.Image(
                    label="Topic", buttons=BUTTONS, interactive=False, format="jpeg", elem_id="attention-overlay"
                )
                gradcam = gr.Image(label="Grad-CAM of the class", buttons=BUTTONS, interactive=False, format="jpeg")
            gr.Markdown("Source images that respond most to the topic (once one is chosen):")
            gallery = gr.Gallery(label="Source images that respond most to the topic", show_label=False, buttons=[],
                                 columns=8, height=160, object_fit="contain", interactive=False,
                                 format="png")  # fmt: skip
            download = gr.DownloadButton("Download PNG", interactive=False)
    shown = [topics, gradcam, gallery, words, download]
    choices = [state, label, topic]
    topic.change(handlers.shown_number, topic, number, api_visibility="private", queue=False)
    image.change(handlers.forget, None, [state, topic, *shown], api_visibility="private", queue=False)
    go.click(handlers.explain, [image, opacity], [*choices, *shown], api_name="explain")
    label.input(handlers.choose_class, [state, label, opacity], [topic, *shown], api_name="choose_class")
    draw = [state, label, topic, opacity]
    topic.input(handlers.draw, draw, shown, api_name="draw")
    opacity.release(handlers.draw, draw, shown, api_visibility="private")
    number.submit(handlers.any_topic, [state, label, number, opacity], [topic, *shown], api_name="any_topic")


def driving_topics(drives, label):
    """Topics of an image that speak for a class, the strongest first; none where what they give is nothing.

    Args:
        drives: (J, C) of an image. label: int.

    Returns:
        (j,) int.
    """
    given = drives[:, label]
    least = max(LEAST_DRIVE, LEAST_SHARE * float(np.abs(drives).max(initial=0.0)))
    order = np.argsort(-given, kind="stable")
    return order[given[order] >= least]


def together(maps, drives):
    """Maps (k, ...) of topics as one: each scaled to a largest value of one, times its drive (k,)."""
    largest = maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True)
    return np.tensordot(drives, maps / np.where(largest > 0, largest, 1), 1)


class AttentionHandlers:
    """What the tab's widgets do. The state is the dict of `RunService.explain`."""

    def __init__(self, service, files):
        self.service, self.files = service, files

    def introduction(self):
        """Markdown: what will be seen."""
        maps = self.service.maps
        if not maps.num_topics:
            rest = ": Grad-CAM alone" if maps.map_shape else ", and its backbone has no convolutional map for Grad-CAM"
            return f"This run has no topics (it was trained without ISRA){rest}."
        where = "over the image" if maps.map_shape else "as bars, since this backbone has no convolutional map"
        return f"{maps.num_topics} topics. Their attention is drawn {where}."

    def explain(self, path, opacity=0.6):
        """Everything, for the image's most probable class and all of its topics."""
        state = self.service.explain(readable(self.service, path))
        if not np.isfinite(state["probabilities"]).all():
            raise gr.Error(f"Nothing to explain: {NOT_FINITE}.", print_exception=False)
        best = int(state["probabilities"].argmax())
        name = self.service.class_names[best]
        order = np.argsort(-state["probabilities"], kind="stable")
        label = gr.Dropdown(choices=[self.service.class_names[index] for index in order], value=name)
        return state, label, self.topics(state, best), *self.draw(state, name, ALL, opacity)

    def forget(self):
        """(state, topics, pictures, words...) of no image: those of the one before would stand beside the new one."""
        words = f"Press Explain. {self.introduction()}"
        nothing = gr.DownloadButton(value=None, interactive=False)
        return None, gr.Dropdown(choices=[ALL], value=ALL), None, None, [], words, nothing

    def choose_class(self, state, label, opacity):
        """Topics and pictures of another class."""
        self.check(state)
        return self.topics(state, self.index(label)), *self.draw(state, label, ALL, opacity)

    def any_topic(self, state, label, number, opacity):
        """Pictures of a topic by its number, as text."""
        self.check(state)
        count, text = len(state["responses"]), str(number).strip()
        topic = int(text) if text.isdecimal() and len(text) < 10 else -1
        if not count:
            raise gr.Error("This run has no topics.", print_exception=False)
        if not 0 <= topic < count:
            raise gr.Error(f"Choose a topic from 0 to {count - 1}.", print_exception=False)
        chosen = self.topic_name(state, self.index(label), topic)
        listed = self.topics(state, self.index(label), topic)
        return listed, *self.draw(state, label, chosen, opacity)

    def shown_number(self, topic):
        """What the box of numbers shows: the topic that is drawn, nothing for all."""
        return "" if topic in (None, ALL) else topic.split()[1]

    def topics(self, state, label, extra=None):
        """Drop-down of the strongest topics that drive the class, and `extra`, which is then chosen."""
        order = driving_topics(state["drives"], label)[:STRONGEST].tolist()
        if extra is not None and extra not in order:
            order.append(extra)
        names = [ALL] + [self.topic_name(state, label, topic) for topic in order]
        value = ALL if extra is None else self.topic_name(state, label, extra)
        return gr.Dropdown(choices=names, value=value)

    def topic_name(self, state, label, topic):
        """ "topic 7 (drive +0.31)"."""
        return f"topic {topic} (drive {signed(state['drives'][topic, label])})"

    def draw(self, state, label, topic, opacity):
        """(topic picture, Grad-CAM picture, source images, words, download button)."""
        self.check(state)
        label, chosen = self.index(label), self.number(topic, state)
        left = self.topic_picture(state, label, chosen, opacity)
        classes = state["class_maps"]
        right = overlay(state["image"], None if classes is None else classes[label], opacity)
        gallery = [] if chosen is None else self.service.index.strongest(chosen)
        path = self.files.new("attention.png")
        self.save(path, side_by_side([overlay(state["image"], None), left, right], self.captions(state, label, chosen)))
        words = self.words(state, label, chosen)
        return left, right, gallery, words, gr.DownloadButton(value=str(path), interactive=True)

    def topic_picture(self, state, label, chosen, opacity):
        """uint8 overlay, bars, or the image alone."""
        driving = driving_topics(state["drives"], label)
        if chosen is None and not len(driving):
            return overlay(state["image"], None)
        maps = state["attention"].astype("float32") if state["topic_maps"] is None else state["topic_maps"]
        heat = maps[chosen] if chosen is not None else together(maps[driving], state["drives"][driving, label])
        if state["topic_maps"] is None:
            return feature_bars(heat, "attention |dg/dx|" + ", topics by their drive" * (chosen is None))
        return overlay(state["image"], heat, opacity)

    def captions(self, state, label, chosen):
        """What each picture of the download is: [image, topic, Grad-CAM]."""
        best, name = int(state["probabilities"].argmax()), self.service.class_names[label]
        share = percent(float(state["probabilities"][label]))
        if not len(state["responses"]):
            topic = "no topics"
        elif chosen is not None:
            topic = f"topic {chosen}: {signed(state['drives'][chosen, label])} for {name}"
        elif len(driving_topics(state["drives"], label)):
            topic = f"all topics that drive {name}"
        else:
            topic = f"no topic speaks for {name}"
        predicted = f"{self.service.class_names[best]}, {percent(float(state['probabilities'][best]))}"
        seen = "Grad-CAM of" if state["class_maps"] is not None else "no map for Grad-CAM of"
        return [f"predicted: {predicted}", topic, f"{seen} {name}, {share}"]

    def words(self, state, label, chosen):
        """Markdown under the pictures."""
        name = escaped(self.service.class_names[label])
        text = f"**{name}**: {percent(float(state['probabilities'][label]))}. "
        if not len(state["responses"]):
            return text + self.introduction()
        if chosen is None:
            best = driving_topics(state["drives"], label)[:3]
            if not len(best):
                return text + "No topic speaks for this class."
            listed = ", ".join(f"{topic} ({signed(state['drives'][topic, label])})" for topic in best)
            return text + f"Driven most by the topic{'s' if len(best) > 1 else ''} {listed}."
        response, drive = signed(state["responses"][chosen]), signed(state["drives"][chosen, label])
        text += f"Topic {chosen} responds with {response.removeprefix('+')} and gives this class {drive}. "
        if state["topic_maps"] is not None and not state["topic_maps"][chosen].any():
            text += "Nothing in this image speaks for the topic: its map is empty. "
        return text + ("" if self.service.index.ready else self.service.index.status)

    def number(self, topic, state):
        """Topic of a name of `topic_name`, None for all."""
        if topic is None or topic == ALL or not len(state["responses"]):
            return None
        try:
            number = int(str(topic).split()[1])
        except (IndexError, ValueError):
            number = -1
        if not 0 <= number < len(state["responses"]):
            raise gr.Error("Choose a topic of the list.", print_exception=False)
        return number

    def index(self, label):
        if label not in self.service.class_names:
            raise gr.Error("Choose a class of the list.", print_exception=False)
        return self.service.class_names.index(label)

    def check(self, state):
        if not state:
            raise gr.Error("Explain an image first.", print_exception=False)

    def save(self, path, picture):
        from PIL import Image

        Image.fromarray(picture).save(path, compress_level=1)  # quick: it is sent, not kept
