"""Tables of results: `Table` in Markdown, CSV and LaTeX, and the paper's layout of accuracies."""

import io
from dataclasses import dataclass, field

from isra_keras.benchmarking.grid import FOLDERS
from isra_keras.benchmarking.statistics import mean_std, paired, pairs_of
from isra_keras.row_output import csv_writer

NONE = "–"
METHOD_NAMES = {"source_only": "Source only", "cdan": "CDAN+E", "mwpda": "MWPDA", "ba3us": "BA3US"}


@dataclass(frozen=True)
class Value:
    """A number of a table.

    Attributes:
        mean: None where there is none.
        std: over seeds, None for a single one.
        count: seeds, None for a number that is of no seeds or of a mixture of them.
        digits: after the point.
        signed: with a plus.
    """

    mean: float | None
    std: float | None = None
    count: int | None = None
    digits: int = 2
    signed: bool = False

    def text(self, plus_minus=" ± "):
        """ "45.20 ± 1.31"."""
        if self.mean is None:
            return NONE
        number = f"{self.mean:{'+' if self.signed else ''}.{self.digits}f}"
        return number if self.std is None else f"{number}{plus_minus}{self.std:.{self.digits}f}"


@dataclass
class Table:
    """A table: `columns` of names, `rows` of `Value` or str, the first of each row its name."""

    title: str
    columns: list
    rows: list
    note: str = ""
    best: tuple = field(default=())
    """Indices of columns whose largest mean is set in bold."""

    def markdown(self):
        """GitHub's form, with the title above and the note below."""
        bold = self._bold()
        lines = [
            "| " + " | ".join(self.columns) + " |",
            "|" + "|".join(["---"] + ["---:"] * (len(self.columns) - 1)) + "|",
        ]
        for number, row in enumerate(self.rows):
            cells = [_text(cell) for cell in row]
            cells = [f"**{cell}**" if (number, index) in bold else cell for index, cell in enumerate(cells)]
            lines.append("| " + " | ".join(cells) + " |")
        parts = [f"**{self.title}**" if self.title else "", "\n".join(lines), self.note]
        return "\n\n".join(part for part in parts if part)

    def csv_rows(self):
        """Rows table, row, column, value, std, seeds; a text instead of a number stands in "value"."""
        for row in self.rows:
            for column, cell in zip(self.columns[1:], row[1:]):
                value = (cell.mean, cell.std, cell.count) if isinstance(cell, Value) else (cell, None, None)
                yield [self.title, _text(row[0]), column, *("" if part is None else part for part in value)]

    def latex(self):
        """A `table` with booktabs rules."""
        bold = self._bold()
        lines = ["\\begin{table}", "\\centering", f"\\caption{{{_tex(self.title)}}}",
                 f"\\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}", "\\toprule",
                 " & ".join(_tex(name) for name in self.columns) + " \\\\", "\\midrule"]  # fmt: skip
        for number, row in enumerate(self.rows):
            cells = [_tex(_text(cell)) for cell in row]
            cells = [f"\\textbf{{{cell}}}" if (number, index) in bold else cell for index, cell in enumerate(cells)]
            lines.append(" & ".join(cells) + " \\\\")
        note = [f"\\par\\smallskip\\footnotesize {_tex(self.note)}"] if self.note else []
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *note, "\\end{table}"])

    def _bold(self):
        marked = set()
        for column in self.best:
            means = [row[column].mean if isinstance(row[column], Value) else None for row in self.rows]
            known = [round(mean, 2) for mean in means if mean is not None]
            if len(known) > 1:
                marked |= {
                    (n, column) for n, mean in enumerate(means) if mean is not None and round(mean, 2) == max(known)
                }
        return marked


def to_csv(tables):
    """One long CSV of several tables."""
    file = io.StringIO()
    writer = csv_writer(file)
    writer.writerow(["table", "row", "column", "value", "std", "seeds"])
    for table in tables:
        writer.writerows(table.csv_rows())
    return file.getvalue()


def rows_in_order(runs):
    """(method, isra) in the order of the table of methods, without ISRA first."""
    from isra_keras.methods import METHODS

    methods, states = list(METHODS), ["off", "reference", "paper"]
    found = {run.cell.row for run in runs}
    known = [row for method in methods for state in states if (row := (method, state)) in found]
    return known + sorted(found - set(known))


def tasks_in_order(runs):
    """Task names in the order of the dataset."""
    from isra_keras.data.tasks import task_names

    found = {run.cell.task for run in runs}
    if runs[0].cell.dataset == FOLDERS:
        return sorted(found)
    return [name for name in task_names(runs[0].cell.dataset) if name in found]


def method_name(row):
    """ "BA3US", "  + ISRA (paper)" under it."""
    method, isra = row
    name = METHOD_NAMES.get(method, method.upper())
    return name if isra == "off" else f"{name} + ISRA ({isra})"


