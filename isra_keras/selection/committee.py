"""Several models of one target vote: the class that most of them give wins.

A choice of one model stands or falls with that model. Methods that adapt in different ways are wrong in different places,
and a vote outlives a few members that went astray, which no label-free score tells for sure.
"""

import numpy as np


def vote(classes):
    """Plurality of the members' classes.

    Args:
        classes: (M, N) int, the class that each of M members gives each of N rows; at least one member. Of classes with
            equally many votes on a row the one wins that has more votes over all rows, since a target shows some classes
            often and others never; then the one that the earliest member gave.

    Returns:
        (winners (N,) int64, shares (N,) float64 in (0, 1], the winner's part of the votes).

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
    return classes[first, np.arange(rows)].astype("int64"), counts.max(axis=1, initial=0) / members


def agreement(classes):
    """(M,) float64 in [0, 1]: the part of the rows on which each member gives what the vote gives.

    The member that agrees most stands for all where only one network can be shipped.

    Args:
        classes: as `vote`.
    """
    classes = np.asarray(classes)
    winners, _ = vote(classes)
    return (classes == winners).mean(axis=1)
