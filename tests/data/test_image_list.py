"""Lists of images: a task as from folders, and a sentence for whatever else is in the file."""

import os
import time
import warnings

import numpy as np
import pytest

from isra_keras.data.image_list import in_label_order, read_list
from isra_keras.data.tasks import folder_task
from isra_keras.errors import UserError
from isra_keras.training.recipes import resolve
from tests.data.made import save, tree


@pytest.fixture
def folder(tmp_path):
    tree(tmp_path / "source", {"ant": 3, "bee": 2, "cat": 2})
    tree(tmp_path / "target", {"bee": 4})
    return tmp_path


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def listed(folder, classes=True):
    """[line] of a tree of class folders."""
    files = sorted(folder.rglob("*.png"))
    return [f"{file.relative_to(folder.parent)}" + (f" {file.parent.name}" if classes else "") for file in files]


def same(one, two):
    return one.paths == two.paths and np.array_equal(one.labels, two.labels) and one.class_names == two.class_names


@pytest.mark.parametrize("classes", [True, False])
def test_a_list_is_the_folder(folder, classes):
    wanted = folder_task(folder / "source", folder / "target")
    source = write(folder / "catalogue.txt", ["# made by hand", "", *listed(folder / "source")])
    target = write(folder / "photos.txt", listed(folder / "target", classes))
    task = folder_task(source, target)
    assert task.name == "catalogue-photos" == resolve(source_dir=source, target_dir=target).task_name
    assert same(task.source, wanted.source) and task.target.paths == wanted.target.paths
    assert task.target.labels.tolist() == ([1] * 4 if classes else [-1] * 4)
    assert task.shared_classes == (("bee",) if classes else None)
    assert same(folder_task(source, folder / "target").target, wanted.target), "a list beside a folder"


@pytest.mark.parametrize("line", ["source/ant/0000.png 0", "/gone/source/ant/0000.png 0", "source\\ant\\0000.png 0"])
def test_a_list_for_another_folder_says_what_to_do(folder, line):
    """The field's lists lie in image_list/, their files are named from the folder above; five files were "not found"."""
    (folder / "lists").mkdir()
    lines = [line, line.replace("ant", "bee")[:-1] + "1"]
    path = write(folder / "lists" / "Art.txt", lines)
    with pytest.raises(UserError, match="none is there, such as .*Move the list.*write where they are") as caught:
        folder_task(path, folder / "target")
    assert ("Write / between folders" in str(caught.value)) == ("\\" in line)
    with pytest.raises(UserError, match="none is there"):
        folder_task(folder / "source", write(folder / "lists" / "photos.txt", [line[:-2]]))


def test_numbers_are_classes_in_their_order(folder):
    lines = [
        f"{line.rsplit(' ', 1)[0]} {number}" for number, line in zip((0, 2, 10, 10, 9, 9, 1), listed(folder / "source"))
    ]
    task = folder_task(write(folder / "numbered.txt", lines), folder / "target" / "bee")
    assert task.class_names == ("0", "1", "2", "9", "10") and task.source.labels.tolist() == [0, 2, 4, 4, 3, 3, 1]
    assert in_label_order(["10", "9", "b"]) == ("10", "9", "b")


def test_lines(tmp_path):
    path = write(tmp_path / "list.txt", ["a b.png\tsnow leopard", f"{tmp_path}/c.jpg\td", "e f.png g"])
    files, classes = read_list(path)
    assert tuple(files) == (f"{tmp_path}/a b.png", f"{tmp_path}/c.jpg", f"{tmp_path}/e f.png")
    assert classes == ["snow leopard", "d", "g"]
    (tmp_path / "odd.txt").write_bytes(b"\xff\xfe.png x\r\n")
    assert os.fsencode(read_list(tmp_path / "odd.txt")[0][0]).endswith(b"\xff\xfe.png"), "bytes stay"
    assert read_list(write(tmp_path / "bare.txt", ["a b.png", "c.JPG"]))[1] is None


