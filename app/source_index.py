"""The source's images as the network sees them: which of them respond most to a topic, and how near a new image is."""

import threading

import numpy as np

MOST_IMAGES = 1000
MOST_TARGETS = 300
BATCH = 32


class SourceIndex:
    """Features of at most 1,000 source images, spread evenly; in memory only, read in the background.

    Args:
        service: `RunService`.
        data_dir: where the dataset is now; None for where it was.
    """

    def __init__(self, service, data_dir=None):
        self.service, self.data_dir = service, data_dir
        self.status = "The source's images have not been read."
        self.ready = False
        self.thread = None
        self.target = None

    def start(self):
        """Reads in a thread of its own that ends with the program."""
        self.status = "The source's images are being read; try again in a moment."
        self.thread = threading.Thread(target=self._read, daemon=True, name="source index")
        self.thread.start()

    def _read(self):
        from isra_keras.errors import UserError

        try:
            self.build()
        except UserError:
            self.status = "The dataset of this run is not on this machine, so source images can't be shown."
        except Exception as error:  # the app lives on without it
            self.status = f"The source's images could not be read ({type(error).__name__})."

    def build(self):
        """Reads the source now.

        Raises:
            UserError: if the dataset is not there.
        """
        from isra_keras.data.reader import make_reader
        from isra_keras.evaluate import read_config, rebuild_task

        service = self.service
        task = rebuild_task(read_config(service.folder), self.data_dir)
        source, info = task.source, service.info
        chosen = np.linspace(0, len(source) - 1, min(len(source), MOST_IMAGES)).astype("int32")
        self.reader = make_reader(source, info["image_size"], info["crop_size"], cache=False)
        self.target = (task.target, make_reader(task.target, info["image_size"], info["crop_size"], cache=False))
        outputs, self.indices = self._predict(self.reader, chosen)
        self.labels = source.labels[self.indices]
        self.responses = self._responses(outputs[service.maps.inputs])
        some = np.linspace(0, len(task.target) - 1, min(len(task.target), MOST_TARGETS)).astype("int32")
        self._borders(outputs["features"], self._predict(self.target[1], some)[0]["features"])
        self.ready = True
        self.status = f"{len(self.indices):,} source images."

    def _predict(self, reader, chosen):
        """({"features", "pooled", "logits"}, indices) of samples of a domain."""
        columns, used = [], []
        for start in range(0, len(chosen), BATCH):
            images, indices = reader.read(chosen[start : start + BATCH])
            columns.append(self.service.predict(np.asarray(images)))
            used.append(np.asarray(indices))
        return {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}, np.concatenate(used)

    def _responses(self, seen):
        """(n, J) responses of all topics."""
        if self.service.maps.semantic is None:
            return np.zeros((len(seen), 0), "float32")
        parts = [self.service.maps.semantic(seen[i : i + 128])["responses"] for i in range(0, len(seen), 128)]
        return np.concatenate([np.asarray(part) for part in parts])

    def _borders(self, features, target_features):
        """Unit class means, and the cosine to the nearest one that 99 % of the source's images and 98 % of the
        target's reach: most of the target is of the source's classes, however different it looks."""
        labels = np.unique(self.labels)
        means = np.stack([_unit(features)[self.labels == label].mean(axis=0) for label in labels])
        self.means = _unit(means)
        nearest = [(_unit(rows) @ self.means.T).max(axis=1) for rows in (features, target_features)]
        self.border = float(min(np.quantile(nearest[0], 0.01), np.quantile(nearest[1], 0.02)))

    def similarity(self, features):
        """(cosine to the nearest class mean (n,), border): below the border an image is unlike the source.

        (None, None) until the source has been read.
        """
        if not self.ready:
            return None, None
        return (_unit(features) @ self.means.T).max(axis=1), self.border

    def strongest(self, topic, count=8):
        """[(uint8 image, class name)] of the source images that respond most to a topic; [] until it is ready."""
        if not self.ready or topic >= self.responses.shape[1]:
            return []
        best = np.argsort(-self.responses[:, topic], kind="stable")[:count]
        images, _ = self.reader.read(self.indices[best].astype("int32"))
        names = self.service.class_names
        labels = self.labels[best]
        return [(image.astype("uint8"), names[label]) for image, label in zip(np.asarray(images), labels)]

    def example(self, number):
        """A target image, uint8 (h, w, 3), by any number; None until it is ready."""
        if not self.ready:
            return None
        domain, reader = self.target
        images, _ = reader.read(np.array([number % len(domain)], "int32"))
        return np.asarray(images)[0].astype("uint8")


def _unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
