"""decode: every kind of picture comes out right; everything else is refused with a reason."""

import errno
import io
import os
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from isra_keras.data import decode
from isra_keras.data.decode import BadImageError, check_image, decode_image, decode_resized, is_plain_jpeg
from tests.data.made import grey, pixels, save


def encoded(image, kind, **options):
    """Bytes of a Pillow image or an array."""
    stream = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(stream, kind, **options)
    return stream.getvalue()


def reason_of(source, **limits):
    with pytest.raises(BadImageError) as caught:
        decode_image(source, **limits)
    return str(caught.value)


def close(image, expected, levels):
    assert image.dtype == np.uint8 and image.shape == expected.shape
    assert np.abs(image.astype(int) - expected.astype(int)).max() <= levels


@pytest.mark.parametrize(
    "kind, options, levels",
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 98, "subsampling": 0}, 4),
        ("JPEG", {"quality": 98, "subsampling": 0, "progressive": True}, 4),
    ],
)
def test_formats(kind, options, levels, tmp_path):
    data = encoded(pixels(), kind, **options)
    close(decode_image(data), pixels(), levels)
    path = tmp_path / "named.jpg"  # the content counts, not the name
    path.write_bytes(data)
    close(decode_image(path), pixels(), levels)
    assert check_image(path) is None


def test_gif_gives_the_first_frame():
    frames = [Image.fromarray(grey(level)) for level in (40, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    close(decode_image(data), grey(40), 0)


def test_animated_webp_gives_the_first_frame():
    frames = [Image.fromarray(grey(level, 16)) for level in (40, 200)]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50, lossless=True)
    close(decode_image(data), grey(40, 16), 0)


def test_cmyk():
    ink = Image.merge("CMYK", [Image.new("L", (8, 8), level) for level in (255, 0, 0, 0)])  # all cyan
    image = decode_image(encoded(ink, "JPEG", quality=98))
    assert (image[..., 0] < 30).all() and (image[..., 1:] > 150).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    values = np.array([[0, 257, 1000, 32768, 65535]], "uint16")
    image = decode_image(encoded(values, kind))
    assert image[0, :, 0].tolist() == [0, 1, 4, 128, 255]
    assert (image == image[..., :1]).all()


def test_sixteen_bit_colour():
    values = np.array([[[0, 32768, 65535]] * 3], ">u2")
    rows = b"".join(b"\x00" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 3, 1, 16, 2, 0, 0, 0)
    close(decode_image(png(header, rows)), np.array([[[0, 128, 255]] * 3], "uint8"), 0)


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_sixteen_bits_keep_their_order(levels):
    values = np.array([sorted(levels)], "uint16")
    got = decode_image(encoded(values, "PNG"))[0, :, 0].astype(int)
    assert (np.diff(got) >= 0).all() and np.abs(got - values[0] / 257).max() <= 0.5


def test_reals_between_0_and_1_are_scaled():
    image = decode_image(encoded(Image.fromarray(np.array([[0.0, 0.5, 1.0]], "float32")), "TIFF"))
    assert np.abs(image[0, :, 0].astype(int) - [0, 127.5, 255]).max() <= 0.5


def test_reals_a_little_above_1_are_as_bright_as_those_below():
    """Resampled images overshoot: they were taken for 0..255, and came out black."""
    for largest, expected in ((0.99, 252), (1.02, 255), (1.9, 255), (3.0, 3)):
        image = decode_image(encoded(Image.fromarray(np.array([[0.0, 0.5, largest]], "float32")), "TIFF"))
        assert image[0, ::2, 0].tolist() == [0, expected] and (largest == 3 or abs(int(image[0, 1, 0]) - 127.5) <= 0.5)


def test_large_images_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    """Threads that decode together stay below a sum of pixels, whatever the images are."""
    for number in range(8):
        Image.new("L", (40 if number > 5 else 10, 10)).save(tmp_path / f"{number}.png")
    running, most, seen, both, to_rgb = [], [], threading.Lock(), threading.Event(), decode._to_rgb

    def watched(image):
        with seen:
            running.append(image.width)
            most.append(sorted(running))
            if len(running) == 2:
                both.set()
        both.wait(0.05)
        with seen:
            running.remove(image.width)
        return to_rgb(image)

    monkeypatch.setattr(decode, "_room", decode._Room(200))
    monkeypatch.setattr(decode, "_to_rgb", watched)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: decode_resized(tmp_path / f"{number}.png", 8), range(8), timeout=20))
    assert len(most) == 8 and [10, 10] in most
    assert all(together == [40] for together in most if 40 in together) and max(map(len, most)) == 2


