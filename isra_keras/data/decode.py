"""Reading images that may be anything: every failure is a `BadImageError` with a reason for people.

`decode_image` gives the pixels, `decode_resized` the square that networks are fed with, `check_image` looks at
header and ending only (fast enough for a scan of the whole dataset) and decodes only what looks damaged.
"""

import errno
import io
import os
import re
import stat
import threading
import time
from collections import deque
from contextlib import contextmanager

import numpy as np

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # no EPS & co.: they start other programs
MAX_PIXELS = 80_000_000
MAX_BYTES = 256 * 2**20
_ORIENTATION = 0x0112  # EXIF
_PAGE_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<svg")


WAITS = (0.05, 0.25, 1.0)
"""Seconds before another try, where a disk or a network drive fails for a moment."""
MOMENTARY = (errno.EIO, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ETIMEDOUT, errno.ESTALE)


class _Room:
    """At most so many pixels are decoded at once, however many threads there are; of larger images one alone.

    Of a PNG of 80 million pixels the decoder, the conversion and the result take 1.5 GB. Whoever came first is served first.
    """

    def __init__(self, pixels):
        self._most, self._used, self._waiting, self._changed = pixels, 0, deque(), threading.Condition()

    @contextmanager
    def of(self, image):
        """Around the decoding of a Pillow image whose header is read, and whatever is made of its pixels."""
        pixels, ticket = image.width * image.height, object()

        def has_room():
            return self._waiting[0] is ticket and (not self._used or self._used + pixels <= self._most)

        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(has_room)
                self._used += pixels
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._used -= pixels
                self._changed.notify_all()


_room = _Room(MAX_PIXELS)


def _renew():
    """In a process that was forked: whoever was decoding in the other one gives nothing back here."""
    global _room
    _room = _Room(MAX_PIXELS)


os.register_at_fork(after_in_child=_renew)


class BadImageError(ValueError):
    """An image that cannot be used; `str(error)` is the reason, without the path."""


def decode_image(path_or_bytes, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES):
    """Reads an image: first frame, EXIF orientation applied, transparency over white, 16 bits scaled to 8.

    Args:
        path_or_bytes: file, or its content as bytes.
        max_pixels: of the image, checked before decoding.
        max_bytes: of the file, checked before reading.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        BadImageError: if it is no readable image or too large.
    """
    return _load(path_or_bytes, max_pixels, max_bytes, np.asarray)


def decode_resized(path_or_bytes, size, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES):
    """`decode_image` brought to a square by bilinear interpolation with antialiasing (the aspect is not kept).

    JPEG files much larger than `size` are decoded at a fraction of their size (at least 2 `size`). Threads wait for each
    other where together they would decode more than `MAX_PIXELS`.

    Args:
        path_or_bytes, max_pixels, max_bytes: as in `decode_image`.
        size: side in pixels; None keeps the image as it is.

    Returns:
        uint8 (size, size, 3), RGB.

    Raises:
        BadImageError: if it is no readable image or too large.
    """

    def resized(image):
        from PIL import Image

        whole = size is None or image.size == (size, size)
        return np.asarray(image if whole else image.resize((size, size), Image.Resampling.BILINEAR))

    return _load(path_or_bytes, max_pixels, max_bytes, resized, draft=size and 2 * size)


def check_image(path, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES):
    """Why a file cannot be used, from its header and its last bytes; None if it looks whole.

    A file whose ending is missing is decoded before it is called bad: some cameras write such files.

    Args:
        path, max_pixels, max_bytes: as in `decode_image`.
    """

    def look():
        with _regular(path) as stream:
            size = _check_bytes(stream, max_bytes)
            image = _open(stream, max_pixels)
            return _ends_well(stream, image.format, size)

    try:
        if not _patiently(look):
            _load(path, max_pixels, max_bytes, lambda image: None)
    except BadImageError as error:
        return str(error)
    except Exception as error:
        return _reason(error)
    return None


def is_plain_jpeg(path):
    """Whether any JPEG decoder gives the pixels of `decode_image`: grey or RGB, upright.

    Args:
        path: a readable image file.
    """
    from PIL import Image

    with Image.open(path) as image:
        return image.format == "JPEG" and image.mode in ("L", "RGB") and _turn(image) is None


def _load(path_or_bytes, max_pixels, max_bytes, use, draft=None):
    """`use` of the Pillow image, mode RGB, upright."""

    def read():
        if isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
            stream = io.BytesIO(path_or_bytes)
        else:
            stream = _regular(path_or_bytes)
        with stream:
            _check_bytes(stream, max_bytes)
            image = _open(stream, max_pixels)
            if draft:
                image.draft(None, (draft, draft))
            with _room.of(image):
                image.load()
                turn = _turn(image)
                return use(_to_rgb(image if turn is None else image.transpose(turn)))

    try:
        return _patiently(read)
    except BadImageError:
        raise
    except Exception as error:  # decoders raise nearly everything on damaged files
        raise BadImageError(_reason(error)) from error


