"""The command: what it refuses, how it starts, what it leaves, and SIGKILL in the middle of a trial."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from isra_keras.data.domain import Domain, Task
from isra_keras.errors import UserError
from isra_keras.training.record import folder_lock
from tuning import records, search
from tuning.view import View

ROOT = Path(__file__).parents[2]
SMALL = ["--method", "source_only", "--iterations", "4", "--eval-interval", "2", "--batch-size", "8", "--feature-dim", "8",
         "--search", "class2vec_weight", "--num-topics", "4", "--max-trials", "2", "--tuner", "random"]  # fmt: skip


def test_help_loads_nothing_heavy():
    code = ("import sys; from tuning import search\ntry: search.main(['--help'])\nexcept SystemExit: pass\n"
            "print([name for name in ('tensorflow', 'keras', 'keras_tuner') if name in sys.modules])")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]") and "--compare-objectives" in done.stdout


@pytest.mark.parametrize("words, text", [
    (["--max-trials", "0"], "--max-trials"), (["--objective", "accuracy"], "sel:mean_entropy"),
    (["--also", "colour"], "colour"), (["--seeds", "0"], "--seeds"), (["--lease", "0"], "--lease"),
    (["--search-seed", "-1"], "--search-seed"), (["--lease", "nan"], "--lease"), (["--lease", "inf"], "--lease"),
    (["--distribute", "mirrored"], "--distribute none .*received 'mirrored'"), (["--sync-batch-norm"], "--sync-batch-norm"),
])  # fmt: skip
def test_impossible_values_are_refused(words, text, tmp_path):
    with pytest.raises(UserError, match=text):
        search.main([*words, "--out", str(tmp_path / "s")])
    assert not (tmp_path / "s").exists()


def test_what_is_given_is_the_base_and_is_not_searched():
    args = search.build_parser().parse_args(["--num-topics", "16", "--objective", "sel:snd", "--seed", "7"])
    config, given, objective = search.base_configuration(args)
    assert config.num_topics == 16 and config.select == "snd" == objective.select and config.seed == 7
    assert "num_topics" in given
    args = search.build_parser().parse_args(["--objective", "oracle"])
    config, _, objective = search.base_configuration(args)
    assert objective.is_oracle and config.select == "mean_entropy"


def test_view_tells_each_trial_once(tmp_path, capsys):
    folder = tmp_path / "trial_0"
    folder.mkdir()
    state = {"trial_id": "0", "status": "COMPLETED", "score": 0.5, "message": None,
             "hyperparameters": {"values": {"num_topics": 8}}}  # fmt: skip
    args = search.build_parser().parse_args([])
    objective = search.base_configuration(args)[2]
    with View(tmp_path, objective, ["num_topics"], 3) as view:
        view.refresh()
        (folder / "trial.json").write_text(json.dumps(state))
        view.refresh()
        view.refresh()
    out = capsys.readouterr().out
    assert out.count("trial 0: num_topics=8 -> score 0.5") == 1 and "1 of 3 trials" in out


def test_table_cuts_no_number_at_eighty_columns():
    from io import StringIO

    from rich.console import Console

    from tuning.view import make_table

    values = {"class2vec_weight": 0.00083141, "alignment_weight": 0.00033333, "num_topics": 128}
    metrics = {"oracle:accuracy": 0.1976}
    rows = [records.Row(f"{k:02d}", "COMPLETED", values, 3.548 + k, metrics, [], 138.0) for k in range(2)]
    rows += [records.Row(f"{k:02d}", "FAILED", values, reason=f"out of memory: a long sentence, at step {k}") for k in (2, 3)]
    out = Console(file=StringIO(), width=80)
    out.print(make_table(rows, search.goals.parse_objective("sel:mean_entropy"), list(values)))
    text = out.file.getvalue()
    assert text.count("0.0008314") == 4 == text.count("0.0003333") and "19.76 %" in text and "…" not in text
    assert "trials 02, 03 failed: out of memory: a long sentence, at step 2" in text, "not letter by letter in a column"
    assert "00*" in text and "best" in text and max(map(len, text.splitlines())) <= 80


def test_square_brackets_are_no_markup(tmp_path, capsys):
    """A trial that failed with a path in brackets ended the search with a traceback, at every start."""
    from rich.console import Console

    from tuning.view import make_table

    reason = "ValueError: no layer [/job:localhost] in [dim]this[/dim]"
    Console(width=200).print(make_table([records.Row("0", "FAILED", {"x": 1}, reason=reason)],
                                        search.goals.parse_objective("sel:mean_entropy"), ["x"], "1 of 3 trials"))  # fmt: skip
    assert f"1 of 3 trials trial 0 failed: {reason}" in " ".join(capsys.readouterr().out.split())
    assert search.main(["--dry-run", "--out", str(tmp_path / "a [b]")]) == 0
    assert "[b]" in capsys.readouterr().out


def act_as(name, monkeypatch):
    """This process is the chief or a worker of a cluster."""
    for key, value in (("TUNER_ID", name), ("ORACLE_IP", "127.0.0.1"), ("ORACLE_PORT", "1")):
        monkeypatch.setenv(f"KERASTUNER_{key}", value)
    monkeypatch.setenv("ISRA_TUNE_PATIENCE", "0.1")


def words(out, *more):
    return [*SMALL, "--out", str(out), *more]


@pytest.fixture
def steps(monkeypatch):
    """What the command came to: the trials' status is 7, so that nothing is concluded after them."""
    made = []
    monkeypatch.setattr(search, "_search", lambda *args: made.append("trials") or 7)
    monkeypatch.setattr(search, "conclude", lambda *args: made.append("conclusion") or 0)
    return made


