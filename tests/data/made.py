"""Small files and domains for the tests of the data room."""

import os

import numpy as np
from PIL import Image

from isra_keras.data.domain import Domain, Task


def pixels(size=(24, 20), seed=0):
    """uint8 (height, width, 3): a smooth picture, so that JPEG keeps it within a few levels."""
    rng = np.random.default_rng(seed)
    ends = rng.integers(30, 220, (2, 2, 3)).astype("float64")
    down, right = (np.linspace(0, 1, side)[:, None] for side in size)
    rows = ends[0][None] * (1 - down[..., None]) + ends[1][None] * down[..., None]  # (height, 2, 3)
    return np.round(rows[:, :1] * (1 - right[None]) + rows[:, 1:] * right[None]).astype("uint8")


def save(path, array=None, **options):
    """Writes a picture, folders included; returns the path as str."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels() if array is None else array).save(path, **options)
    return str(path)


def undecodable(path):
    """Writes a JPEG whose header and ending are whole and whose data are not; returns the path as str."""
    save(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype("uint8"))
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xc4")  # the first Huffman table: more codes than there can be
    content[at + 5 : at + 13] = b"\xff" * 8
    path.write_bytes(content)
    return str(path)


def grey(value, size=8):
    """uint8 (size, size, 3) of one level."""
    return np.full((size, size, 3), value, "uint8")


def tree(root, classes, suffix=".png"):
    """ROOT/CLASS/0000.png, ...: one picture linked as often as asked; {class: count}. Returns root."""
    picture = root.parent / f"{root.name}-picture{suffix}"
    save(picture, pixels((6, 6)))
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            os.link(picture, root / name / f"{number:04d}{suffix}")
    return root


def file_domain(root, count, name="files", classes=3, size=8):
    """`Domain` of PNG files whose level tells the sample: image i is 2 i everywhere."""
    paths = tuple(save(root / f"{i:03d}.png", grey(2 * i, size)) for i in range(count))
    return Domain(name, tuple("abcdefgh"[:classes]), np.arange(count) % classes, paths)


def array_domain(count, name="arrays", classes=3, size=8):
    """`Domain` of uint8 images in memory: random, so that every shift shows."""
    images = np.random.default_rng(count).integers(0, 256, (count, size, size, 3)).astype("uint8")
    return Domain(name, tuple("abcdefgh"[:classes]), np.arange(count) % classes, None, images)


def feature_domain(count, name="features", classes=3):
    """`Domain` of float32 (count, 4) rows; row i is i everywhere."""
    rows = np.repeat(np.arange(count, dtype="float32")[:, None], 4, axis=1)
    return Domain(name, tuple("abcdefgh"[:classes]), np.arange(count) % classes, None, rows)


def task_of(source, target, size=8):
    """`Task` of two domains."""
    kind = "features" if source.arrays is not None and source.arrays.ndim == 2 else "images"
    return Task("a-b", source, target, source.class_names, None, kind, size)
