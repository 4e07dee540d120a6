"""Paths: a tuple of str that takes less memory."""

import os
import random
import sys

import pytest

from isra_keras.data.paths import Paths

FILES = ("a/b/one.jpg", "a/b/zwei ß.png", "/x/three.jpg", "four.jpg", "a/b/", os.fsdecode(b"a/\xff\n.jpg"), "a/b/one.jpg")


def test_it_is_the_tuple():
    paths = Paths(file for file in FILES)
    assert len(paths) == len(FILES) and tuple(paths) == FILES
    assert [paths[at] for at in range(-7, 7)] == [FILES[at] for at in range(-7, 7)]
    assert paths[1:5:2] == FILES[1:5:2] and paths[:-2] == FILES[:-2]
    for outside in (7, -8):
        with pytest.raises(IndexError):
            paths[outside]
    assert FILES[3] in paths and "other" not in paths and paths.index(FILES[2]) == 2
    assert not Paths() and tuple(Paths()) == ()
    assert "one.jpg" in repr(paths) and "7 in all" in repr(paths)


def test_equal_files_are_equal_and_a_key():
    paths = Paths(FILES)
    assert paths == Paths(list(FILES)) and hash(paths) == hash(Paths(FILES))
    shuffled = random.Random(0).sample(FILES, len(FILES))
    others = [Paths(FILES[:-1]), Paths(shuffled), Paths(("a/bo/ne.jpg", *FILES[1:]))]
    assert all(paths != other for other in others) and Paths(("a/bc", "a/d")) != Paths(("a/b", "a/cd"))


def test_a_path_takes_little_more_than_its_name():
    files = [f"/data/imagenet/train/n{number // 1300:08d}/n{number // 1300:08d}_{number}.JPEG" for number in range(20_000)]
    paths = Paths(files)
    parts = sum(map(sys.getsizeof, (paths._text, paths._ends, paths._places, paths._folders, *paths._folders)))
    assert parts / len(files) < len(os.path.basename(files[-1])) + 20
