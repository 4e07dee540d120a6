"""Numbers of the tables and their three forms."""

import csv
import io

from isra_keras.benchmarking.statistics import runs_of
from isra_keras.benchmarking.tables import Table, Value, accuracy_table, cost_table, rows_in_order, to_csv
from tests.benchmarking.lines import line


def two_seeds():
    lines = []
    for task, base in (("A-C", 0.5), ("A-P", 0.7)):
        for seed in (0, 1):
            lines.append(line(task, seed=seed, accuracies=(0.9, base + 0.02 * seed)))
            lines.append(line(task, isra="paper", seed=seed, accuracies=(0.9, base + 0.1 + 0.02 * seed)))
    return runs_of(lines)


def test_accuracy_table_known_answer():
    table = accuracy_table(two_seeds(), "selected", "t")
    assert table.columns[:4] == ["Method", "A-C", "A-P", "Avg"]
    plain, isra = table.rows
    assert [cell.text() for cell in plain[1:4]] == ["51.00 ± 1.41", "71.00 ± 1.41", "61.00 ± 1.41"]
    assert isra[0] == "BA3US + ISRA (paper)" and isra[3].text() == "71.00 ± 1.41"
    assert isra[4].text() == "+10.00" and isra[5] == "4/0/0" and plain[4:] == [""] * 4


def test_choices_do_not_mix():
    runs = two_seeds()
    selected, oracle = (accuracy_table(runs, choice, "t").rows[0][1].mean for choice in ("selected", "oracle"))
    assert round(selected) == 51 and round(oracle) == 90


def test_an_average_needs_all_tasks():
    runs = [run for run in two_seeds() if run.place != ("A-P", 1) or run.cell.isra == "off"]
    plain, isra = accuracy_table(runs, "selected", "t").rows
    assert plain[3].count == 2 and isra[3].count == 1 and isra[3].std is None


def test_order_of_rows():
    runs = runs_of([line(isra="paper"), line(method="source_only"), line(), line(isra="reference")])
    assert rows_in_order(runs) == [
        ("source_only", "off"),
        *(("ba3us", state) for state in ("off", "reference", "paper")),
    ]


def test_forms():
    table = Table("A_b", ["Method", "x"], [["one", Value(1.0, 0.5, 2)], ["two", Value(None)]], "note", best=(1,))
    assert "| one | 1.00 ± 0.50 |\n| two | – |" in table.markdown() and table.markdown().endswith("note")
    assert "\\caption{A\\_b}" in table.latex() and "one & 1.00 $\\pm$ 0.50 \\\\" in table.latex()
    rows = list(csv.DictReader(io.StringIO(to_csv([table]))))
    assert rows[0] == {"table": "A_b", "row": "one", "column": "x", "value": "1.0", "std": "0.5", "seeds": "2"}
    assert rows[1]["value"] == ""


def test_latex_takes_any_text_and_has_the_note():
    text = Table("a {b} $5 ~c ^d \\e <1", ["x", "y"], [["r", Value(1.0)]], "an upper bound: 50 %").latex()
    assert "a \\{b\\} \\$5 \\textasciitilde{}c \\textasciicircum{}d \\textbackslash{}e $<$1" in text
    assert text.index("\\end{tabular}") < text.index("an upper bound: 50 \\%") < text.index("\\end{table}")


def test_best_of_a_column_is_bold_ties_too():
    table = Table("", ["m", "x"], [["a", Value(2.0)], ["b", Value(1.0)], ["c", Value(2.001)]], best=(1,))
    assert table.markdown().count("**") == 4 and "| a | **2.00** |" in table.markdown()


def test_cost():
    slow = line(seed=1) | {"seconds": 9.0, "evaluation_seconds": 5.0, "steps_per_second": 10.0, "peak_memory_mb": 950}
    row = cost_table(runs_of([line(), slow | {"threads": 2}]), "t").rows[0]
    assert [cell.text() for cell in row[1:5]] == ["10.0", "3.0", "1.0", "900"] and row[5:] == ["1/2", "2"]


def test_an_average_of_fewer_seeds_says_so():
    rows = [line(task, method, seed=seed, dataset="pacs_features") for task in ("A-C", "A-P") for method in ("afn", "drcn")
            for seed in (0, 1) if (task, method, seed) != ("A-P", "drcn", 1)]  # fmt: skip
    assert "Avg of fewer seeds than the others' 2, since cells are missing: DRCN (1)." in accuracy_table(runs_of(rows), "last", "t").note
    assert "fewer" not in accuracy_table(runs_of(rows[:4]), "last", "t").note


def test_pairs_of_task_and_seed_are_no_seeds():
    """The CSV said that a gain over two tasks and two seeds was of four seeds."""
    rows = csv.DictReader(io.StringIO(to_csv([accuracy_table(two_seeds(), "selected", "t")])))
    seeds = {row["column"]: row["seeds"] for row in rows if row["row"] == "BA3US + ISRA (paper)"}
    assert seeds["Avg"] == "2" and seeds["Δ"] == ""


def test_a_cell_that_went_on_is_not_the_fastest():
    """Its seconds are those since it went on."""
    rest = line(seed=1) | {"seconds": 0.5, "evaluation_seconds": 0.1, "steps_per_second": 90.0, "resumed_at": 10}
    table = cost_table(runs_of([line(), rest]), "t")
    assert [cell.text() for cell in table.rows[0][1:4]] == ["10.0", "3.0", "1.0"] and table.rows[0][-1] == "1"
    assert "interrupted" in table.note and "interrupted" not in cost_table(runs_of([line()]), "t").note
    assert [cell.text() for cell in cost_table(runs_of([rest]), "t").rows[0][1:4]] == ["11.1", "–", "–"]


def test_a_cell_that_went_on_is_known_by_its_seconds():
    """Lines of older versions do not say so: one of 8.6 s was given as what a cell of ETN costs."""
    rest = line(seed=1) | {"seconds": 1.1, "steps_per_second": 100.0}  # ten of twenty steps
    assert [cell.text() for cell in cost_table(runs_of([line(), rest]), "t").rows[0][1:4]] == ["10.0", "3.0", "1.0"]
