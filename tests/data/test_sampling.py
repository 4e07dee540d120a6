"""sampling: permutations, independent streams, balanced draws, sizes of the middle batch."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from isra_keras.data.sampling import MiddleSizes, balanced, shuffled, stream_seed


def order(begin, rows, count, seed=1):
    return shuffled(tf.range(begin, begin + rows, dtype=tf.int64), count, seed).numpy()


@given(st.integers(1, 90), st.integers(0, 5), st.integers(0, 2**31 - 1))
@settings(max_examples=25, deadline=None)
def test_every_pass_is_a_permutation(count, number, seed):
    assert sorted(order(number * count, count, count, seed)) == list(range(count))


@given(st.integers(2, 60), st.data())
@settings(max_examples=25, deadline=None)
def test_batches_do_not_depend_on_where_they_are_cut(count, data):
    rows = data.draw(st.integers(1, count))
    begin = data.draw(st.integers(0, 4 * count))
    one_by_one = [int(order(position, 1, count)[0]) for position in range(begin, begin + rows)]
    assert order(begin, rows, count).tolist() == one_by_one


def test_passes_and_seeds_differ():
    first, second, other = order(0, 50, 50), order(50, 50, 50), order(0, 50, 50, seed=2)
    assert first.tolist() != second.tolist() and first.tolist() != other.tolist()
    assert first.tolist() != sorted(first)


def test_no_rows_and_one_sample():
    assert order(7, 0, 5).shape == (0,)
    assert order(7, 1, 1).tolist() == [0]
    assert order(7, 1, 5).dtype == np.int32


def test_far_positions():
    """Past 2^31: a long run over a large domain does not overflow."""
    begin = 1_000_000 * 5_000
    assert sorted(order(begin, 100, 100)) == list(range(100))


def test_stream_seeds():
    names = [(seed, stream) for seed in range(20) for stream in ("source", "target", "middle", "source/augment")]
    seeds = [stream_seed(*name) for name in names]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert stream_seed(0, "source") == 1720027355  # a change breaks the resuming of older runs


def test_balanced_draws_classes_alike():
    labels = np.array([0] * 90 + [1] * 9 + [3] + [-1] * 30, "int32")
    drawn = np.concatenate([balanced(tf.constant(step, tf.int64), 60, labels, 5).numpy() for step in range(50)])
    shares = np.bincount(labels[drawn], minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.04)
    assert len(set(drawn[drawn < 90])) > 85 and drawn.dtype == np.int32


def test_balanced_finds_the_samples_of_mixed_labels():
    labels = np.array([2, -1, 0, 2, 0, 1, -1, 2], "int32")
    drawn = balanced(tf.constant(0, tf.int64), 300, labels, 5).numpy()
    assert set(drawn) == {0, 2, 3, 4, 5, 7}


def test_balanced_depends_on_seed_and_step_alone():
    labels = np.arange(30) % 3
    draw = lambda step, seed: balanced(tf.constant(step, tf.int64), 20, labels, seed).numpy().tolist()  # noqa: E731
    assert draw(4, 1) == draw(4, 1)
    assert draw(4, 1) != draw(5, 1) and draw(4, 1) != draw(4, 2)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.lists(st.integers(0, 30), min_size=1, max_size=8))
@settings(max_examples=50)
def test_middle_sizes_add_up_in_any_order_of_asking(sizes, steps):
    middle = MiddleSizes(sizes)
    full = sizes + [sizes[-1]] * 40
    for step in steps:
        assert middle.at(step) == (sum(full[:step]), full[step])
    assert middle.largest() == max(sizes)


def test_middle_sizes_of_a_function():
    middle = MiddleSizes(lambda step: 12 - step)
    assert middle.at(3) == (12 + 11 + 10, 9)
    assert middle.at(20)[1] == 0  # never fewer than none
    offset, rows = tf.function(middle.tensors)(tf.constant(3, tf.int64))
    assert (int(offset), int(rows)) == (33, 9)


@pytest.mark.parametrize("size", [None, [], [0], lambda step: 0])
def test_no_middle(size):
    assert MiddleSizes(size).largest() == 0


def test_middle_that_begins_late():
    assert MiddleSizes(lambda step: 5 * (step >= 2000)).largest() == 5
