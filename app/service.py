"""A run in memory: predictions, warnings, explanations. Everything that the tabs ask for, without any widget."""

import json
import threading
from pathlib import Path

import numpy as np

from app.source_index import SourceIndex
from app.uploads import read_upload
from isra_keras.errors import UserError
from isra_keras.predict import NOT_FINITE
from isra_keras.remarks import remarks

BATCH = 16
MOST_TOPICS = 512  # of one explanation; more than any recipe has


class RunService:
    """Answers for one run. Safe to call from several threads: one computes at a time.

    Args:
        folder: run folder.
        data_dir: where the dataset is now; None for where it was.
        index: read source images in the background, for the topics' meaning and the warning.

    Raises:
        UserError: if the run can't be read, or was trained on precomputed features.
    """

    def __init__(self, folder, data_dir=None, index=True):
        from isra_keras.analysis.attention_maps import AttentionMaps
        from isra_keras.run_folder import load_run, load_semantic

        self.folder = Path(folder)
        self.network, self.info = load_run(folder)
        if self.info["kind"] != "images":
            raise UserError(f"Expected a run on images; '{folder}' was trained on precomputed features. Use `predict`.")
        semantic = load_semantic(folder)
        looks_at = (self.info.get("semantic") or {}).get("inputs", "features")
        self.maps = AttentionMaps(self.network, semantic, looks_at)
        self.class_names = self.info["class_names"]
        self.shape = tuple(self.network.input_shape[1:3])
        self.lock = threading.Lock()
        self.index = SourceIndex(self, data_dir)
        self.warm_up()
        if index:
            self.index.start()

    def warm_up(self):
        """Traces both forward passes, so that the first person does not wait for it."""
        blank = np.zeros((1, *self.shape, 3), "float32")
        self.predict(blank)
        self.predict(np.repeat(blank, 2, axis=0))
        self.explain(blank[0])

    # ---------------------------------------------------------------- predictions

    def read(self, path):
        """`Upload` of a file."""
        return read_upload(path, self.info, self.shape)

    def predict(self, images):
        """{"logits" (n, C), "features" (n, d), "pooled" (n, p)} of uint8 or float32 images (n, h, w, 3)."""
        parts = []
        for start in range(0, len(images), BATCH):
            batch = np.asarray(images[start : start + BATCH], "float32")
            with self.lock:
                parts.append(self.network.predict_on_batch(batch))
        return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}

    def classify(self, paths, top_k=3):
        """A row for each file, readable or not, in their order.

        Returns:
            list of dict: file, class, confidence, entropy (nats), note ("" or a warning or the reason), top (list of
            (class, probability)); class, confidence and entropy are None for an unreadable file, and where the model's
            answer is no number.
        """
        from isra_keras.selection.scores import entropies, softmax

        uploads = [self.read(path) for path in paths]
        rows = [
            {"file": upload.name, "class": None, "confidence": None, "entropy": None, "note": upload.reason, "top": []}
            for upload in uploads
        ]
        readable = [index for index, upload in enumerate(uploads) if upload.image is not None]
        if not readable:
            return rows
        outputs = self.predict([uploads[index].image for index in readable])
        probabilities = softmax(outputs["logits"])
        uncertain = entropies(probabilities)
        notes = self.warnings(outputs["features"], uncertain)
        for row, values, entropy, note in zip(readable, probabilities, uncertain, notes):
            if not np.isfinite(entropy):
                rows[row]["note"] = NOT_FINITE
                continue
            best = np.argsort(-values, kind="stable")[:top_k]
            top = [(self.class_names[index], float(values[index])) for index in best]
            rows[row] |= {"class": top[0][0], "confidence": top[0][1], "entropy": max(float(entropy), 0.0),
                          "note": note, "top": top}  # fmt: skip
        return rows

    def warnings(self, features, entropy):
        """A warning for each row, "" for none: far from every class of the source, or unusually uncertain."""
        return remarks(self.info, entropy, features, self.index.border)

    # ---------------------------------------------------------------- attention

    def explain(self, image):
        """What the network looks at in one image.

        Args:
            image: uint8 (h, w, 3).

        Returns:
            dict of NumPy arrays: image, probabilities (C,), drives (J, C), responses (J,), topic_maps (J, h', w') and
            class_maps (C, h', w') or None, attention (J, d).
        """
        from isra_keras.selection.scores import softmax

        with self.lock:
            explained = self.maps.explain(np.asarray(image, "float32")[None])
            classes = self.maps.all_class_maps(explained)
        kept = slice(0, MOST_TOPICS)
        return {
            "image": np.asarray(image, "uint8"),
            "probabilities": softmax(explained.logits)[0],
            "drives": explained.drives[0, kept],
            "responses": explained.responses[0, kept],
            "attention": explained.attention[0, kept].astype("float16"),
            "topic_maps": None if explained.topic_maps is None else explained.topic_maps[0, kept],
            "class_maps": None if classes is None else classes[0],
        }

    # ---------------------------------------------------------------- description

    def result(self):
        """dict of result.json, {} if it can't be read."""
        try:
            return json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def shared_classes(self):
        """Names of the classes that the model judged to be in the target; all if nothing is known."""
        from isra_keras.analysis.per_class import judged_shared

        if self.result().get("shared_classes"):
            return self.result()["shared_classes"]
        if self.info.get("class_weights"):
            return [n for n, shared in zip(self.class_names, judged_shared(self.info["class_weights"])) if shared]
        return list(self.class_names)
