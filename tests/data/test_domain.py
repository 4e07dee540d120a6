"""domain: what a list of samples must be."""

import numpy as np
import pytest

from isra_keras.data.domain import Domain


def test_length_labels_and_counts():
    domain = Domain("a", ("x", "y", "z"), [0, 2, -1, 2], tuple("abcd"))
    assert len(domain) == 4 and domain.labels.dtype == np.int32
    assert domain.class_counts.tolist() == [1, 0, 2]


@pytest.mark.parametrize("samples", [{}, {"paths": ("a",), "arrays": np.zeros((1, 2))}])
def test_either_paths_or_arrays(samples):
    with pytest.raises(ValueError, match="either paths or arrays"):
        Domain("a", ("x",), [0], **samples)


def test_a_label_for_each():
    with pytest.raises(ValueError, match="label for each of 2 samples; received 1"):
        Domain("a", ("x",), [0], ("a", "b"))
