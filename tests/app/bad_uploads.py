"""Files that people may upload, as bytes: {name: (content, reason that the answer must hold, or None for readable)}."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(mode="RGB", size=(48, 40), seed=0):
    """A noisy image of a mode."""
    rng = np.random.default_rng(seed)
    rgb = Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), dtype="uint8"))
    return rgb if mode == "RGB" else rgb.convert(mode)


def encoded(image, kind, **options):
    """Bytes of an image in a format."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def huge_png(side=20_000):
    """A PNG of a few KB that says it is `side` x `side`."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * ((side // 8 + 1) * 64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def rotated():
    """A JPEG that EXIF turns by 90 degrees."""
    image = picture()
    exif = image.getexif()
    exif[274] = 6
    return encoded(image, "JPEG", exif=exif)


def uploads():
    """All kinds."""
    jpeg, png = encoded(picture(), "JPEG"), encoded(picture(), "PNG")
    deep = Image.fromarray(np.random.default_rng(1).integers(0, 65535, (40, 48), dtype="uint16"))
    frames = [picture("P", seed=s) for s in range(3)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    damaged = bytearray(png)
    damaged[60:90] = b"\xff" * 30
    return {
        "plain.jpg": (jpeg, None),
        "plain.png": (png, None),
        "plain.webp": (encoded(picture(), "WEBP"), None),
        "plain.bmp": (encoded(picture(), "BMP"), None),
        "plain.tiff": (encoded(picture(), "TIFF"), None),
        "animated.gif": (gif, None),
        "cmyk.jpg": (encoded(picture("CMYK"), "JPEG"), None),
        "grey.png": (encoded(picture("L"), "PNG"), None),
        "one_bit.png": (encoded(picture("1"), "PNG"), None),
        "deep16.png": (encoded(deep, "PNG"), None),
        "palette.png": (encoded(picture("P"), "PNG"), None),
        "transparent.png": (encoded(picture("RGBA"), "PNG"), None),
        "grey_alpha.png": (encoded(picture("LA"), "PNG"), None),
        "rotated.jpg": (rotated(), None),
        "one_pixel.png": (encoded(picture(size=(1, 1)), "PNG"), None),
        "sliver.png": (encoded(picture(size=(3000, 1)), "PNG"), None),
        "png_named.jpg": (png, None),
        "no_ending": (jpeg, None),
        "naïve ☃ name.png": (png, None),
        "trailing.jpg": (jpeg + b"<script>alert(1)</script>" * 50, None),
        "empty.png": (b"", "empty"),
        "text.jpg": (b"this is no image at all, only words", "not an image"),
        "page.jpg": (b"<!DOCTYPE html><html><script>alert(1)</script></html>", "text page"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "text page"),
        "drawing.xml": (b"<?xml version='1.0'?><svg/>", "text page"),
        "document.pdf": (b"%PDF-1.7\n1 0 obj <<>> endobj\n%%EOF", "not an image"),
        "program.exe": (b"MZ" + bytes(300), "not an image"),
        "archive.zip": (b"PK\x03\x04" + bytes(300), "not an image"),
        "postscript.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage", "not an image"),
        "icon.ico": (encoded(picture(size=(32, 32)), "ICO"), "not an image"),
        "random.png": (np.random.default_rng(2).bytes(4000), "not an image"),
        "signature_only.png": (b"\x89PNG\r\n\x1a\n", ""),
        "header_only.jpg": (jpeg[:20], ""),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "truncated.png": (png[: len(png) // 2], ""),
        "truncated.webp": (encoded(picture(), "WEBP")[:200], ""),
        "damaged.png": (bytes(damaged), ""),
        "bomb.png": (huge_png(), "oversized"),
        "zeros.jpg": (bytes(5000), "not an image"),
    }
