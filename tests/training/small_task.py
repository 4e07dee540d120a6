"""Tasks that are made in memory in a moment, and configurations that train on them in a second."""

import numpy as np

from isra_keras.data.domain import Domain, Task
from isra_keras.training.recipes import resolve

CLASSES, SHARED, WIDTH = ("ant", "bee", "cat", "dog", "eel"), 3, 12


def features_task(rows=60, labelled=True, seed=0):
    """5 classes -> the first 3: noisy class centres of `WIDTH` numbers, shifted in the target.

    Args:
        rows: of the source; the target has two thirds of them.
        labelled: whether the target has labels.
        seed: of the numbers.

    Returns:
        `Task` of kind "features".
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 2, (len(CLASSES), WIDTH))

    def domain(name, labels, shift):
        arrays = (centres[labels] + rng.normal(shift, 0.7, (len(labels), WIDTH))).astype("float32")
        return Domain(name, CLASSES, labels if name == "one" or labelled else np.full(len(labels), -1), None, arrays)

    source = domain("one", np.arange(rows) % len(CLASSES), 0.0)
    target = domain("two", np.arange(rows * 2 // 3) % SHARED, 0.4)
    return Task("one-two", source, target, CLASSES, CLASSES[:SHARED] if labelled else None, "features", None)


def images_task(rows=40, size=32, seed=0):
    """The same classes as uint8 images (n, size, size, 3): a bright square whose place tells the class."""
    rng = np.random.default_rng(seed)

    def domain(name, labels, brightness):
        arrays = rng.integers(0, 60, (len(labels), size, size, 3))
        for row, label in enumerate(labels):
            arrays[row, 4 * label : 4 * label + 8, 8:20, label % 3] += brightness
        return Domain(name, CLASSES, labels, None, arrays.astype("uint8"))

    source = domain("one", np.arange(rows) % len(CLASSES), 180)
    target = domain("two", np.arange(rows * 2 // 3) % SHARED, 120)
    return Task("one-two", source, target, CLASSES, CLASSES[:SHARED], "images", size)


SMALL = {"warmup": 0.0, "weight_smoothing": 0.0, "iterations": 8, "eval_interval": 4, "batch_size": 8, "feature_dim": 8, "num_topics": 4}


def features_config(**given):
    """`TrainConfig` for `features_task`: BA3US with ISRA, 8 steps, unless told otherwise."""
    return resolve(**({"dataset": "pacs_features"} | SMALL | little(given)))


def images_config(**given):
    """`TrainConfig` for `images_task`."""
    return resolve(**({"dataset": "glyphs"} | SMALL | little(given)))


def little(given):
    """The same with a little discriminator if the method is BA3US: its own makes checkpoints of 8 MB."""
    if given.get("method", "ba3us") != "ba3us":
        return given
    return given | {"method_options": {"mu": 2, "discriminator_width": 8} | given.get("method_options", {})}
