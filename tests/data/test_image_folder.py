"""image_folder: which files count, in which order, and how bad ones are named."""

import os
from pathlib import Path

import pytest

from isra_keras.data.domain import BadImage
from isra_keras.data.image_folder import class_folders, describe, image_files, scan, summary, table
from isra_keras.errors import UserError
from tests.data.made import save


def names(paths, root):
    return [os.path.relpath(path, root) for path in paths]


def test_files_of_a_tree(tmp_path):
    for name in ("b/2.PNG", "b/10.png", "a/deep/er/1.jpeg", "z.webp", ".hidden/1.png", "a/.1.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.jpg").mkdir()
    save(tmp_path / "folder.jpg" / "inside.gif")
    expected = ["a/deep/er/1.jpeg", "b/10.png", "b/2.PNG", "folder.jpg/inside.gif", "z.webp"]
    assert names(image_files(tmp_path), tmp_path) == expected
    assert names(image_files(tmp_path, recursive=False), tmp_path) == ["z.webp"]
    assert class_folders(tmp_path) == ["a", "b", "folder.jpg"]


def test_loops_of_links_end(tmp_path):
    save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert names(image_files(tmp_path), tmp_path) == ["a/1.png"]


def test_no_folder(tmp_path):
    for read in (class_folders, image_files):
        with pytest.raises(UserError, match="Expected a readable folder; received '.*nothing'"):
            read(tmp_path / "nothing")


def test_scan(tmp_path):
    paths = [save(tmp_path / f"{number}.png") for number in range(5)]
    for number, content in ((1, b""), (3, b"<html>")):
        (tmp_path / f"{number}.png").write_bytes(content)
    found = scan(paths)
    assert found.keep == [0, 2, 4]
    assert [(os.path.basename(bad.path), bad.reason) for bad in found.bad] == [
        ("1.png", "empty file"),
        ("3.png", "a text page (HTML, XML or SVG), not an image"),
    ]
    with pytest.raises(UserError, match=r"2 files cannot be read .*1\.png \(empty file\).*3\.png"):
        scan(paths, "error")
    assert scan(paths[:1], "error").keep == [0]
    with pytest.raises(UserError, match="skip, error; received 'ignore'"):
        scan(paths, "ignore")


def test_summary_shows_some_and_counts_all(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(b"")
    text = summary(scan(image_files(tmp_path)).bad)
    assert text.startswith("9 files cannot be read (9 empty file): ") and text.endswith("and 4 more")


def test_table():
    bad = (BadImage("b.png", "truncated, or so"), BadImage("a.png", "empty file"), BadImage("a.png", "empty file"))
    assert table(bad) == 'path,reason\na.png,empty file\nb.png,"truncated, or so"\n'
    assert table([BadImage("a\rb.png", "empty file")]) == 'path,reason\n"a\rb.png",empty file\n', "one row"


def test_describe(tmp_path):
    save(tmp_path / "a" / "1.png")
    assert describe(tmp_path / "nothing").endswith("does not exist")
    assert describe(tmp_path / "a" / "1.png").endswith("is a file")
    assert describe(tmp_path).endswith("holds a")
    for number in range(20):
        (tmp_path / f"c{number:02d}").mkdir()
    assert describe(tmp_path).endswith("c06, ... (21 entries)")


def test_many_files_are_not_opened_before_training(tmp_path, monkeypatch):
    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    for path in paths[1:]:
        save(Path(path))
    (tmp_path / "0.png").write_bytes(b"")
    assert len(scan(paths).bad) == 1
    monkeypatch.setattr("isra_keras.data.image_folder.MOST_CHECKED", 3)
    assert (list(scan(paths).keep), scan(paths).bad) == ([0, 1, 2, 3], ())
    with pytest.raises(UserError, match="0.png"):
        scan(paths, "error")
