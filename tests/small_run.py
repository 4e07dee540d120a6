"""A small finished run and small images for the tests of predict and evaluate."""

import json

import keras
import numpy as np

NAMES = ["blue", "green", "red"]


def make_run(folder, size=32, kind="images", **info):
    """A run whose network looks at the mean colour: its class is the strongest of blue, green, red.

    Returns:
        folder, as it came.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape = (size, size, 3) if kind == "images" else (3,)
    inputs = keras.Input(shape, name="images")
    pooled = keras.layers.GlobalAveragePooling2D(name="backbone")(inputs) if kind == "images" else inputs
    features = keras.layers.Rescaling(1 / 25.5, name="bottleneck")(pooled)
    classifier = keras.layers.Dense(3, name="classifier")
    network = keras.Model(
        inputs, {"pooled": pooled, "features": features, "logits": classifier(features)}, name="network"
    )
    classifier.set_weights([np.eye(3)[::-1].copy(), np.zeros(3)])
    network.save(folder / "model.keras")
    description = {"class_names": NAMES, "image_size": None, "crop_size": None, "kind": kind, "class_weights": None}
    (folder / "model.json").write_text(json.dumps(description | info))
    return folder


def colour_image(path, name, size=(40, 30)):
    """Writes a picture of one colour with some noise."""
    from PIL import Image

    rng = np.random.default_rng(len(str(path)))
    pixels = rng.integers(0, 60, (*size, 3))
    pixels[..., 2 - NAMES.index(name)] += 190
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype("uint8")).save(path)
    return path