def test_a_large_image_does_not_wait_for_those_that_come_after_it():
    """Small ones slipped in before it, as long as any came."""
    room, order = decode._Room(10), []
    large, small, first = (Image.new("L", (1, pixels)) for pixels in (10, 4, 4))

    def take(image, name):
        with room.of(image):
            order.append(name)

    with room.of(first):
        threads = []
        for image, name in ((large, "large"), (small, "small")):
            threads.append(threading.Thread(target=take, args=(image, name)))
            threads[-1].start()
            while len(room._waiting) < len(threads):
                time.sleep(0.001)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == ["large", "small"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_does_not_wait_for_what_the_other_one_decodes():
    with decode._room.of(Image.new("L", (1, 1000))):
        before = decode._room._used
        child = os.fork()
        if not child:
            os._exit(0 if decode._room._used == 0 else 1)
        assert before >= 1000 and os.waitpid(child, 0)[1] == 0


def test_too_little_memory_is_a_reason(monkeypatch):
    def to_rgb(image):
        raise MemoryError

    monkeypatch.setattr(decode, "_to_rgb", to_rgb)
    assert reason_of(encoded(grey(9), "PNG")) == "it takes too much memory"


def test_grey_bilevel_and_palette():
    levels = pixels()[..., 0]
    close(decode_image(encoded(levels, "PNG")), np.repeat(levels[..., None], 3, 2), 0)
    black_and_white = Image.fromarray(levels > levels.mean())
    assert set(decode_image(encoded(black_and_white, "PNG")).ravel()) == {0, 255}
    palette = Image.fromarray(pixels()).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    close(decode_image(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")), 0)


def test_transparency_lies_over_white():
    image = np.zeros((2, 3, 4), "uint8")
    image[:, 1, 3], image[:, 2, 3] = 128, 255
    assert decode_image(encoded(image, "PNG"))[0, :, 0].tolist() == [255, 127, 0]
    grey_alpha = Image.merge("LA", [Image.new("L", (2, 2), 0), Image.new("L", (2, 2), 0)])
    assert (decode_image(encoded(grey_alpha, "PNG")) == 255).all()
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert (decode_image(encoded(palette, "PNG", transparency=0)) == 255).all()
    assert (decode_image(encoded(np.zeros((2, 2, 3), "uint8"), "PNG", transparency=(0, 0, 0))) == 255).all()


@pytest.mark.parametrize("orientation, turn", [(3, 2), (6, -1), (8, 1)])
def test_exif_rotation(orientation, turn, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(pixels(), "JPEG", quality=98, subsampling=0, exif=exif)
    close(decode_image(data), np.rot90(pixels(), turn), 4)
    (tmp_path / "turned.jpg").write_bytes(data)
    assert not is_plain_jpeg(tmp_path / "turned.jpg")


def test_plain_jpeg(tmp_path):
    assert is_plain_jpeg(save(tmp_path / "a.jpg"))
    assert is_plain_jpeg(save(tmp_path / "grey.jpg", pixels()[..., 0]))
    assert not is_plain_jpeg(save(tmp_path / "a.png"))
    Image.new("CMYK", (8, 8)).save(tmp_path / "ink.jpg")
    assert not is_plain_jpeg(tmp_path / "ink.jpg")


def test_resized_to_a_square():
    assert decode_resized(encoded(pixels((40, 30)), "PNG"), 16).shape == (16, 16, 3)
    close(decode_resized(encoded(grey(77, 40), "PNG"), 16), grey(77, 16), 0)
    assert decode_resized(encoded(pixels((40, 30)), "PNG"), None).shape == (40, 30, 3)
    stripes = np.zeros((64, 64, 3), "uint8")
    stripes[::2] = 255  # antialiased: no stripe survives
    inner = decode_resized(encoded(stripes, "PNG"), 16)[2:-2]
    close(inner, np.full_like(inner, 128), 6)


def test_large_jpegs_are_resized_alike():
    blocks = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3)).astype("uint8"))
    data = encoded(blocks.resize((700, 700), Image.Resampling.BICUBIC), "JPEG", quality=98, subsampling=0)
    whole = Image.fromarray(decode_image(data)).resize((50, 50), Image.Resampling.BILINEAR)
    close(decode_resized(data, 50), np.asarray(whole), 6)


# ---------------------------------------------------------------- what is refused


def png(header, rows):
    """A PNG from its header and its raw rows."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def noise(kind, **options):
    return encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype("uint8"), kind, **options)


BAD = {
    "empty": (b"", "empty file"),
    "page": (b"\xef\xbb\xbf\n <!DOCTYPE html><html><body>404</body></html>", "a text page"),
    "drawing": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a text page"),
    "text": (b"this is no picture at all", "not an image of a known format"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
    "half jpeg": (noise("JPEG")[:-900], "truncated"),
    "half png": (noise("PNG")[:-900], "truncated"),
    "half webp": (noise("WEBP")[:-900], ""),
    "half bmp": (noise("BMP")[:-900], "truncated"),
    "header only": (noise("JPEG")[:20], ""),
    "bomb": (png(struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0), b""), "oversized: "),
    "large": (png(struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0), b""), "oversized: 9000 x 9000 pixels"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", BAD)
def test_refused_with_a_reason(name, tmp_path):
    data, reason = BAD[name]
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    said = reason_of(path)
    assert said.startswith(reason) and said and str(tmp_path) not in said
    assert reason_of(data) == said
    assert check_image(path) == said
    with pytest.raises(BadImageError):
        decode_resized(path, 32)


def test_what_is_no_file(tmp_path):
    assert reason_of(tmp_path / "nothing.jpg") == check_image(tmp_path / "nothing.jpg") == "file not found"
    (tmp_path / "folder.jpg").mkdir()
    assert reason_of(tmp_path / "folder.jpg") == check_image(tmp_path / "folder.jpg") == "a folder, not a file"


def test_limits(tmp_path):
    path = save(tmp_path / "a.png", grey(3, 20))
    assert "20 x 20 pixels, the limit is 399" in reason_of(path, max_pixels=399)
    assert decode_image(path, max_pixels=400).shape == (20, 20, 3)
    assert reason_of(path, max_bytes=10).startswith("oversized")
    assert check_image(path, max_pixels=399).startswith("oversized")


@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"]))
@settings(max_examples=60, deadline=None)
def test_damage_is_an_image_or_a_reason(place, length, kind):
    data = bytearray(encoded(pixels(), kind))
    start = place % len(data)
    data[start : start + length] = bytes(255 - byte for byte in data[start : start + length])
    try:
        image = decode_image(bytes(data), max_pixels=100_000)
    except BadImageError as error:
        assert str(error)
    else:
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8


def test_damage_before_the_ending_passes_the_quick_check_only(tmp_path):
    """The scan looks at both ends; what is broken between is found when it is read."""
    data = bytearray(noise("PNG"))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert check_image(path) is None
    assert reason_of(path)


def test_a_jpeg_without_its_ending_is_decoded_before_it_is_refused(tmp_path):
    (tmp_path / "trailing.jpg").write_bytes(noise("JPEG") + b"\0" * 300)
    assert check_image(tmp_path / "trailing.jpg") is None


class Failing:
    """`open` that fails the first `times` times, as a disk does."""

    def __init__(self, times, number=errno.EIO):
        self.times, self.number, self.calls = times, number, 0

    def __call__(self, *args, **options):
        self.calls += 1
        if self.calls <= self.times:
            raise OSError(self.number, os.strerror(self.number), args[0])
        return open(*args, **options)


@pytest.mark.parametrize("function", [decode.decode_image, decode.check_image])
def test_a_disk_that_fails_for_a_moment_is_asked_again(tmp_path, monkeypatch, function):
    path, waited = tmp_path / "a.png", []
    Image.new("RGB", (4, 4)).save(path)
    monkeypatch.setattr(decode.time, "sleep", waited.append)
    for times, number in ((2, errno.EIO), (3, errno.ESTALE)):
        monkeypatch.setattr(decode, "open", Failing(times, number), raising=False)
        result = function(path)
        assert result is None if function is decode.check_image else result.shape == (4, 4, 3)
        assert waited == list(decode.WAITS[:times])
        waited.clear()


def test_a_disk_that_keeps_failing_is_named_and_other_errors_are_not_tried_again(tmp_path, monkeypatch):
    path, waited = tmp_path / "a.png", []
    Image.new("RGB", (4, 4)).save(path)
    monkeypatch.setattr(decode.time, "sleep", waited.append)
    monkeypatch.setattr(decode, "open", Failing(99), raising=False)
    with pytest.raises(decode.BadImageError, match="Input/output error, 4 times in a row"):
        decode.decode_image(path)
    assert decode.check_image(path) == "Input/output error, 4 times in a row"
    waited.clear()
    monkeypatch.setattr(decode, "open", Failing(99, errno.EACCES), raising=False)
    assert decode.check_image(path) == "no permission to read it" and not waited


ODD_TAGS = b"MM\x00*\x00\x00\x00\x08\x00\x02\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00" + (
    b"\x01\x1a\x00\x02\x00\x00\x00\x03ab\x00\x00\x00\x00\x00\x00"  # XResolution as a text
)


def test_odd_exif_costs_no_image(tmp_path):
    upright = np.rot90(pixels(), -1)
    turned = encoded(pixels(), "JPEG", quality=98, subsampling=0, exif=b"Exif\x00\x00" + ODD_TAGS)
    close(decode_image(turned), upright, 4)
    for kind, options in (("JPEG", {"quality": 98, "subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True})):
        data = encoded(pixels(), kind, exif=b"Exif\x00\x00 this is none", **options)
        close(decode_image(data), pixels(), 4)
