"""Models vote."""

import numpy as np
import pytest

from isra_keras.selection.committee import agreement, chosen, vote


def test_most_votes_win_and_ties_go_to_the_class_with_more_votes_elsewhere():
    winners, shares = vote([[4, 1, 2, 0], [4, 2, 1, 1], [3, 2, 0, 1], [4, 1, 0, 0]])
    assert winners.tolist() == [4, 1, 0, 1] and shares.tolist() == [0.75, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("members", [1, 2, 7])
def test_equals_counting(members):
    classes = np.random.default_rng(members).integers(0, 5, (members, 300))
    winners, shares = vote(classes)
    everywhere = np.bincount(classes.ravel(), minlength=5)
    for column, winner, share in zip(classes.T, winners, shares):
        counts = np.bincount(column, minlength=5)
        assert counts[winner] == counts.max() == round(share * members)
        assert winner == max((one for one in column if counts[one] == counts.max()), key=lambda one: everywhere[one])


def test_last_of_all_the_earliest_member_decides():
    assert vote([[0, 1], [1, 0]])[0].tolist() == [0, 1]


def test_at_odds_the_steady_member_decides():
    """More than a third of the votes is asked for: two of six are no more."""
    classes = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 2, 2], [2, 3, 2], [3, 4, 3]])
    assert vote(classes)[0].tolist() == [0, 0, 1] and vote(classes)[1][1] == 2 / 6
    assert vote(classes, steady=5)[0].tolist() == [0, 4, 3] and agreement(classes, steady=5)[5] == 2 / 3
    assert vote([[0], [1], [2]], steady=1)[0].tolist() == [1] and vote([[0], [1]], steady=1)[0].tolist() == [0]


@pytest.mark.parametrize(
    ("voters", "members", "steady"),
    [("abcdefghijkS", "abcdefS", 6), ("abSdefghijk", "abSdef", 2), ("abS", "abS", 2), ("abcdefg", "abcde", None),
     ("abcdefSS", "abcdeSS", 5), ("S", "S", 0)],
)  # fmt: skip
def test_the_more_trusted_half_and_source_only_are_chosen(voters, members, steady):
    assert chosen(list(voters), lambda one: one == "S") == (list(members), steady)


def test_agreement_names_the_member_that_stands_for_all():
    found = agreement([[0, 1, 2, 3], [0, 1, 2, 0], [0, 1, 0, 0]])
    assert found.tolist() == [0.75, 1.0, 0.75]


@pytest.mark.parametrize("classes", [[], [0, 1], np.zeros((0, 4), int)])
def test_no_members(classes):
    with pytest.raises(ValueError, match="at least one member"):
        vote(classes)
