"""SIGTERM and Ctrl-C, turned into a wish that is granted between two steps."""

import signal
import threading


class Interrupted(Exception):
    """The run was stopped from outside and its state is saved.

    Attributes:
        signal: number of the signal.
        step: steps done.
        out: run folder.
    """

    def __init__(self, number, step, out):
        super().__init__(f"stopped at step {step}")
        self.signal, self.step, self.out = number, step, out


class StopRequest:
    """While it is open, SIGINT and SIGTERM set `signal` instead of ending the process; the second Ctrl-C ends it.

    Outside of the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self):
        self.signal, self._before = None, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, frame):
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
