"""One thread for the small matrices of the scores."""

import functools

from threadpoolctl import ThreadpoolController


def one_blas_thread(function):
    """A decorator: NumPy's BLAS works with one thread while the function runs.

    These products take microseconds, hundreds of times a fit. Threads that wait for each other, and for TensorFlow's,
    made a fit many times as long, and the order of their sums is not fixed.
    """

    @functools.wraps(function)
    def limited(*args, **kwargs):
        with _controller().limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited


@functools.cache
def _controller():
    return ThreadpoolController()
