"""The embedded dataset: printed characters, real handwritten digits, characters over photographs. No download.

All images pass through the 8 x 8 sampling of scikit-learn's digits and come back to 32 x 32, so that the domains differ
by shape and texture, not by sharpness. 36 classes: 0-9, A-Z; O/0, I/1, S/5, Z/2, B/8 make adaptation partial in earnest.
"""

import functools
import os
import tempfile
from pathlib import Path

import numpy as np

SIZE = 32
SAMPLING = 8
PER_CLASS = 100
CLASSES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
VERSION = 1
FACES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Oblique", "DejaVuSerif",
    "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10", "cmb10",
)  # fmt: skip
_CANVAS = 64


def load(name, seed=0, cache_dir=None):
    """A domain of glyphs, from the cache if it was made before.

    Args:
        name: "printed" (3,600 images), "handwritten" (1,797, the same for every seed) or "photo" (3,600).
        seed: of what is made at random.
        cache_dir: folder of the cache; None for the user's (ISRA_CACHE, XDG_CACHE_HOME or ~/.cache). A folder that
            cannot be written to is done without.

    Returns:
        (uint8 (n, 32, 32, 3), int32 (n,) indices into `CLASSES`), sorted by class.

    Raises:
        ValueError: if the name is unknown.
    """
    makers = {"printed": printed, "handwritten": handwritten, "photo": photo}
    if name not in makers:
        raise ValueError(f"Expected a domain of {', '.join(makers)}; received '{name}'.")
    if name == "handwritten":
        return handwritten()
    path = _cache_folder(cache_dir) / f"glyphs-{name}-v{VERSION}-{PER_CLASS}-{int(seed)}.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
        if images.shape == (len(labels), SIZE, SIZE, 3) and len(labels) == PER_CLASS * len(CLASSES):
            return images, labels
    except Exception:  # missing or damaged: made again
        pass
    images, labels = makers[name](seed, PER_CLASS)
    _store(path, images, labels)
    return images, labels


def printed(seed=0, per_class=PER_CLASS):
    """Characters in random face, shear, rotation and aspect, white on black.

    Args:
        seed: int.
        per_class: images of each class.

    Returns:
        (uint8 (36 per_class, 32, 32, 3), int32 labels).
    """
    rng = np.random.default_rng([seed, VERSION, 1])
    labels = np.repeat(np.arange(len(CLASSES), dtype="int32"), per_class)
    values = np.stack([_sampled(_character(CLASSES[label], rng)) for label in labels])
    return _enlarged(values), labels


def handwritten():
    """scikit-learn's 1,797 digits, 8 x 8 pixels with 17 levels, enlarged.

    Returns:
        (uint8 (1797, 32, 32, 3), int32 labels 0..9), sorted by class.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.argsort(digits.target, kind="stable")
    return _enlarged(digits.images[order] / 16.0), digits.target[order].astype("int32")


def photo(seed=0, per_class=PER_CLASS):
    """Characters blended over random patches of the photographs that scikit-learn ships, in colour.

    The ink is the difference from the patch, as in "MNIST-M" (Ganin and Lempitsky, 2015): |patch - glyph|.

    Args, returns: as in `printed`.
    """
    rng = np.random.default_rng([seed, VERSION, 2])
    labels = np.repeat(np.arange(len(CLASSES), dtype="int32"), per_class)
    glyphs = np.stack([_sampled(_character(CLASSES[label], rng)) for label in labels])
    ink = _enlarged(glyphs).astype("float32")
    return np.abs(_patches(rng, len(labels)) - ink).round().astype("uint8"), labels


def _character(text, rng):
    """float (64, 64) in 0..1: one character, distorted."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (2 * _CANVAS, 2 * _CANVAS), 0)
    font = _font(FACES[rng.integers(len(FACES))])
    ImageDraw.Draw(canvas).text((_CANVAS, _CANVAS), text, fill=255, font=font, anchor="mm")
    angle = np.deg2rad(rng.normal(0.0, 8.0))
    shear, aspect, scale = rng.normal(0.0, 0.18), np.exp(rng.normal(0.0, 0.15)), np.exp(rng.normal(0.0, 0.06))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1.0, shear], [0.0, 1.0]]) @ np.diag([aspect, 1.0]) / scale
    left, top, right, bottom = canvas.getbbox()
    centre = np.array([(left + right) / 2, (top + bottom) / 2]) + rng.normal(0.0, 1.2, 2)
    shift = centre - matrix @ np.full(2, _CANVAS / 2)
    terms = (matrix[0, 0], matrix[0, 1], shift[0], matrix[1, 0], matrix[1, 1], shift[1])
    drawn = canvas.transform((_CANVAS, _CANVAS), Image.Transform.AFFINE, terms, Image.Resampling.BILINEAR)
    return np.asarray(drawn, "float32") / 255


def _sampled(image):
    """float (64, 64) -> (8, 8) in 0..1 with the 17 levels of the handwritten digits (blocks of a 32 x 32 bitmap)."""
    side = _CANVAS // SAMPLING
    means = image.reshape(SAMPLING, side, SAMPLING, side).mean((1, 3))
    return np.round(np.clip(means * 1.15, 0, 1) * 16) / 16


def _enlarged(values):
    """float (n, 8, 8) in 0..1 -> uint8 (n, 32, 32, 3), bilinear between the centres of the cells."""
    weights = _interpolation(SAMPLING, SIZE)
    large = np.einsum("ij,njk,lk->nil", weights, values, weights)
    return np.repeat(np.round(255 * large).astype("uint8")[..., None], 3, axis=-1)


def _interpolation(small, large):
    """(large, small) matrix of bilinear interpolation, edges repeated."""
    places = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    return np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(small)[None, :]))


def _patches(rng, count):
    """float32 (count, 32, 32, 3): random patches of two photographs, halved in size, in random brightness."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    pictures = [Image.fromarray(picture).resize((320, 214)) for picture in load_sample_images().images]
    pictures = [np.asarray(picture, "float32") for picture in pictures]
    patches = np.empty((count, SIZE, SIZE, 3), "float32")
    for index in range(count):
        picture = pictures[rng.integers(len(pictures))]
        top, left = (rng.integers(length - SIZE + 1) for length in picture.shape[:2])
        patches[index] = picture[top : top + SIZE, left : left + SIZE]
    return patches * rng.uniform(0.5, 1.0, (count, 1, 1, 1)).astype("float32")


@functools.cache
def _font(face):
    """Pillow font of a face that matplotlib ships, tall enough for the canvas."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    path = os.path.join(get_data_path(), "fonts", "ttf", f"{face}.ttf")
    return ImageFont.truetype(path, 78, layout_engine=ImageFont.Layout.BASIC)


def _cache_folder(cache_dir):
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    folder = os.path.expanduser(cache_dir or os.environ.get("ISRA_CACHE") or os.path.join(caches, "isra_keras"))
    return Path(os.devnull if folder.startswith("~") else folder)  # nobody's home: no cache


def _store(path, images, labels):
    """Writes to a temporary file, then renames; a cache that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as stream:
            np.savez_compressed(stream, images=images, labels=labels)
        os.replace(stream.name, path)
    except OSError:
        if "stream" in locals():
            Path(stream.name).unlink(missing_ok=True)
