"""What a person sees of a running grid: a table on a terminal, a line a cell elsewhere."""

import sys
import time


class GridProgress:
    """Cells done, failed and left, the cells at work, the time that is left, and the last results.

    Args:
        total: cells to run.
        passed: cells that were done before.
        stream: where to; standard error if None.
        quiet: nothing but failures.
    """

    def __init__(self, total, passed=0, stream=None, quiet=False):
        self.total, self.passed, self.quiet = total, passed, quiet
        self.stream = stream or sys.stderr
        self.started, self.done, self.failed, self.busy = time.monotonic(), 0, 0, 0.0
        self.recent, self.live = [], None
        self.seconds = {}

    def __enter__(self):
        if not self.quiet and self.stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(file=self.stream), refresh_per_second=2, transient=True)
            self.live.start()
        return self

    def __exit__(self, *error):
        if self.live is not None:
            self.live.stop()

    def finished(self, cell, line, seconds, jobs):
        """A cell ended.

        Args:
            cell: `Cell`.
            line: its line.
            seconds: it took.
            jobs: processes at once.
        """
        failed = line["status"] != "done"
        self.done, self.failed = self.done + 1, self.failed + failed
        self.seconds.setdefault(cell.row, []).append(seconds)
        accuracy = (line.get("selected") or {}).get("accuracy")
        what = f"FAILED: {line['reason']}" if failed else "done" if accuracy is None else f"{100 * accuracy:.2f} %"
        text = f"{cell.dataset} {cell.task} {row_name(*cell.row)} seed {cell.seed}: {what} ({seconds:.0f} s)"
        self.recent = [*self.recent, text][-6:]
        if self.live is None and (failed or not self.quiet):
            left = f", {clock(self.left(jobs))} left" if self.done < self.total else ""
            print(f"[{self.done}/{self.total}{left}] {text}", file=self.stream, flush=True)

    def tick(self, workers, waiting):
        """Draws the table anew."""
        self.waiting = waiting
        if self.live is not None:
            self.live.update(self._table(workers))

    def left(self, jobs):
        """Seconds left: what waits at the mean time of its own row, shared among the jobs."""
        every = [value for values in self.seconds.values() for value in values]
        if not every:
            return float("nan")
        mean = sum(every) / len(every)
        rows = {row: sum(values) / len(values) for row, values in self.seconds.items()}
        waiting = getattr(self, "waiting", [])
        return (sum(rows.get(cell.row, mean) for cell in waiting) + 0.5 * jobs * mean) / max(jobs, 1)

    def _table(self, workers):
        from rich.table import Table

        left = self.left(len(workers)) if self.done else float("nan")
        title = f"{self.done} of {self.total} cells, {self.failed} failed, {self.passed} done before"
        if left == left:
            title += f", {clock(left)} left"
        table = Table(title=title, title_justify="left")
        for name in ("task", "method", "seed", "step", "seconds"):
            table.add_column(name, justify="right" if name in ("seed", "step", "seconds") else "left")
        for worker in workers:
            if worker.cell:
                cell, spent = worker.cell, time.monotonic() - worker.started
                step = f"{worker.step}/{worker.total}" if worker.total else "loading"
                table.add_row(cell.task, row_name(*cell.row), str(cell.seed), step, f"{spent:.0f}")
        table.caption = "\n".join(self.recent)
        table.caption_justify = "left"
        return table


def row_name(method, isra):
    """ "ba3us", or "ba3us + ISRA (paper)"."""
    return method if isra == "off" else f"{method} + ISRA ({isra})"


def clock(seconds):
    """ "1:02:03" or "2:03"."""
    if seconds != seconds:
        return "?"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