def ended(out, count=2):
    """Makes the folder's search a finished one."""
    for number in range(count):
        state = {"trial_id": str(number), "status": "COMPLETED", "score": 0.5, "message": None,
                 "hyperparameters": {"values": {"class2vec_weight": 1.0}}}  # fmt: skip
        (out / f"trial_{number}").mkdir()
        (out / f"trial_{number}" / "trial.json").write_text(json.dumps(state))


def some_task(value=0.0, label=0):
    rows = np.full((9, 2), value, "float32")
    source, target = (Domain("d", ("a",), np.full(9, item, "int32"), None, rows) for item in (0, label))
    return Task("t", source, target, ("a",), None, "features", None)


def test_worker_waits_for_the_search_and_takes_part_in_no_other(tmp_path, monkeypatch, steps):
    out = tmp_path / "s"
    act_as("worker0", monkeypatch)
    with pytest.raises(UserError, match="Start the chief with the same --out"):
        search.main(words(out))
    assert not out.exists()
    act_as("chief", monkeypatch)
    assert search.main(words(out)) == 7
    text = (out / "search.json").read_text()
    act_as("worker0", monkeypatch)
    for more in (["--seeds", "2"], ["--num-topics", "8"], ["--also", "receptor_l1"]):
        with pytest.raises(UserError, match="search.seeds 1 -> 2|config.num_topics 4 -> 8|space.receptor_l1"):
            search.main(words(out, *more))
    assert search.main(words(out, "--max-trials", "9")) == 7 and steps == ["trials"] * 2
    assert (out / "search.json").read_text() == text


def test_worker_with_other_data_is_refused(tmp_path, monkeypatch):
    act_as("worker0", monkeypatch)
    args = search.build_parser().parse_args(words(tmp_path))
    config, _, objective = search.base_configuration(args)
    records.check_manifest(tmp_path, records.manifest(config, (), {}))
    monkeypatch.setattr(search, "load_images", lambda config: some_task(1.0))
    with pytest.raises(UserError, match="to name its data"):
        search._run_tuner(args, tmp_path, config, objective, ())
    records.add_data(tmp_path, records.fingerprint(some_task()))
    text = (tmp_path / "search.json").read_text()
    with pytest.raises(UserError, match="data.target 9 samples"):
        search._run_tuner(args, tmp_path, config, objective, ())
    assert (tmp_path / "search.json").read_text() == text


