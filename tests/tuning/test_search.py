"""The command: what it refuses, how it starts, what it leaves, and SIGKILL in the middle of a trial."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isra_keras.errors import UserError
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
    rows.append(records.Row("02", "FAILED", values, reason="out of memory: a long sentence that says which"))
    out = Console(file=StringIO(), width=80)
    out.print(make_table(rows, search.goals.parse_objective("sel:mean_entropy"), list(values)))
    text = out.file.getvalue()
    assert text.count("0.0008314") == 3 == text.count("0.0003333") and "19.76 %" in text and "…" not in text
    assert "00*" in text and "best" in text and max(map(len, text.splitlines())) <= 80


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
