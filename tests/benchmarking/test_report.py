"""The report: from lines alone, label-free apart from oracle, beside the published numbers."""

import pytest

from isra_keras.benchmarking.report import build_report, write_report
from isra_keras.errors import UserError
from tests.benchmarking.lines import failed, line


def lines_of(dataset="pacs_features", task="A-C"):
    return [
        line(task, "source_only", dataset=dataset, accuracies=(0.5, 0.55)),
        line(task, dataset=dataset, accuracies=(0.7, 0.6)),
        line(task, isra="paper", dataset=dataset, accuracies=(0.5, 0.66)),
    ]


def test_all_sections_and_no_number_without_a_line():
    text, tables = build_report([*lines_of(), failed(task="A-P")], "the command")
    assert "```\nthe command\n```" in text and "Failed cells" in text and "ValueError: too / bad" in text
    label_free, oracle = (
        text.split(f"### {name}")[1].split("###")[0] for name in ("Label-free selection", "Oracle selection")
    )
    assert "| BA3US | 60.00 |" in label_free and "70.00" not in label_free
    assert "| BA3US | **70.00** |" in oracle and "UPPER BOUND" in oracle
    assert "published" not in text and len({table.title for table in tables}) == len(tables)


def test_same_lines_same_text():
    assert build_report(lines_of())[0] == build_report(lines_of())[0]


def test_published_numbers_and_the_difference():
    text, _ = build_report(lines_of("office_home", "Ar-Cl"))
    part = text.split("### Beside the published numbers")[1].split("###")[0]
    assert "| published | 60.62 | 75.98 |" in part and "| difference | -0.62 | -15.98 |" in part
    assert "| published | 64.66 |" in part and "| difference | +1.34 |" in part


def test_settings_do_not_mix():
    text, _ = build_report([line(), line(given={"iterations": 5})])
    assert "## pacs_features\n" in text and "## pacs_features (iterations 5)" in text


def test_files(tmp_path):
    paths = write_report(lines_of(), tmp_path / "R.md", tmp_path / "R.csv", tmp_path / "R.tex", "c")
    assert [path.name for path in paths] == ["R.md", "R.csv", "R.tex"]
    assert (tmp_path / "R.tex").read_text().count("\\begin{table}") == (tmp_path / "R.md").read_text().count("\n### ")
    assert "label-free selection,BA3US,A-C,60.0,,1" in (tmp_path / "R.csv").read_text()
    with pytest.raises(UserError, match="finished cell"):
        write_report([failed()], tmp_path / "S.md")
    assert not (tmp_path / "S.md").exists()