def _regular(path):
    """The opened file; a list may name a pipe, which must not be waited for."""
    stream = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise BadImageError("a pipe or a device, not a file")
    return stream


def _patiently(read):
    """`read()`, tried again after each of `WAITS` while the system reports an error that may pass."""
    for wait in WAITS:
        try:
            return read()
        except OSError as error:  # a decoder's own complaints have no errno
            if error.errno not in MOMENTARY:
                raise
        time.sleep(wait)
    return read()


def _check_bytes(stream, max_bytes):
    """Size of the content in bytes; refuses what is empty, too large or a web page."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if not size:
        raise BadImageError("empty file")
    if size > max_bytes:
        raise BadImageError(f"oversized: {size / 2**20:,.0f} MiB, the limit is {max_bytes / 2**20:,.0f} MiB")
    start = stream.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    stream.seek(0)
    if start.startswith(_PAGE_STARTS):
        raise BadImageError("a text page (HTML, XML or SVG), not an image")
    return size


def _open(stream, max_pixels):
    """Pillow image, header read only."""
    from PIL import Image

    try:
        image = Image.open(stream, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        found = re.search(r"\d+", str(error))
        pixels = f"{int(found[0]):,} pixels" if found else "too many pixels"
        raise BadImageError(f"oversized: {pixels}, the limit is {max_pixels:,} in all") from error
    except Image.UnidentifiedImageError as error:
        raise BadImageError(f"not an image of a known format ({', '.join(FORMATS)})") from error
    width, height = image.size
    if width * height > max_pixels:
        raise BadImageError(f"oversized: {width} x {height} pixels, the limit is {max_pixels:,} in all")
    if width < 1 or height < 1:
        raise BadImageError(f"no pixels: {width} x {height}")
    return image


def _ends_well(stream, kind, size):
    """Whether the last bytes are those of a whole file."""
    stream.seek(max(0, size - 64))
    tail = stream.read()
    if kind in ("JPEG", "MPO"):
        return b"\xff\xd9" in tail
    if kind == "PNG":
        return b"IEND" in tail
    if kind == "GIF":
        return b"\x3b" in tail[-4:]
    stream.seek(0)
    head = stream.read(12)
    if kind == "WEBP":
        return size >= int.from_bytes(head[4:8], "little") + 8
    if kind == "BMP":
        return size >= int.from_bytes(head[2:6], "little") > 0
    return False  # TIFF: rare, and its directory may be anywhere


def _turn(image):
    """The `PIL.Image.Transpose` that makes the image upright by its EXIF orientation, or None.

    Only that one tag is read: `ImageOps.exif_transpose` writes all of them anew and fails where one of them is odd,
    and pixels that can be read count as readable.
    """
    from PIL.Image import Transpose

    turns = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
             6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}  # fmt: skip
    try:
        return turns.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF that is none
        return None


def _to_rgb(image):
    """Any Pillow mode -> RGB: transparency over white, deep grey scaled."""
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_scaled(image)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _scaled(image):
    """Deep grey -> uint8 (height, width): 16 bits / 257; integers and reals of 0..255 as they are, wider ones by their own
    largest value. Reals up to 2 are of 0..1: resampling leaves some a little above 1, which become white."""
    values = np.nan_to_num(np.asarray(image, "float32"), posinf=0.0, neginf=0.0)
    if image.mode.startswith("I;16"):
        scale = 257.0
    else:
        largest = float(values.max(initial=0.0))
        integers = image.mode == "I"
        if integers:
            scale = 1.0 if largest <= 255 else 257.0 if largest <= 65535 else largest / 255
        else:
            scale = 1 / 255 if 0 < largest <= 2 else 1.0 if largest <= 255 else largest / 255
    return np.clip(np.round(values / scale), 0, 255).astype("uint8")


def _reason(error):
    """A sentence of an exception, without the path."""
    if isinstance(error, FileNotFoundError):
        return "file not found"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, OSError) and error.errno in MOMENTARY:
        return f"{error.strerror or os.strerror(error.errno)}, {len(WAITS) + 1} times in a row"
    if isinstance(error, MemoryError):
        return "it takes too much memory"
    text = " ".join(str(error).split())[:160]
    if isinstance(error, OSError) and "truncated" in text.lower():
        return f"truncated or damaged: {text}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"damaged: {text or type(error).__name__}"
