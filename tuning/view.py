"""The live table of a search: values, score, best so far, time left; plain lines where there is no terminal."""

import re
import sys
import time

from tuning.objectives import ORACLE
from tuning.records import best_row, read_rows

MARK = "*"


class View:
    """Watches a search folder.

    Args:
        folder: search folder.
        objective: `SearchObjective`.
        names: searched names, in order.
        max_trials: int.
        workers: processes that run trials; where more of them run, as a chief sees it of other machines', so many.
        seeds: runs of a trial.
        stream: where to; standard output if None.
        quiet: shows nothing.
    """

    def __init__(self, folder, objective, names, max_trials, workers=1, seeds=1, stream=None, quiet=False):
        self.folder, self.objective, self.names, self.max_trials = folder, objective, names, max_trials
        self.workers, self.seeds, self.stream, self.quiet = workers, seeds, stream or sys.stdout, quiet
        self.live, self.told, self.doing, self.shown = None, None, "", 0.0

    def __enter__(self):
        if not self.quiet and self.stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(file=self.stream), refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(self, *error):
        if self.live is not None:
            self.refresh()
            self.live.stop()
            self.live = None

    def trial_began(self, trial):
        """KerasTuner started a trial."""
        self.doing = "starting"
        self.refresh()

    def trial_ended(self, trial):
        """KerasTuner ended a trial."""
        self.doing = ""
        self.refresh()

    def on_step(self, seed, step, total):
        """Progress inside a trial, from this process."""
        if self.live is not None and time.monotonic() - self.shown > 0.5:
            self.doing = f"seed {seed + 1}/{self.seeds}, {100 * step // max(total, 1)} %"
            self.refresh()

    def refresh(self):
        """Reads the folder and shows it."""
        self.shown = time.monotonic()
        if self.quiet:
            return
        rows = read_rows(self.folder)
        if self.live is not None:
            self.live.update(make_table(rows, self.objective, self.names, self.footer(rows), self.doing))
            return
        ended = [row for row in rows if row.status in ("COMPLETED", "FAILED")]
        if self.told is None:
            self.told = set()
            if ended:
                print(f"{len(ended)} trials were there already", file=self.stream)
            self.told |= {row.trial_id for row in ended[:-1]}
        for row in ended:
            if row.trial_id not in self.told:
                self.told.add(row.trial_id)
                print(f"{line(row, self.names)}   [{self.footer(rows)}]", file=self.stream, flush=True)

    def footer(self, rows):
        """ "7 of 12 trials, best 0.412 (trial 3), 1:20 left"."""
        ended = [row for row in rows if row.status in ("COMPLETED", "FAILED")]
        text = f"{len(ended)} of {self.max_trials} trials"
        best = best_row(rows, self.objective.direction)
        if best is not None:
            text += f", best {number(best.score)} (trial {best.trial_id})"
        timed = [row.seconds for row in ended if row.seconds > 0]
        left = self.max_trials - len(ended)
        if timed and left > 0:
            running = sum(row.status == "RUNNING" for row in rows)
            seconds = int(sum(timed) / len(timed) * left / max(self.workers, running, 1))
            text += f", about {seconds // 60}:{seconds % 60:02d} left"
        return text


def make_table(rows, objective, names, footer=None, doing=""):
    """`rich.table.Table` of trials; the best one is marked, why others failed is told below. No number is cut."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text  # what errors say may hold what rich takes as markup

    labelled = not objective.is_oracle and any(ORACLE in row.metrics for row in rows)
    budgets = any(row.budget for row in rows)
    head = [("trial", None), *((name.replace("_", " "), None) for name in names)]
    head += [("evaluations", None)] if budgets else []
    head += [(objective.title, "bold")] + ([("ORACLE accuracy (not used)", "dim")] if labelled else []) + [("s", None)]
    best = best_row(rows, objective.direction)
    lines = []
    for row in rows:
        mark = MARK if best is not None and row.trial_id == best.trial_id else ""
        cells = [f"{row.trial_id}{mark}", *(number(row.values.get(name)) for name in names)]
        cells += [str(row.budget or "")] if budgets else []
        cells += [number(row.score)] + ([percent(row.metrics.get(ORACLE))] if labelled else [])
        state = {"COMPLETED": "best" if mark else "", "FAILED": "failed"}
        cells += [f"{row.seconds:.0f}" if row.seconds else "", state.get(row.status, doing or "running")]
        lines.append((cells, "green" if mark else "red" if row.status == "FAILED" else None))
    told = "\n".join(filter(None, [footer, *failures(rows)]))
    table = Table(caption=Text(told, style="table.caption") if told else None, caption_justify="left", box=SIMPLE, pad_edge=False)
    for place, (title, style) in enumerate(head):
        width = max(map(len, [*title.split(), *(cells[place] for cells, _ in lines)]))
        table.add_column(title, justify="right", style=style, min_width=width)
    table.add_column("", min_width=len("running"), overflow="fold")
    for cells, style in lines:
        table.add_row(*cells, style=style)
    return table


def failures(rows):
    """ "trials 08, 16: out of memory", the trials of a reason together; where a step is named, the first one's."""
    found = {}
    for row in rows:
        if row.status == "FAILED":
            found.setdefault(re.sub(r"\d+", "", row.reason), []).append(row)
    return [f"{'trials' if len(same) > 1 else 'trial'} {', '.join(row.trial_id for row in same)} failed: {same[0].reason}"
            for same in found.values()]  # fmt: skip


def line(row, names):
    """One trial as plain text."""
    values = " ".join(f"{name}={number(row.values.get(name))}" for name in names)
    result = f"failed: {row.reason}" if row.status == "FAILED" else f"score {number(row.score)}"
    return f"trial {row.trial_id}: {values} -> {result} ({row.seconds:.0f} s)"


def number(value):
    """Four digits of a float; texts and ints as they are; nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def percent(value):
    """ "61.25 %", nothing for None."""
    return "" if value is None else f"{100 * value:.2f} %"
