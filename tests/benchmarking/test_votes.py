"""Packed predictions of a cell."""

import numpy as np
import pytest

from isra_keras.benchmarking.votes import ABSENT, pack, unpack


@pytest.mark.parametrize("classes", [[3], [0, 1, 2, 1, 0, 2, 2, 1, 0], [0, 255], [0, 256, 1], [ABSENT, 1]])
def test_round_trip(classes):
    labels = np.zeros(len(classes), "int32")
    found, correct = unpack(pack(7, classes, labels))
    assert found.tolist() == classes and correct.tolist() == [one == 0 for one in classes]


def test_unknown_labels_say_nothing_of_right_and_wrong():
    assert pack(7, [0, 1], [0, -1])["correct"] is None and pack(7, [0, 1])["correct"] is None
    assert unpack(pack(7, [0, 1]))[1] is None


def test_thousands_of_rows_take_little_room():
    classes = np.random.default_rng(0).integers(0, 4, 4000)
    assert len(pack(1, classes, classes)["classes"]) < 2000


def test_a_broken_text_is_refused():
    with pytest.raises(ValueError, match="packed vote"):
        unpack({"classes": "no", "correct": None})
