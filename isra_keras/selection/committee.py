"""Several models of one target vote: the class that most of them give wins.

A choice of one model stands or falls with that model. Methods that adapt in different ways are wrong in different places,
and a vote outlives a few members that went astray, which no label-free score tells for sure. Source only, which can't go
astray by adapting, always votes, and its answer stays where the others are at odds.
"""

import numpy as np

FEWEST = 3
"""Models that a vote takes: two can only agree or not."""
LEAST_HALF = 5
"""Of fewer models than ten that look sound so many vote, if there are: half of six is too few to outvote one that went astray."""


def chosen(voters, is_source_only):
    """Those of the models that may vote who do: the more trusted half, at least `LEAST_HALF`, and source only.

    Args:
        voters: the models, the most trusted first.
        is_source_only: function of one of them.

    Returns:
        (list of them, in that order; position in it of the source-only model, the most trusted one if there are several, or
        None).
    """
    half = max(LEAST_HALF, (len(voters) + 1) // 2)
    members = [one for number, one in enumerate(voters) if number < half or is_source_only(one)]
    return members, next((number for number, one in enumerate(members) if is_source_only(one)), None)


def vote(classes, steady=None):
    """Plurality of the members' classes.

    Args:
        classes: (M, N) int, the class that each of M members gives each of N rows; at least one member. Of classes with
            equally many votes on a row the one wins that has more votes over all rows, since a target shows some classes
            often and others never; then the one that the earliest member gave.
        steady: member whose class wins where no class has more than a third of the votes, the source-only one; or None.

    Returns:
        (winners (N,) int64, shares (N,) float64 in (0, 1], the largest part of the votes that a class has).

    Raises:
        ValueError: without members, or if the shape is another one.

    Example:
        >>> vote([[0, 1, 2], [0, 2, 1], [1, 2, 0]])[0]
        array([0, 2, 2])
    """
    classes = np.asarray(classes)
    if classes.ndim != 2 or not len(classes):
        raise ValueError(f"Expected classes (members, rows) of at least one member; received shape {classes.shape}.")
    members, rows = classes.shape
    names, positions = np.unique(classes, return_inverse=True)
    positions = positions.reshape(classes.shape)
    counts = np.zeros((rows, len(names)), "int64")
    for given in positions:  # members are few, rows many
        counts[np.arange(rows), given] += 1
    standing = np.where(counts > 0, counts * (classes.size + 1) + counts.sum(axis=0), 0)
    # Of each row the first member whose class stands best.
    first = (standing[np.arange(rows), positions] == standing.max(axis=1, initial=0)).argmax(axis=0)
    if steady is not None:
        first = np.where(3 * counts.max(axis=1, initial=0) > members, first, steady)
    return classes[first, np.arange(rows)].astype("int64"), counts.max(axis=1, initial=0) / members


def agreement(classes, steady=None):
    """(M,) float64 in [0, 1]: the part of the rows on which each member gives what the vote gives.

    The member that agrees most stands for all where only one network can be shipped.

    Args:
        classes, steady: as `vote`.
    """
    classes = np.asarray(classes)
    winners, _ = vote(classes, steady)
    return (classes == winners).mean(axis=1)
