"""Deletion, insertion and randomisation: a right map wins, a wrong one loses, weights come back."""

import numpy as np
import pytest

from isra_keras.analysis import attention_checks as checks
from tests.analysis.test_attention_maps import images, make


def corner_classifier(stack):
    """Class 1 by the brightness of the upper left quarter."""
    bright = np.asarray(stack)[:, :8, :8].mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - bright, bright], axis=1)


def test_a_right_map_beats_a_wrong_one():
    image = np.zeros((16, 16, 3), "float32")
    image[:8, :8] = 255
    right, wrong = np.zeros((16, 16)), np.zeros((16, 16))
    right[:8, :8], wrong[8:, 8:] = 1, 1
    dark = np.zeros_like(image)
    good = checks.area_curves(corner_classifier, image, right, 1, 8, dark)
    bad = checks.area_curves(corner_classifier, image, wrong, 1, 8, dark)
    assert good["deletion"][0] == good["insertion"][-1] == 1 and good["deletion"][-1] == good["insertion"][0] == 0
    assert good["deletion"][2] == pytest.approx(0) and good["insertion"][2] == pytest.approx(1)  # a quarter is enough
    assert checks.area(good["deletion"]) < 0.2 < 0.5 <= checks.area(bad["deletion"])
    assert checks.area(good["insertion"]) > 0.8 > 0.5 >= checks.area(bad["insertion"])


@pytest.mark.parametrize("kind", ["deletion", "insertion"])
def test_a_map_of_zeros_is_worth_what_noise_is(kind):
    """Ties were taken from the top on: an empty map had 0.9 where the object was there, 0.1 at the bottom."""
    image, zeros = np.zeros((16, 16, 3), "float32"), np.zeros((16, 16))
    image[:4] = 255

    def top(stack):
        return (np.asarray(stack)[:, :4].mean(axis=(1, 2, 3)) / 255)[:, None]

    areas = [checks.area(checks.area_curves(top, image, zeros, 0, 16, zeros[..., None], seed)[kind]) for seed in range(40)]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.1)


def test_area_and_blur():
    assert checks.area([0, 1]) == 0.5 and checks.area([1, 1, 1]) == 1
    image = np.random.default_rng(0).uniform(0, 255, (32, 32, 3))
    assert checks.blurred(image).std() < 0.5 * image.std() and checks.blurred(image).shape == image.shape


def test_rank_correlation():
    heat = np.arange(9.0).reshape(3, 3)
    assert checks.rank_correlation(heat, heat**3) == pytest.approx(1)
    assert checks.rank_correlation(heat, -heat) == pytest.approx(-1)
    assert checks.rank_correlation(heat, np.zeros((3, 3))) == 0


def test_kinds_of_maps_are_compared_on_every_image():
    areas = checks.compare_maps(make(), images(2), [0, 1], steps=4)
    assert set(areas) == {"gradcam", "random", "topics", "strongest topic"}
    for both in areas.values():
        assert both["deletion"].shape == both["insertion"].shape == (2,)
        assert ((0 <= both["deletion"]) & (both["deletion"] <= 1)).all()


def test_randomisation_changes_the_maps_and_puts_the_weights_back():
    maps = make()
    before = maps.explain(images(2))
    found = checks.randomisation(maps, images(2), [0, 1])
    assert list(found) == ["heads", "bottleneck", "backbone"]
    assert all(values.shape == (2,) for part in found.values() for values in part.values())
    assert abs(found["backbone"]["gradcam"]).max() < 0.999
    after = maps.explain(images(2))
    np.testing.assert_array_equal(before.logits, after.logits)
    np.testing.assert_array_equal(before.topic_maps, after.topic_maps)


def test_maps_that_were_empty_before_the_shuffle_are_not_counted(monkeypatch):
    """They counted as 0, which is what a good map has."""
    heats = iter([np.arange(8.0).reshape(2, 2, 2) * [[[0]], [[1]]]] + [np.arange(8.0).reshape(2, 2, 2)] * 3)
    monkeypatch.setattr(checks, "_both_maps", lambda *given: {"gradcam": next(heats)})
    for part in checks.randomisation(make(), images(2), [0, 1]).values():
        assert np.isnan(part["gradcam"][0]) and part["gradcam"][1] == pytest.approx(1)


def test_weights_come_back_after_an_error():
    maps = make()
    layer = maps.network.get_layer("bottleneck")
    before = [array.copy() for array in layer.get_weights()]
    with pytest.raises(RuntimeError):
        with checks.shuffled_weights([layer]):
            assert any((a != b).any() for a, b in zip(before, layer.get_weights()))
            raise RuntimeError
    for a, b in zip(before, layer.get_weights()):
        np.testing.assert_array_equal(a, b)
