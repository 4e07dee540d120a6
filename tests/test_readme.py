"""README.md says what is so: its figures are the committed results, its commands and options exist."""

import re
from pathlib import Path

import pytest

from isra_keras.cli import VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_table_of_glyphs_is_the_committed_one():
    lines = (ROOT / "benchmarks" / "results" / "glyphs_variants.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if re.match(r"\| (source only|BA3US|ISRA)", line)]
    assert len(rows) == 8  # four label-free, four of the upper bound
    for row in rows[:4]:
        assert row in README, row


@pytest.mark.slow
def test_results_are_what_their_own_command_makes(tmp_path, monkeypatch):
    from isra_keras.benchmark import main

    text = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    command = next(line for line in text.splitlines() if line.startswith("python -m isra_keras.benchmark --report"))
    monkeypatch.chdir(ROOT)
    main([*command.split()[3:-1], str(tmp_path / "RESULTS.md")])
    made = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert made.replace(str(tmp_path / "RESULTS.md"), "RESULTS.md") == text


def test_commands_exist():
    named = set(re.findall(r"python -m isra_keras\.(\w+)", README))
    assert {"train", "evaluate", "predict", "doctor", "benchmark", "analyze"} <= named
    assert {verb for verb in named if verb not in VERBS} <= {"tuning"}


def test_options_exist(capsys):
    from isra_keras.train import build_parser

    known = {option for action in build_parser()._actions for option in action.option_strings}
    commands = re.findall(r"python -m isra_keras\.train ([^\n`#]*)", README)
    assert commands
    for option in re.findall(r"--[\w-]+", " ".join(commands)):
        assert option in known, option


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:src=\"|\]\()([\w./-]+)", README))))
def test_linked_files_exist(path):
    assert (ROOT / path).exists()
