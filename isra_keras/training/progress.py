"""What a person sees of a running training: a live bar on a terminal, plain lines elsewhere."""

import sys
import time

PLAIN_SECONDS = 15.0
SHOWN = ("loss", "classification", "adversarial", "alignment")


class Progress:
    """Iteration, losses, iterations/s, remaining time and the last score of the target.

    Args:
        total: steps in all.
        done: steps done before (a resumed run).
        stream: where to; standard error if None.
        quiet: says nothing but `message`.

    Example:
        >>> with Progress(2000) as progress:
        ...     progress.step(1, {"loss": 3.2})
    """

    def __init__(self, total, done=0, stream=None, quiet=False):
        self.total, self.done, self.quiet = int(total), int(done), quiet
        self.stream = stream or sys.stderr
        self.live = None
        self.first, self.started, self.spoken = int(done), time.monotonic(), time.monotonic()
        self.paused = 0.0
        self.losses, self.score = "", ""

    def __enter__(self):
        if not self.quiet and self.stream.isatty():
            self.live = _live(self.stream)
            self.task = self.live.add_task("training", total=self.total, completed=self.done, losses="", score="", rate="")
            self.live.start()
        return self

    def __exit__(self, *error):
        if self.live is not None:
            self.live.stop()

    def step(self, step, logs=None):
        """A step was done.

        Args:
            step: steps done.
            logs: {name: float} of losses, or None where they were not fetched.
        """
        self.done = step
        if logs:
            self.losses = " ".join(f"{_short(name)} {logs[name]:.3f}" for name in SHOWN if name in logs)
        if self.live is not None:
            self.live.update(self.task, completed=step, losses=self.losses, rate=f"{self.rate():.1f} it/s")
        elif not self.quiet and time.monotonic() - self.spoken > PLAIN_SECONDS:
            self._line()

    def evaluating(self, rows, total):
        """Rows of the target predicted so far."""
        if self.live is not None:
            self.live.update(self.task, score=f"evaluating {rows}/{total}")

    def evaluated(self, entry, best, seconds=0.0):
        """An evaluation is done.

        Args:
            entry: line of metrics.jsonl.
            best: whether it was selected.
            seconds: it took; not counted in it/s.
        """
        self.paused += seconds
        name, value = next(iter(entry["scores"].items()))
        self.score = f"target {name.replace('_', ' ')} {value:.4f}" + (" (best)" if best else "")
        if self.live is not None:
            self.live.update(self.task, score=self.score)
        elif not self.quiet:
            self._line()

    def message(self, text):
        """A sentence for the person, above the bar."""
        if self.live is not None:
            self.live.console.print(text, markup=False, emoji=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)

    def rate(self):
        """Steps per second of training, without the evaluations."""
        seconds = time.monotonic() - self.started - self.paused
        return (self.done - self.first) / seconds if seconds > 0 else 0.0

    def _line(self):
        self.spoken = time.monotonic()
        rate = self.rate()
        left = f", {_clock((self.total - self.done) / rate)} left" if rate > 0 else ""
        parts = [f"{self.done}/{self.total}", self.losses, f"{rate:.1f} it/s{left}", self.score]
        print(" · ".join(part for part in parts if part), file=self.stream, flush=True)


def _live(stream):
    """The bar, and below it, where 80 columns have room, losses and score."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class TwoLines(Progress):
        def get_renderables(self):
            yield from super().get_renderables()
            for task in self.tasks:
                yield Text.assemble("  ", task.fields["losses"], "  ", (task.fields["score"], "green"), overflow="ellipsis")

    columns = (MofNCompleteColumn(), BarColumn(bar_width=24), TextColumn("{task.fields[rate]}"), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    return TwoLines(*columns, console=Console(file=stream), refresh_per_second=4)


def _short(name):
    return {"classification": "class", "adversarial": "adv", "alignment": "align"}.get(name, name)


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
