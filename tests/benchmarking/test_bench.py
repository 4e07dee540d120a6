"""benchmarks/bench.py: a page of whatever lines there are, with figures, full results before quick ones."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import bench  # noqa: E402
import measure  # noqa: E402


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, path in (("RESULTS", tmp_path), ("FIGURES", tmp_path / "figures"), ("PAGE", tmp_path / "README.md")):
        monkeypatch.setattr(bench, name, path)
    return tmp_path


def write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_page_of_any_lines(folder):
    write(folder / "semantic_step.jsonl", {"what": "receptors", "speed_up": 12.5, "parts": {"a": 1, "b": 0.25}})
    write(folder / "onednn.jsonl", {"step": "dann", "off_ms": 2.0, "on_ms": 1.0, "off_over_on": 2.0, "commit": "abc", "cores": 2})
    write(folder / "onednn_quick.jsonl", {"step": "dann", "off_ms": 9.0, "on_ms": 1.0, "off_over_on": 9.0})
    bench.write_page()
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "| receptors | 12.5 | a 1, b 0.25 |" in page
    assert "| dann | 2 | 1 | 2 |" in page and "| 9 |" not in page
    assert "commit abc; cores 2." in page
    assert "![oneDNN](figures/onednn.png)" in page and (folder / "figures" / "onednn.png").is_file()


def test_turns_take_the_median_of_each():
    calls = []
    found = measure.turns({"one": lambda: calls.append(1), "two": lambda: calls.append(2)}, rounds=2)
    assert calls == [1, 2, 1, 2, 1, 2] and set(found) == {"one", "two"}