def test_labels_that_are_asked_for_are_missed_before_the_first_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "load_images", lambda config: some_task(label=-1))
    for more, text in ((["--compare-objectives"], "--compare-objectives"), (["--objective", "oracle"], "oracle")):
        args = search.build_parser().parse_args(words(tmp_path, *more))
        config, _, objective = search.base_configuration(args)
        with pytest.raises(UserError, match=f"Expected target labels for .*{text}"):
            search._run_tuner(args, tmp_path, config, objective, ())


def test_refused_command_can_be_corrected_in_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "load_images", lambda config: some_task(label=-1))
    with pytest.raises(UserError, match="Take a score: sel:mean_entropy"):
        search.main(words(tmp_path, "--objective", "oracle"))
    monkeypatch.setattr(search, "_run_tuner", lambda *args: 7)
    assert search.main(words(tmp_path, "--objective", "sel:mean_entropy")) == 7
    assert records.read_manifest(tmp_path)["search"]["objective"] == "sel:mean_entropy"


def test_a_score_that_needs_the_source_can_be_the_objective_of_runs_that_select_by_another(tmp_path, monkeypatch):
    """It was missing after a whole trial, with a traceback, at every start."""
    draw = np.random.default_rng(0)
    source, target = (Domain(name, ("a", "b", "c"), np.arange(24) % 3, None, draw.normal(size=(24, 6)).astype("float32"))
                      for name in ("s", "t"))  # fmt: skip
    task = Task("s-t", source, target, ("a", "b", "c"), None, "features", None)
    monkeypatch.setattr(search, "load_images", lambda config: task)
    monkeypatch.setattr(search, "conclude", lambda *args: 0)
    given = words(tmp_path, "--objective", "sel:dev", "--select", "mean_entropy", "--max-trials", "1", "--backbone", "features",
                  "--weights", "none", "--quiet")  # fmt: skip
    assert search.main(given) == 0
    (row,) = records.read_rows(tmp_path)
    assert row.status == "COMPLETED" and np.isfinite(row.metrics["sel:dev"])


def test_sigterm_ends_the_supervisor_as_ctrl_c_does(tmp_path, monkeypatch):
    """It died at once, and its workers with it, by SIGKILL in the middle of trials that this was counted against."""
    left = []

    class Processes:
        def __init__(self, *args):
            pass

        def __enter__(self):
            return self

        def __exit__(self, kind, error, trace):
            left.append(kind)

        def watch(self):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(search.local, "LocalCluster", Processes)
    with pytest.raises(KeyboardInterrupt):
        search.main(words(tmp_path / "s", "--local-workers", "2", "--quiet"))
    assert left == [KeyboardInterrupt] and signal.getsignal(signal.SIGTERM) == before


def test_after_the_end_a_worker_leaves_and_a_chief_still_serves(tmp_path, monkeypatch, steps):
    assert search.main(words(tmp_path)) == 7
    ended(tmp_path)
    steps.clear()
    monkeypatch.setattr(search, "load_images", lambda config: some_task())
    act_as("worker9", monkeypatch)
    assert search.main(words(tmp_path)) == 0 and not steps
    act_as("chief", monkeypatch)
    assert search.main(words(tmp_path)) == 7 and steps == ["trials"]
    monkeypatch.delenv("KERASTUNER_TUNER_ID")
    monkeypatch.delenv("KERASTUNER_ORACLE_IP")
    monkeypatch.delenv("KERASTUNER_ORACLE_PORT")
    assert search.main(words(tmp_path)) == 0 and steps == ["trials", "conclusion"]


