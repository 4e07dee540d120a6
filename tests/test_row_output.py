"""Rows in a partial file: what a crash leaves, and which rows a later call goes on behind."""

import csv
import io
import sys

import pytest

from isra_keras.errors import UserError
from isra_keras.row_output import KnownRows, open_output


def test_rows_stay_partial_when_something_breaks(tmp_path):
    row = {"path": "a.jpg", "class": "red", "probability": 0.5, "entropy": 0.1, "error": "", "top": [("red", 0.5)]}
    out = tmp_path / "p.csv"
    out.write_text("finished\n")
    with pytest.raises(RuntimeError), open_output(out, "csv", 1, resume=False) as write:
        write(row)
        raise RuntimeError("a disk")
    assert out.read_text() == "finished\n" and "a.jpg" in (tmp_path / "p.csv.part").read_text()


def test_rows_on_standard_output_are_utf_8_as_those_of_a_file_are(monkeypatch):
    """Where the system's encoding is another (LC_ALL=C, latin-1), the first name beyond it ended the command."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    with open_output(None, "csv", 1, resume=False) as write:
        write({"path": "犬.jpg", "class": "x", "probability": 1.0, "entropy": 0.0, "error": "", "top": [("x", 1.0)]})
    assert "犬.jpg,x" in sys.stdout.buffer.getvalue().decode("utf-8")


def test_names_that_come_twice_keep_both_rows(tmp_path):
    """Features of two files whose paths share names: after a kill the second file's rows were passed over."""
    out = tmp_path / "p.csv"
    with pytest.raises(RuntimeError), open_output(out, "csv", 1, resume=False) as write:
        for path in ("a", "b"):
            write({"path": path, "class": "x", "probability": 1.0, "entropy": 0.0, "error": "", "top": [("x", 1.0)]})
        raise RuntimeError
    known = KnownRows(out, "csv")
    assert [known.skip(path) for path in ("a", "b", "a", "c", "b")] == [True, True, False, False, False] and known.skipped == 2


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_without_a_name_are_known(kind, tmp_path):
    """Features may have an empty path: as CSV their rows were written again."""
    out = tmp_path / "p"
    with open_output(out, kind, 1, resume=False) as write:
        for path in ("", "a", ""):
            write({"path": path, "class": "x", "probability": 1.0, "entropy": 0.0, "error": "", "top": [("x", 1.0)]})
    known = KnownRows(out, kind)
    assert [known.skip(path) for path in ("", "a", "", "")] == [True, True, True, False]


def test_rows_whose_names_hold_a_line_feed_are_gone_on_with(tmp_path):
    """A crash within such a name left half of it, which the next rows were written into."""
    _gone_on_with(tmp_path / "p.csv", ["a\nb", 'c"\nd', "e\nf"])


def test_rows_whose_names_hold_a_carriage_return_are_rows(tmp_path):
    """It had no quotes: whoever read the file found two rows, and --resume, that did not know the name, wrote it again."""
    out, paths = tmp_path / "p.csv", ["a\rb", "c\r", "d\r\ne"]
    _gone_on_with(out, paths)
    with open(out, newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["path", *paths]


def _gone_on_with(out, paths):
    """Rows are whole again after a crash at any of their bytes."""
    rows = [{"path": path, "class": "x", "probability": 1.0, "entropy": 0.0, "error": "", "top": [("x", 1.0)]} for path in paths]
    with open_output(out, "csv", 1, resume=False) as write:
        [write(row) for row in rows]
    whole = out.read_bytes()
    for cut in range(len(whole)):
        out.with_name("p.csv.part").write_bytes(whole[:cut])
        known = KnownRows(out, "csv")
        with open_output(out, "csv", 1, resume=True) as write:
            [write(row) for row in rows if not known.skip(row["path"])]
        assert out.read_bytes() == whole, cut


def test_rows_of_another_kind_are_refused_whatever_their_quotes(tmp_path):
    """No line of them ends outside of quotes: they must not count as none, which would be overwritten."""
    out = tmp_path / "p.csv"
    out.write_text('{"path": "a\\"b.jpg", "class": "x"}\n')
    with pytest.raises(UserError, match="Expected the columns"):
        KnownRows(out, "csv")
