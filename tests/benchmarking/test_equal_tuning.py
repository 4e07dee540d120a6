import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import equal_tuning  # noqa: E402

from tests.benchmarking.lines import failed, line  # noqa: E402


def trial(given, task, entropy, accuracy):
    return line(task, "dann", seed=10, accuracies=(accuracy,), entropies=(entropy,), given=given)


@pytest.fixture()
def lines(tmp_path):
    tuned, fast = {"network_options": {"bottleneck": "bn"}}, {"learning_rate": 0.003}
    rows = [trial({}, "A-C", 0.5, 0.9), trial({}, "P-A", 0.5, 0.9), trial(tuned, "A-C", 0.4, 0.6),
            trial(tuned, "P-A", 0.4, 0.6), trial(fast, "A-C", 0.1, 0.7),
            failed(task="P-A", method="dann", seed=10, given=fast)]  # fmt: skip
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rank_over_tasks_decides_without_labels(lines):
    found = equal_tuning.trials_of([lines])["dann"]
    # Ranks on A-C: 3, 2, 1; on P-A: 2, 1, 3 for the trial that failed. Accuracy would choose the first.
    assert json.loads(equal_tuning.chosen(found, "mean_entropy")) == {"network_options": {"bottleneck": "bn"}}
    assert equal_tuning.accuracy(found["{}"], "mean_entropy") == pytest.approx(90)


def test_tables_say_what_the_labels_would_have_chosen(lines, tmp_path, capsys):
    equal_tuning.main([str(lines), "--score", "mean_entropy", "--out", str(tmp_path / "t.md")])
    text = (tmp_path / "t.md").read_text()
    assert "| DANN | 3 | bn bottleneck | 60.0 | 90.0 | 90.0 |" in text and text.strip() == capsys.readouterr().out.strip()
