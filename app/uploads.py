"""What people upload: limits before decoding, every failure a sentence."""

import os
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 20 * 2**20
MAX_FILES = 64
PHONE = (".heic", ".heif")


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
        image = decode_resized(path, size, max_bytes=MAX_BYTES)
    except BadImageError as error:
        more = "; convert it to JPEG first" if str(path).lower().endswith(PHONE) else ""
        return Upload(name, None, f"{str(error) or 'it cannot be read'}{more}")
    return Upload(name, np.ascontiguousarray(image[start : start + crop, start : start + crop]))


def display_name(path, limit=60):
    """Name of a file without its folders, shortened, without control characters."""
    name = "".join(c if c.isprintable() else "?" for c in os.path.basename(str(path)))
    return name if len(name) <= limit else name[: limit - 12] + "…" + name[-11:]
