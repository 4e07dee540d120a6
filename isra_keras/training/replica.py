"""What a step asks of the replica that it runs on, and which rows are whose; loads no TensorFlow."""


def share(rows, replica, replicas):
    """(start, stop) of the rows that a replica forwards, in the order of the whole batch.

    The shares differ by at most one row: a middle batch has any size, and neither padding, which would enter the
    statistics of batch normalisation, nor a mask is needed. Fewer rows than replicas would leave some with none, and
    these with statistics of nothing: each forwards all of them then.
    """
    if rows < replicas:
        return 0, rows
    return rows * replica // replicas, rows * (replica + 1) // replicas


class Alone:
    """The only replica: the batch is its own."""

    number = 0

    def gather(self, forward, with_images=False):
        """`Views` of the whole batch; `forward()` gives those of this replica's rows."""
        return forward()

    def part(self, loss):
        """The replica's share of a loss of the whole batch."""
        return loss

    def place(self, gradients):
        """Gradients as the optimiser can sum them over replicas."""
        return gradients


ALONE = Alone()