def accuracy_table(runs, choice, title, note=""):
    """The paper's layout: a row for each method, a column for each task, the average, and ISRA against without.

    Args:
        runs: of one dataset and setting.
        choice: "selected", "last" or "oracle".
        title, note: of the `Table`.

    Returns:
        `Table`; "Avg" is the mean over tasks of each seed that has all tasks, mean ± std over these seeds.
    """
    tasks = tasks_in_order(runs)
    rows = []
    for row in rows_in_order(runs):
        by_place = {run.place: 100 * run.accuracy[choice] for run in runs
                    if run.cell.row == row and run.accuracy[choice] is not None}  # fmt: skip
        cells = [_over_seeds(value for (task, _), value in by_place.items() if task == name) for name in tasks]
        rows.append([method_name(row), *cells, _average(by_place, tasks), *_against_without(runs, row, choice)])
    most = max((row[len(tasks) + 1].count for row in rows if row[len(tasks) + 1].mean is not None), default=0)
    fewer = [f"{row[0]} ({row[len(tasks) + 1].count})" for row in rows if row[len(tasks) + 1].mean is not None
             and row[len(tasks) + 1].count < most]  # fmt: skip
    if fewer:
        note = f"{note} Avg of fewer seeds than the others' {most}, since cells are missing: {', '.join(fewer)}.".strip()
    columns = ["Method", *tasks, "Avg", "Δ", "win/tie/loss", "p (t)", "p (Wilcoxon)"]
    return Table(title, columns, rows, note, best=tuple(range(1, len(tasks) + 2)))


def average_accuracy(runs, row, choice="selected"):
    """`Value` of the "Avg" column, in per cent."""
    by_place = {run.place: 100 * run.accuracy[choice] for run in runs
                if run.cell.row == row and run.accuracy[choice] is not None}  # fmt: skip
    return _average(by_place, tasks_in_order(runs))


def cost_table(runs, title):
    """Seconds and memory of each row: the least of its cells, as others may have shared the machine, or the process, with more."""
    rows = []
    for row in rows_in_order(runs):
        every = [run.line for run in runs if run.cell.row == row]
        lines = [line for line in every if not (line.get("warm") or _went_on(line))] or every
        whole = [line for line in lines if not _went_on(line)]
        fastest = min(whole, key=lambda line: line["seconds"], default={})
        rate = max(line["steps_per_second"] for line in lines)
        rows.append([
            method_name(row),
            Value(1000 / rate if rate else None, digits=1),
            Value(fastest.get("seconds"), digits=1),
            Value(fastest.get("evaluation_seconds"), digits=1),
            Value(min(line["peak_memory_mb"] for line in lines), digits=0),
            "/".join(str(number) for number in sorted({line["threads"] for line in lines})),
            str(len(lines)),
        ])  # fmt: skip
    columns = ["Method", "s per 1,000 iterations", "s per cell", "of it evaluating", "peak memory (MB)", "threads", "cells"]
    went_on = " Cells that were interrupted know only the time since they went on, and are left out too."
    return Table(title, columns, rows, "The fastest of the method's cells; seconds include compiling. Peak memory: the "
                 "smallest of them, of the whole process, which keeps some of the cells before. Cells that took over the "
                 "compiled steps of another are left out. Rows of other threads, or of few cells, are no comparison: "
                 "benchmarks/method_costs.py makes one, each method in a fresh process."
                 + went_on * any(_went_on(run.line) for run in runs))  # fmt: skip


def _went_on(line):
    """Whether the cell was interrupted: it says so, or, in older lines, knows too few seconds for all of its steps."""
    most = (line["seconds"] - line["evaluation_seconds"]) * (line["steps_per_second"] + 0.05)  # the rate is rounded to 0.1
    return bool(line.get("resumed_at")) or most < line["config"]["iterations"]


def _against_without(runs, row, choice):
    """Δ, win/tie/loss and both p of ISRA against the same method without it."""
    first, second = ([], []) if row[1] == "off" else pairs_of(runs, row, (row[0], "off"), choice)
    if not first:
        return [""] * 4
    found = paired(first, second)
    return [
        Value(100 * found.difference, signed=True),
        f"{found.wins}/{found.ties}/{found.losses}",
        p_text(found.p_t),
        p_text(found.p_wilcoxon),
    ]


def p_text(value):
    """ "0.012", "< 0.001" or a dash."""
    return NONE if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _over_seeds(values, digits=2):
    values = list(values)
    return Value(*mean_std(values), len(values), digits) if values else Value(None)


def _average(by_place, tasks):
    seeds = sorted({seed for _, seed in by_place})
    whole = [seed for seed in seeds if all((task, seed) in by_place for task in tasks)]
    return _over_seeds(sum(by_place[task, seed] for task in tasks) / len(tasks) for seed in whole)


def _text(cell):
    return cell.text() if isinstance(cell, Value) else str(cell)


_TEX = str.maketrans({
    "\\": "\\textbackslash{}", "_": "\\_", "%": "\\%", "&": "\\&", "#": "\\#", "$": "\\$", "{": "\\{", "}": "\\}",
    "^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "±": "$\\pm$", "Δ": "$\\Delta$", "–": "--", "<": "$<$",
    ">": "$>$", "→": "$\\to$", "×": "$\\times$",
})  # fmt: skip


def _tex(text):
    return text.translate(_TEX)
