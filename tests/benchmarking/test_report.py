"""The report: from lines alone, label-free apart from oracle, beside the published numbers."""

import pytest

from isra_keras.benchmarking.choosing import describe_choices
from isra_keras.benchmarking.report import build_report, write_report
from isra_keras.benchmarking.report_parts import groups_of
from isra_keras.benchmarking.statistics import runs_of
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
    assert "| BA3US, published | 60.62 | 60.62 |" in part and "| BA3US, difference | -0.62 | -0.62 |" in part, "of the tasks that ran"
    assert "of these 1 tasks alone" in part
    assert ", published | 64.66 |" in part and ", difference | +1.34 |" in part


def test_settings_do_not_mix():
    text, _ = build_report([line(), line(given={"iterations": 5})])
    assert "## pacs_features\n" in text and "## pacs_features (iterations 5)" in text


def with_bottleneck(name, entry):
    entry["config"]["network_options"] = {"bottleneck": name} if name else {}
    return entry


def test_isra_with_another_bottleneck_is_also_compared_with_its_own():
    rows = [with_bottleneck(None, line(accuracies=(0.8,), entropies=(0.1,))),
            with_bottleneck("bn", line(isra="paper", accuracies=(0.7,), entropies=(0.1,)))]  # fmt: skip
    text, _ = build_report(rows)
    assert "the same bottleneck" not in text and "| BA3US | own |" in text and "| BA3US + ISRA (paper) | bn |" in text
    given = {"network_options": {"bottleneck": "bn"}}
    rows.append(with_bottleneck("bn", line(accuracies=(0.6,), entropies=(0.1,), given=given)))
    text, _ = build_report(rows)
    ours, same = (text.split(f"### {name}\n")[1].split("###")[0]
                  for name in ("ISRA against without", "ISRA against without, the same bottleneck"))  # fmt: skip
    assert "| -10.00 | 1 | 0/0/1 |" in ours and "| +10.00 | 1 | 1/0/0 |" in same and "BA3US stand" in same
    more = [with_bottleneck(None, line(accuracies=(0.9,), entropies=(0.1,), seed=1)),
            with_bottleneck("bn", line(isra="paper", accuracies=(0.1,), entropies=(0.1,), seed=1))]  # fmt: skip
    text, _ = build_report(rows + more)
    same = text.split("### ISRA against without, the same bottleneck\n")[1].split("###")[0]
    assert "| +10.00 | 1 | 1/0/0 |" in same, "a seed without its bottleneck is no pair"


@pytest.mark.parametrize("order", [1, -1])
def test_the_same_bottleneck_is_of_runs_that_differ_in_nothing_else(order):
    """Whichever group came last was taken."""
    rows = [with_bottleneck(None, line(accuracies=(0.8,), entropies=(0.1,))),
            with_bottleneck("bn", line(isra="paper", accuracies=(0.7,), entropies=(0.1,)))]  # fmt: skip
    given = {"network_options": {"bottleneck": "bn"}}
    right = with_bottleneck("bn", line(accuracies=(0.6,), entropies=(0.1,), given=given))
    wrong = with_bottleneck("bn", line(accuracies=(0.1,), entropies=(0.1,), given=given | {"weight_smoothing": 0.0}))
    wrong["config"]["weight_smoothing"] = 0.0
    text, _ = build_report(rows + [right, wrong][::order])
    same = text.split("### ISRA against without, the same bottleneck\n")[1].split("###")[0]
    assert "| +10.00 | 1 | 1/0/0 |" in same


def test_a_recipe_that_differs_in_more_than_the_plug_in_is_named():
    rows = [line(), line(isra="paper"), line(method="dann"), line(method="dann", isra="paper")]
    rows[1]["config"] |= {"semantic": True, "num_topics": 64, "multipliers": {"class2vec": [10, 2]}}
    assert "With ISRA these train" not in build_report(rows)[0]
    rows[1]["config"] |= {"iterations": 40, "feature_dim": 512}
    text, _ = build_report(rows)
    assert "With ISRA these train with other values than without, so that not all is ISRA's doing: BA3US + ISRA (paper) " in text
    assert "(iterations, feature dim)" in text and "| BA3US + ISRA (paper) | 40 |" in text


def test_files(tmp_path):
    paths = write_report(lines_of(), tmp_path / "R.md", tmp_path / "R.csv", tmp_path / "R.tex", "c")
    assert [path.name for path in paths] == ["R.md", "R.csv", "R.tex"]
    assert (tmp_path / "R.tex").read_text().count("\\begin{table}") == (tmp_path / "R.md").read_text().count("\n### ")
    assert "label-free selection,BA3US,A-C,60.0,,1" in (tmp_path / "R.csv").read_text()
    with pytest.raises(UserError, match="finished cell"):
        write_report([failed()], tmp_path / "S.md")
    assert not (tmp_path / "S.md").exists()


def test_weights_are_named_by_their_file_and_two_of_one_name_stay_apart():
    lines = [line(given={"weights": f"{home}/w.h5", "backbone": "hub:hf://timm/a"}) for home in ("one", "two")]
    first, second = groups_of(runs_of(lines))
    assert 'weights "w.h5"' in first and 'backbone "hub:hf://timm/a"' in first and 'weights "two/w.h5"' in second


def test_a_tie_does_not_depend_on_the_order_of_the_lines():
    equal = [line(method=name, accuracies=(0.5, 0.6)) for name in ("dann", "afn", "san", "source_only")]
    assert build_report(equal, "c")[0] == build_report(equal[::-1], "c")[0]
    assert describe_choices(equal) == describe_choices(equal[::-1])


def test_lines_from_outside_of_git_say_so():
    """ "Commit None" stood there for whoever had installed the package."""
    assert "Commit abc1234, unknown;" in build_report([line(), line(seed=1) | {"commit": None}])[0]


def test_photos_that_changed_between_two_cells_are_told():
    """`--choose` leaves the older ones out; here they stood side by side without a word."""

    def own(method, target):
        return line("a-b", method, dataset="folders") | {"data": {"classes": [2, "c"], "source": [4, "s"], "target": target}}

    told = "The folders of a-b changed between its cells"
    assert told in build_report([own("afn", [3, "x"]), own("drcn", [4, "y"])])[0]
    assert told not in build_report([own("afn", [3, "x"]), own("drcn", [3, "x"])])[0]
