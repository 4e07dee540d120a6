"""What people upload: limits before decoding, every failure a sentence."""

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 20 * 2**20
MAX_FILES = 64
LARGE = 40_000_000
"""Pixels from which on an image is decoded alone: as a PNG the largest that the library reads takes 1.5 GB, and so do
two of these."""
PHONE = (".heic", ".heif")
_decoders = threading.Semaphore(2)
_large = threading.Lock()


@dataclass
class Upload:
    """One uploaded file.

    Attributes:
        name: as the person knows it.
        image: uint8 (height, width, 3), what the network receives; None if it can't be read.
        reason: why not, "" if it can.
    """

    name: str
    image: Any = None
    reason: str = ""


def read_upload(path, info, shape):
    """Decodes an upload as `predict` does: first frame, upright, over white, resized, centre crop.

    Args:
        path: file.
        info: dict of model.json.
        shape: (height, width) that the network takes.
    """
    import numpy as np

    from isra_keras.data.decode import BadImageError, decode_resized
    from isra_keras.run_folder import resized_to

    name = display_name(path)
    size = resized_to(info, shape)
    crop = info["crop_size"] or size
    start = (size - crop) // 2
    try:
        with _room(path):
            image = decode_resized(path, size, max_bytes=MAX_BYTES)
    except BadImageError as error:
        more = "; convert it to JPEG first" if str(path).lower().endswith(PHONE) else ""
        return Upload(name, None, f"{str(error) or 'it cannot be read'}{more}")
    except (MemoryError, RecursionError):
        return Upload(name, None, "it takes too much memory")
    return Upload(name, np.ascontiguousarray(image[start : start + crop, start : start + crop]))


@contextmanager
def _room(path):
    """Around a decoding: two at a time, a large image alone."""
    if _pixels(path) <= LARGE:
        with _decoders:
            yield
        return
    with _large, _decoders, _decoders:  # two large ones with one of both places each would wait for ever
        yield


def _pixels(path):
    """Pixels by the header; 0 where there is none, which is refused before anything is decoded."""
    from PIL import Image

    from isra_keras.data.decode import FORMATS

    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.width * image.height
    except Exception:
        return 0


def display_name(path, limit=60):
    """Name of a file without its folders, shortened, without control characters."""
    name = "".join(c if c.isprintable() else "?" for c in os.path.basename(str(path)))
    return name if len(name) <= limit else name[: limit - 12] + "…" + name[-11:]
