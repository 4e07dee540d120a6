import pytest

from isra_keras.errors import NotFinite, UserError
from isra_keras.training.interrupt import Interrupted
from isra_keras.training.recipes import resolve
from tuning import gain
from tuning.objectives import parse_objective
from tuning.records import Row


def trial(number, entropy, accuracy, status="COMPLETED"):
    metrics = {"sel:mean_entropy": entropy} | ({} if accuracy is None else {"oracle:accuracy": accuracy})
    return Row(str(number), status, {"x": number}, entropy, metrics)


def test_settings_are_the_first_trial_the_objectives_choice_and_the_labels_choice():
    rows = [trial(0, 0.9, 0.5), trial(1, 0.1, 0.4), trial(2, 0.5, 0.8), trial(3, 0.0, 0.9, "FAILED")]
    found = gain.settings_of(rows, parse_objective("sel:mean_entropy"))
    assert [(name, row.trial_id) for name, row in found] == list(zip(gain.SETTINGS, "012"))
    with pytest.raises(UserError, match="labels"):
        gain.settings_of([trial(0, 0.9, None)], parse_objective("sel:mean_entropy"))


def test_of_a_longer_search_the_trials_that_are_asked_for_count(tmp_path, monkeypatch):
    """The best of all that lay in the folder was noted as that of three."""
    from tuning import records, search

    rows = [trial(k, 1.0 - k / 10, 0.5 + k / 10) for k in range(5)]
    monkeypatch.setattr(search, "main", lambda words: 0)
    monkeypatch.setattr(records, "read_manifest", lambda folder: {"config": vars(resolve())})
    monkeypatch.setattr(records, "objective_of", lambda folder: parse_objective("sel:mean_entropy"))
    monkeypatch.setattr(records, "read_rows", lambda folder: rows)
    told = []
    monkeypatch.setattr(gain, "train", lambda config, todo, results: told.extend(todo))
    words = ["--task", "printed-photo", "--trials", "3", "--seeds", "1", "--results", str(tmp_path / "r.jsonl")]
    gain.measure(gain.build_parser().parse_args(words), "printed-photo")
    assert [(row["setting"], row["trial"], row["trials"]) for row in told] == [(name, k, 3) for name, k in zip(gain.SETTINGS, "022")]


def test_every_search_has_a_folder_of_its_own():
    """The second objective was refused, with the advice to take another --out, which is the table's."""

    def name(*words):
        return gain.search_folder(gain.build_parser().parse_args(words), "printed", "photo").name

    assert name() == name("--trials", "9") == "glyphs-printed-photo-ba3us"
    assert name("--objective", "sel:snd", "--tuner", "grid", "--iterations", "4") == "glyphs-printed-photo-ba3us-4-snd-grid"


def test_target_labels_choose_nothing_in_the_label_free_table(tmp_path, monkeypatch):
    """`--objective oracle` filled the column "best label-free" with what labels had taken."""
    asked = []
    monkeypatch.setattr(gain, "measure", lambda args, task: asked.append(args.objective))
    for name in ("oracle", "oracle:accuracy", "nothing"):
        with pytest.raises(UserError, match="--objective"):
            gain.main(["--task", "x", "--objective", name])
    words = ["--task", "x", "--out", str(tmp_path / "g.md")]
    assert gain.main([*words, "--objective", "snd"]) == gain.main(words) == 0
    assert asked == ["sel:snd", "sel:mean_entropy"]


def test_table_keeps_the_upper_bound_apart():
    place = {"dataset": "d", "task": "t", "method": "m", "trials": 3, "iterations": 9, "objective": "sel:mean_entropy"}
    rows = [place | {"setting": setting, "seed": seed, "metrics": {"oracle:accuracy": base + 0.02 * seed}}
            for seed in (1, 2) for setting, base in zip(gain.SETTINGS, (0.5, 0.6, 0.7))]  # fmt: skip
    rows.append(place | {"setting": "recipe", "seed": 3, "metrics": {}, "failure": "NaN"})
    label_free, bound = gain.markdown(rows).split("## Upper bound")
    assert "| 53.00 ± 1.41, 2 of 3 | 63.00 ± 1.41 | +10.00 |" in label_free and "73.00" not in label_free
    assert "| 73.00 ± 1.41 | +10.00 |" in bound and "63.00" not in bound
    assert "d +10.00 (1 tasks); all +10.00" in label_free
    assert "all settings give the same" not in bound
    equal = [row | {"metrics": {"oracle:accuracy": 0.5 + 0.02 * row["seed"]}} for row in rows if row["metrics"]]
    assert "all settings give the same" not in gain.markdown(equal), "one trial may be all three"
    equal = [row | {"values": {"num_topics": 8 * (1 + gain.SETTINGS.index(row["setting"]))}} for row in equal]
    assert "In t of d all settings give the same" in gain.markdown(equal)
    assert "+" not in gain.markdown(rows[:2]).split("## Label-free")[1].split("## Upper")[0]  # one setting is missing


