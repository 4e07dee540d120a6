"""Progress: plain lines where there is no terminal, a bar where there is one, silence when asked."""

import io
import time

import pytest

from isra_keras.training import progress as module
from isra_keras.training.progress import Progress

ENTRY = {"scores": {"mean_entropy": 0.25, "snd": 3.0}}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_line_after_an_evaluation():
    stream = io.StringIO()
    with Progress(100, stream=stream) as progress:
        progress.step(10, {"loss": 2.0, "classification": 1.5, "unknown": 9.0})
        progress.evaluating(5, 10)
        progress.evaluated(ENTRY, best=True)
    line = stream.getvalue()
    assert line.count("\n") == 1 and line.startswith("10/100 · loss 2.000 class 1.500")
    assert "it/s" in line and "left" in line and line.rstrip().endswith("target mean entropy 0.2500 (best)")


def test_plain_lines_between_evaluations_are_rare(monkeypatch):
    stream = io.StringIO()
    with Progress(100, stream=stream) as progress:
        for step in range(1, 50):
            progress.step(step)
        assert stream.getvalue() == ""
        monkeypatch.setattr(module, "PLAIN_SECONDS", 0.0)
        progress.step(50)
    assert stream.getvalue().startswith("50/100")


def test_quiet_says_messages_only():
    stream = io.StringIO()
    with Progress(10, stream=stream, quiet=True) as progress:
        progress.step(1, {"loss": 1.0})
        progress.evaluated(ENTRY, best=False)
        progress.message("a checkpoint is broken")
    assert stream.getvalue() == "a checkpoint is broken\n"


def test_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    stream = Terminal()
    with Progress(10, stream=stream) as progress:
        progress.step(4, {"loss": 1.25})
        progress.evaluating(3, 9)
        progress.evaluated(ENTRY, best=True)
        progress.message("resuming at step 3 of 10")
        progress.message("skipped [/new] bus/[red]:cat:.jpg")
        time.sleep(0.3)
    text = stream.getvalue()
    assert "4/10" in text and "loss 1.250" in text and "0.2500 (best)" in text and "resuming at step 3" in text
    assert "skipped [/new] bus/[red]:cat:.jpg" in text  # a file's name is no markup


def test_rate_leaves_out_evaluations_and_steps_of_an_earlier_process():
    progress = Progress(100, done=50, stream=io.StringIO(), quiet=True)
    progress.started = time.monotonic() - 10.0
    progress.paused = 5.0
    progress.step(60)
    assert progress.rate() == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (65, "1:05"), (3661, "1:01:01")])
def test_clock(seconds, text):
    assert module._clock(seconds) == text
