import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import equal_tuning  # noqa: E402

from isra_keras.errors import UserError  # noqa: E402
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
    # Ranks on A-C: 3, 2, 1; on P-A: 2, 1, and one trial failed. Accuracy would choose the first.
    assert json.loads(equal_tuning.chosen(found, "mean_entropy")) == {"network_options": {"bottleneck": "bn"}}
    assert equal_tuning.accuracy(found["{}"], "mean_entropy", ["A-C"]) == pytest.approx(90)


def test_a_setting_that_failed_anywhere_is_barred(lines):
    found = equal_tuning.trials_of([lines])["dann"]
    found = {name: {"A-C": runs["A-C"]} for name, runs in found.items()}
    best = equal_tuning.chosen(found, "mean_entropy")
    assert json.loads(best) == {"learning_rate": 0.003}
    found[best]["A-S"] = None  # on a task where the others did not even run
    assert json.loads(equal_tuning.chosen(found, "mean_entropy")) == {"network_options": {"bottleneck": "bn"}}


def test_one_setting_for_all_methods_and_variants_of_isra_are_told_apart(tmp_path, capsys):
    values = {("dann", "reference"): 0.3, ("dann", "paper"): 0.2, ("cdan", "reference"): 0.1, ("cdan", "paper"): 0.4}
    rows = [line("A-C", method, isra, seed=10, accuracies=(0.5,), entropies=(entropy,))
            for (method, isra), entropy in values.items()]  # fmt: skip
    rows.append(line("P-A", "dann", "paper", seed=10, accuracies=(0.5,), entropies=(0.2,)))
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = equal_tuning.trials_of([path])
    assert equal_tuning.choices(found, "mean_entropy") == {"dann": '{"isra": "paper"}', "cdan": '{"isra": "reference"}'}
    assert len(set(equal_tuning.choices(found, "mean_entropy", together=True).values())) == 1
    equal_tuning.main([str(path), "--score", "mean_entropy", "--together"])
    assert "ISRA (reference), as before" in capsys.readouterr().out


def test_two_seeds_of_a_trial_are_refused_and_a_failure_of_any_bars_it(lines, tmp_path):
    """The later one was taken, in silence."""
    text, again = lines.read_text(), trial({}, "A-C", 0.5, 0.1)
    again["cell"]["seed"] = 11
    lines.write_text(text + json.dumps(again) + "\n")
    with pytest.raises(UserError, match="two of dann as before on A-C .*seed 10, pacs_features, seed 11"):
        equal_tuning.trials_of([lines])
    for late in (False, True):
        row = json.dumps(failed(task="A-C", method="dann", seed=0)) + "\n"
        lines.write_text(text + row if late else row + text)
        assert equal_tuning.trials_of([lines])["dann"]["{}"]["A-C"] is None


def test_tables_say_what_the_labels_would_have_chosen(lines, tmp_path, capsys):
    equal_tuning.main([str(lines), "--score", "mean_entropy", "--out", str(tmp_path / "t.md")])
    text = (tmp_path / "t.md").read_text()
    assert "| DANN | 3 | bn bottleneck | 60.0 | 90.0 | 90.0 |" in text and text.strip() == capsys.readouterr().out.strip()