def lines(setting, accuracies, **more):
    """A line for each seed; None failed."""
    place = {"dataset": "d", "task": "t", "method": "m", "trials": 3, "iterations": 9, "objective": "sel:mean_entropy"}
    return [place | {"setting": setting, "seed": seed, "values": {}}
            | ({"metrics": {}, "failure": "Expected finite losses"} if value is None else {"metrics": {"oracle:accuracy": value}})
            | more for seed, value in enumerate(accuracies, start=1)]  # fmt: skip


def test_a_mean_is_of_one_setting():
    old, new = ({"alignment_weight": value} for value in (1.0, 0.1))
    rows = lines("recipe", [0.9, 0.9, 0.9], values=old) + lines("recipe", [0.5], values=new)
    rows += lines("label-free", [0.6]) + lines(gain.SETTINGS[2], [0.6])
    assert "| 50.00 (0.1) | 60.00 | +10.00 |" in gain.markdown(rows)


def test_runs_that_failed_are_told():
    others = lines("recipe", [0.9, 0.9, 0.9]) + lines(gain.SETTINGS[2], [0.9])
    assert "failed" not in gain.markdown(others + lines("label-free", [0.9]))
    text = gain.markdown(others + lines("label-free", [0.9, None, None]))
    assert "| 90.00 ± 0.00 | 90.00, 1 of 3 | +0.00 |" in text
    assert "in no mean: label-free of t of d, sel:mean_entropy, 2 of 3 runs." in text
    text = gain.markdown(others + lines("label-free", [None, None, None]))
    assert "| t |" not in text and "3 of 3 runs and so no row." in text


def test_only_a_loss_that_is_not_finite_is_noted(tmp_path, monkeypatch):
    errors, path = [], tmp_path / "r.jsonl"

    def train_seed(*args, **given):
        raise errors.pop()

    monkeypatch.setattr("tuning.trial.train_seed", train_seed)
    monkeypatch.setattr("isra_keras.training.prepare.load_data", lambda config: None)
    monkeypatch.setattr("isra_keras.training.determinism.make_deterministic", lambda: None)
    for error, raised in ((UserError("Expected readable images"), UserError), (Interrupted(2, 3, None), KeyboardInterrupt)):
        errors.append(error)
        with pytest.raises(raised):
            gain.train(resolve(), lines("recipe", [None]), path)
    assert not path.exists()
    errors.append(NotFinite("Expected finite losses"))
    gain.train(resolve(), lines("recipe", [None]), path)
    gain.append(path, lines("recipe", [None], failure="Expected readable images")[0])
    assert len(gain.findings(path)) == 1


def test_recipe_that_changed_is_measured_again_and_the_later_line_counts():
    old = {name: 1 for name in gain.PLACE} | {"setting": "recipe", "seed": 1, "values": {"alignment_weight": 1.0}}
    new = old | {"values": {"alignment_weight": 0.1}}
    assert gain.key(old) != gain.key(new) and gain.key(old) == gain.key(old | {"metrics": {}})
    (settings,) = gain.runs_of([old, new]).values()
    assert settings == {"recipe": {1: new}}
    words = gain.search_words(gain.build_parser().parse_args(["--iterations", "4"]), "s", "printed", "photo")
    config, [(setting, row)] = gain.recipe_of(words)
    assert setting == "recipe" and row.values["alignment_weight"] == config.alignment_weight


def test_trials_of_another_tuner_are_told_apart_and_hyperband_is_refused(capsys):
    place = {"dataset": "d", "task": "t", "method": "m", "trials": 3, "iterations": 9, "objective": "sel:snd"}
    rows = [place | {"setting": setting, "seed": 1, "values": {}, "metrics": {"oracle:accuracy": 0.5}}
            for setting in gain.SETTINGS]  # fmt: skip
    others = [row | {"tuner": "bayesian", "metrics": {"oracle:accuracy": 0.75}} for row in rows]
    assert not set(map(gain.key, rows)) & set(map(gain.key, others))
    text = gain.markdown(rows + others)
    assert "| sel:snd | 50.00 |" in text and "| sel:snd, bayesian | 75.00 |" in text
    with pytest.raises(SystemExit):
        gain.main(["--task", "x", "--tuner", "hyperband"])
    assert "invalid choice: 'hyperband'" in capsys.readouterr().err


@pytest.mark.slow
def test_searches_trains_and_goes_on(tmp_path, capsys):
    words = ["--data", "glyphs", "--task", "printed-handwritten", "--iterations", "4", "--trials", "2", "--seeds", "1",
             "--searches", str(tmp_path / "s"), "--results", str(tmp_path / "r.jsonl"),
             "--out", str(tmp_path / "g.md")]  # fmt: skip
    assert gain.main(words) == 0
    first = (tmp_path / "r.jsonl").read_text()
    assert len(first.splitlines()) == 3 and "| glyphs | printed-handwritten |" in (tmp_path / "g.md").read_text()
    assert gain.main(words) == 0 and (tmp_path / "r.jsonl").read_text() == first


def test_nothing_to_report_is_said(tmp_path):
    with pytest.raises(UserError, match="none"):
        gain.main(["--report", "--results", str(tmp_path / "no.jsonl")])
    with pytest.raises(UserError, match="--task"):
        gain.main(["--data", "glyphs"])
