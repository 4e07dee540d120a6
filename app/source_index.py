"""The source's images as the network sees them: which of them respond most to a topic, and how near a new image is."""

import sys
import threading

import numpy as np

from isra_keras.remarks import MOST_IMAGES, MOST_TARGETS, Border, predict_some, spread


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
        self.border = None

    def start(self):
        """Reads in a thread of its own that ends with the program."""
        self.status = "The source's images are being read; try again in a moment."
        self.thread = threading.Thread(target=self._read, daemon=True, name="source index")
        self.thread.start()

    def _read(self):
        from isra_keras.errors import UserError

        try:
            self.build()
        except UserError as error:
            self.status = "The dataset of this run is not on this machine, so source images can't be shown."
            print(f"note: source images can't be shown: {error}", file=sys.stderr, flush=True)  # paths are not for everybody
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
        self.names = task.class_names  # of its labels: a folder may have come to the model's classes since
        self.reader = make_reader(source, info["image_size"], info["crop_size"], cache=False)
        self.target = (task.target, make_reader(task.target, info["image_size"], info["crop_size"], cache=False))
        outputs, self.indices = predict_some(service.predict, self.reader, spread(source, MOST_IMAGES))
        self.labels = source.labels[self.indices]
        self.responses = self._responses(outputs[service.maps.inputs])
        some = spread(task.target, MOST_TARGETS)
        self.border = Border(outputs["features"], self.labels, predict_some(service.predict, self.target[1], some)[0]["features"])
        self.ready = True
        self.status = f"{len(self.indices):,} source images."

    def _responses(self, seen):
        """(n, J) responses of all topics."""
        if self.service.maps.semantic is None:
            return np.zeros((len(seen), 0), "float32")
        parts = [self.service.maps.semantic(seen[i : i + 128])["responses"] for i in range(0, len(seen), 128)]
        return np.concatenate([np.asarray(part) for part in parts])

    def strongest(self, topic, count=8):
        """[(uint8 image, class name)] of the source images that respond most to a topic; [] until it is ready.

        Those that can no longer be read are left out.
        """
        if not self.ready or topic >= self.responses.shape[1]:
            return []
        best = np.argsort(-self.responses[:, topic], kind="stable")[:count]
        chosen = self.indices[best].astype("int32")
        found = zip(*self._images(self.reader, chosen), chosen, self.labels[best])
        return [(image.astype("uint8"), self.names[label]) for image, shown, asked, label in found if shown == asked]

    def example(self, number):
        """A target image, uint8 (h, w, 3), by any number; None until it is ready, and where none can be read."""
        if not self.ready:
            return None
        domain, reader = self.target
        images, _ = self._images(reader, np.array([number % len(domain)], "int32"))
        return images[0].astype("uint8") if len(images) else None

    def _images(self, reader, chosen):
        """(images, samples that they show: others where a file went bad); none at all where the disk is gone."""
        try:
            images, used = reader.read(chosen)
        except Exception:  # whatever TensorFlow makes of it
            self.status = "The images of this run's dataset can no longer be read."
            return [], []
        return np.asarray(images), np.asarray(used)
