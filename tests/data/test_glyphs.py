"""glyphs: equal for equal seeds, the right classes and shapes, a cache that never harms."""

import numpy as np
import pytest

from isra_keras.data import glyphs


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(glyphs, "PER_CLASS", 3)


@pytest.mark.parametrize("make", [glyphs.printed, glyphs.photo])
def test_characters(make):
    images, labels = make(seed=5, per_class=3)
    assert images.shape == (108, 32, 32, 3) and images.dtype == np.uint8 and labels.dtype == np.int32
    assert labels.tolist() == sorted(list(range(36)) * 3)
    again, other = make(5, 3)[0], make(6, 3)[0]
    assert np.array_equal(images, again) and not np.array_equal(images, other)
    assert len({image.tobytes() for image in images}) == 108


def test_printed_is_grey_ink_on_black():
    images, _ = glyphs.printed(0, 3)
    assert (images == images[..., :1]).all()
    ink = images[..., 0].mean((1, 2))
    assert ink.min() > 5 and images.max(axis=(1, 2, 3)).min() > 120
    assert np.median(images[:, 0, 0, 0]) == 0


def test_photo_has_colour_and_the_glyphs_in_it():
    images, _ = glyphs.photo(0, 3)
    assert (images[..., 0] != images[..., 2]).mean() > 0.5
    assert images.std((1, 2, 3)).min() > 5


def test_handwritten_digits():
    from sklearn.datasets import load_digits

    images, labels = glyphs.handwritten()
    assert images.shape == (1797, 32, 32, 3) and set(labels) == set(range(10)) and (np.diff(labels) >= 0).all()
    assert np.bincount(labels).tolist() == np.bincount(load_digits().target).tolist()
    first = load_digits().images[load_digits().target == 0][0] * 255 / 16
    blocks = images[0, ..., 0].reshape(8, 4, 8, 4).mean((1, 3))
    assert np.corrcoef(first.ravel(), blocks.ravel())[0, 1] > 0.97


def test_all_domains_pass_the_same_sampling():
    """Eight cells a side in 17 levels, bilinear between them: no domain is sharper than another."""
    weights = glyphs._interpolation(8, 32)
    np.testing.assert_allclose(weights.sum(1), 1)
    for images in (glyphs.printed(0, 3)[0], glyphs.handwritten()[0][:50]):
        levels = images[..., 0] / 255
        cells = np.linalg.pinv(weights) @ levels @ np.linalg.pinv(weights).T
        np.testing.assert_allclose(cells * 16, np.round(cells * 16), atol=0.2)
        np.testing.assert_allclose(weights @ cells @ weights.T, levels, atol=0.01)


def test_cache(tmp_path):
    first = glyphs.load("printed", 1, tmp_path)
    (path,) = tmp_path.iterdir()
    stamp = path.stat().st_mtime_ns
    assert all(np.array_equal(a, b) for a, b in zip(first, glyphs.load("printed", 1, tmp_path)))
    assert path.stat().st_mtime_ns == stamp
    path.write_bytes(b"damaged")
    assert all(np.array_equal(a, b) for a, b in zip(first, glyphs.load("printed", 1, tmp_path)))
    assert path.stat().st_size > 100  # written anew
    glyphs.load("printed", 2, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert len(glyphs.load("photo", 0, tmp_path / "file")[0]) == 108


def test_unknown_domain():
    with pytest.raises(ValueError, match="printed, handwritten, photo; received 'painted'"):
        glyphs.load("painted")
