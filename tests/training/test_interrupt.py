"""StopRequest: the first signal is a wish, the second Ctrl-C ends; handlers are put back."""

import os
import signal
import threading

import pytest

from isra_keras.training.interrupt import Interrupted, StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_a_wish(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), number)
        assert stop.signal == number
    assert signal.getsignal(number) is before


def test_second_ctrl_c_ends_and_second_sigterm_waits():
    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError), StopRequest():
        raise ValueError
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_the_main_thread_it_does_nothing():
    errors = []

    def work():
        try:
            with StopRequest() as stop:
                assert stop.signal is None
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors


def test_interrupted_says_where():
    error = Interrupted(15, 7, "runs/a")
    assert (error.signal, error.step, error.out) == (15, 7, "runs/a") and "step 7" in str(error)