@pytest.mark.parametrize("lines, words", [
    ([], "lists none"),
    (["a.png x", "b.png"], "line 2 has none"),
    (["b.png", "a.png x"], "line 1 has none"),
    (["a.png\t"], "there is none"),
    (["\tx y"], "only 'y'"),
    (["x" * 20_000 + " y"], "line 1"),
    (["a\0.png x"], "line 1"),
    (["a.png x", "b.png x"], "only 'x'"),
    (["a.png", "b.png"], "there is none"),
    (["missing.png x", "source/ant/0000.png y"], "class 'x'"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_what_a_source_refuses(folder, lines, words):
    with pytest.raises(UserError, match=words):
        folder_task(write(folder / "source.txt", lines), folder / "target")


def test_what_a_target_refuses(folder):
    with pytest.raises(UserError, match="received 'dog'"):
        folder_task(folder / "source", write(folder / "target.txt", ["source/ant/0000.png dog"]))
    with pytest.raises(UserError, match="a list of them .*nothing.txt' does not exist"):
        folder_task(folder / "source", folder / "nothing.txt")


def test_bad_files_are_named_and_pipes_not_waited_for(folder):
    os.mkfifo(folder / "pipe.png")
    lines = [*listed(folder / "source"), "pipe.png ant", "gone.png bee", f"{os.devnull} cat", "source ant"]
    started = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task = folder_task(write(folder / "source.txt", lines), folder / "target")
    assert time.monotonic() - started < 5 and "4 files cannot be read" in str(caught[0].message)
    assert len(task.source) == 7 and {os.path.basename(bad.path): bad.reason for bad in task.source.bad_images} == {
        "pipe.png": "a pipe or a device, not a file", "null": "a pipe or a device, not a file",
        "gone.png": "file not found", "source": "a folder, not a file"}  # fmt: skip


def test_a_hundred_thousand_lines(tmp_path):
    save(tmp_path / "a.png")
    path = write(tmp_path / "many.txt", [f"a.png {number % 7}" for number in range(100_000)])
    started = time.process_time()
    task = folder_task(path, path)
    assert len(task.source) == 100_000 and task.source.class_counts.min() > 14_000
    assert time.process_time() - started < 5


def test_a_byte_order_mark_belongs_to_no_file(folder):
    """Editors on Windows begin a file with one."""
    write(folder / "marked.txt", ["a.jpg ant", "b.jpg bee"])
    plain = read_list(folder / "marked.txt")
    (folder / "marked.txt").write_bytes(b"\xef\xbb\xbf" + (folder / "marked.txt").read_bytes())
    assert read_list(folder / "marked.txt") == plain


def test_lists_that_windows_writes(folder):
    """PowerShell's `>` writes UTF-16; every line was read as a file name full of zeros."""
    write(folder / "plain.txt", ["a.jpg ameise", "käfer/b.jpg käfer"])
    plain, text = read_list(folder / "plain.txt"), (folder / "plain.txt").read_text(encoding="utf-8")
    for encoding in ("utf-16", "utf-16-be"):
        mark = b"\xfe\xff" if encoding.endswith("be") else b""
        (folder / "plain.txt").write_bytes(mark + text.replace("\n", "\r\n").encode(encoding))
        assert read_list(folder / "plain.txt") == plain
    (folder / "plain.txt").write_bytes(b"\xff\xfe" + text.encode("utf-16-le")[:-1])
    with pytest.raises(UserError, match="in UTF-8; it begins as UTF-16 does"):
        read_list(folder / "plain.txt")


def test_names_of_classes_that_are_no_utf_8(folder):
    """They ended a run in its figures, when all steps were done."""
    lines = os.fsencode("\n".join(listed(folder / "source")) + "\n")
    (folder / "old.txt").write_bytes(lines.replace(b" cat", b" caf\xe9"))
    with pytest.raises(UserError, match=r"classes in UTF-8; received 'caf\\udce9' in '.*old.txt'.*Write those of the list so"):
        folder_task(folder / "old.txt", folder / "target")
