"""Uploads: the library's limits, phones' formats."""

import numpy as np
import pytest
from PIL import Image

from app import uploads
from isra_keras.data import decode

INFO = {"image_size": 32, "crop_size": None}


def test_the_limit_of_pixels_is_the_library_s(tmp_path):
    """Photos of 48 to 50 million pixels, as many phones make them, were refused here and taken elsewhere."""
    Image.new("L", (8000, 6250), 200).save(tmp_path / "phone.jpg")
    upload = uploads.read_upload(tmp_path / "phone.jpg", INFO, (32, 32))
    assert upload.reason == "" and np.array_equal(upload.image, np.full((32, 32, 3), 200))
    Image.new("1", (9000, 9000)).save(tmp_path / "more.png")
    assert f"{decode.MAX_PIXELS:,}" in uploads.read_upload(tmp_path / "more.png", INFO, (32, 32)).reason


@pytest.mark.parametrize("name, told", [("a.heic", True), ("A.HEIF", True), ("a.jpg", False)])
def test_phones_format_is_told_how_to_come_in(tmp_path, name, told):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    reason = uploads.read_upload(tmp_path / name, INFO, (32, 32)).reason
    assert reason.startswith("not an image of a known format") and reason.endswith("convert it to JPEG first") == told