def test_finished_search_is_not_shown_for_other_data(tmp_path, monkeypatch, steps, capsys):
    assert search.main(words(tmp_path)) == 7
    ended(tmp_path)
    records.add_data(tmp_path, records.fingerprint(some_task()))
    monkeypatch.setattr(search, "load_images", lambda config: some_task(1.0))
    with pytest.raises(UserError, match="data.source 9 samples"):
        search.main(words(tmp_path))

    def gone(config):
        raise UserError("Expected a folder; it is gone.")

    monkeypatch.setattr(search, "load_images", gone)  # moved away: the result is still there
    assert search.main(words(tmp_path)) == 0 and steps == ["trials", "conclusion"]
    assert "not compared" in capsys.readouterr().err


def test_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(search, "_search", full)
    with pytest.raises(UserError, match=f"disk for the search in '{tmp_path}'.* run the same command again"):
        search.main(words(tmp_path))


def test_dry_run_shows_the_space_and_makes_nothing(tmp_path, capsys, steps):
    assert search.main(["--dry-run", "--also", "receptor_l1", "--out", str(tmp_path / "s")]) == 0
    text = capsys.readouterr().out
    assert "8, 16, 32, 64, 128, 256" in text and "receptor_l1" in text and "iterations" in text
    assert not steps and not (tmp_path / "s").exists()


def test_home_is_meant_as_train_means_it(tmp_path, monkeypatch, steps):
    """`--out=~/s`, which a shell leaves as it is, made a folder "~" here."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert search.main([*SMALL, "--out=~/s"]) == 7
    assert (tmp_path / "s" / "search.json").is_file() and not (tmp_path / "~").exists()


def test_dry_run_of_a_grid_shows_what_is_tried(tmp_path, capsys):
    assert search.main(["--dry-run", "--tuner", "grid", "--out", str(tmp_path / "s")]) == 0
    told = capsys.readouterr()
    assert "0.000333333, 0.00182574, 0.01, 0.0547723, 0.3" in told.out and "(log)" not in told.out
    assert "warning: the grid has 150 combinations" in told.err


def test_a_search_that_runs_is_not_concluded_beside_it(tmp_path, monkeypatch, steps):
    assert search.main(words(tmp_path)) == 7
    ended(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(search, "load_images", lambda config: some_task())
    with folder_lock(tmp_path), pytest.raises(UserError, match="alone"):
        search.main(words(tmp_path))
    assert not (tmp_path / "results.md").exists()


def test_finished_search_in_a_folder_that_can_not_be_written_is_shown(tmp_path, monkeypatch, steps, capsys):
    assert search.main(words(tmp_path)) == 7
    ended(tmp_path)
    records.add_data(tmp_path, records.fingerprint(some_task()))
    monkeypatch.undo()
    monkeypatch.setattr(search, "load_images", lambda config: some_task())
    monkeypatch.setattr(search.os, "access", lambda path, mode: False)
    before = sorted(tmp_path.rglob("*"))
    assert search.main(words(tmp_path)) == 0
    told = capsys.readouterr().out
    assert "best: trial 0" in told and "can't be written" in told and "--resume" not in told
    assert sorted(tmp_path.rglob("*")) == before


def start(out):
    command = [sys.executable, "-m", "tuning.search", *SMALL, "--out", str(out)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"})  # fmt: skip


@pytest.mark.slow
def test_command_goes_on_after_a_kill_and_leaves_what_it_says(tmp_path):
    pytest.importorskip("keras_tuner")
    out = tmp_path / "s"
    process, ends = start(out), time.monotonic() + 200
    while not (out / "trial_1").is_dir():
        assert process.poll() is None and time.monotonic() < ends
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    first = records.read_rows(out)[0]
    text, errors = start(out).communicate(timeout=300)
    rows = records.read_rows(out)
    assert [row.status for row in rows] == ["COMPLETED"] * 2, errors
    assert rows[0].outcomes == first.outcomes  # not run again
    assert "isra_keras.train --out" in text and "1 trials were there already" in text
    for name in ("results.md", "best.json", "best/config.json", "figures/values.png", "tensorboard"):
        assert (out / name).exists(), name
