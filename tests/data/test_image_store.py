"""image_store: what is kept, and what happens to files that go bad after the scan."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from isra_keras.data import image_store
from isra_keras.data.image_store import ImageStore, fits, free_memory
from isra_keras.errors import UserError
from tests.data.made import file_domain, grey


@pytest.fixture
def domain(tmp_path):
    return file_domain(tmp_path, 6)


def level(store, index):
    image, used = store.get(index)
    assert (image == image[0, 0]).all()
    return int(image[0, 0, 0]), used


@pytest.mark.parametrize("cache", [True, False])
def test_images_by_index(domain, cache):
    store = ImageStore(domain, 8, cache)
    for index in (0, 5, 3, 5):
        image, used = store.get(index)
        assert used == index and np.array_equal(image, grey(2 * index))
    assert store.bad_images == () and store.cached is cache


def test_kept_images_need_no_file(domain):
    stores = {cache: ImageStore(domain, 8, cache) for cache in (True, False)}
    for store in stores.values():
        store.get(1)
    os.remove(domain.paths[1])
    assert level(stores[True], 1) == (2, 1)
    with pytest.warns(UserWarning, match="001.png cannot be read"):
        assert level(stores[False], 1) == (4, 2)


def test_bad_files_are_replaced_by_the_next_and_named_once(domain):
    os.remove(domain.paths[4])
    with open(domain.paths[5], "r+b") as file:
        file.truncate(50)
    store = ImageStore(domain, 8, True)
    with pytest.warns(UserWarning) as caught:
        assert level(store, 4) == (0, 0)  # after the last one comes the first
        assert level(store, 4) == (0, 0)
    assert len(caught) == 2
    assert [(bad.path, bad.reason.split(":")[0]) for bad in store.bad_images] == [
        (domain.paths[4], "file not found"),
        (domain.paths[5], "truncated or damaged"),
    ]


def test_nothing_left(domain):
    for path in domain.paths:
        os.remove(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError, match="Expected readable images in domain files"):
            ImageStore(domain, 8).get(2)


def test_shared_while_alive(domain):
    store = ImageStore.shared(domain, 8)
    assert ImageStore.shared(domain, 8) is store
    assert ImageStore.shared(domain, 9) is not store
    key = (domain.paths, 8)
    assert key in image_store._stores
    del store
    assert key not in image_store._stores


def test_many_threads(domain):
    store = ImageStore(domain, 8, True)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda i: level(store, i % 6), range(200)))
    assert got == [(2 * (i % 6), i % 6) for i in range(200)]


def test_auto_keeps_what_fits(domain, monkeypatch):
    monkeypatch.setattr(image_store, "free_memory", lambda: 0)
    assert not ImageStore(domain, 8).cached
    monkeypatch.setattr(image_store, "free_memory", lambda: 10**9)
    assert ImageStore(domain, 8).cached
    assert not fits(image_store.MAX_CACHE_BYTES + 1)
    assert not fits(3 * 10**8)  # a quarter of what is free


def test_free_memory():
    assert free_memory() > 10 * 2**20


def test_a_folder_that_is_bad_as_a_whole_does_not_end_training(tmp_path, monkeypatch):
    """Files lie class by class: a hundred in a row may be those of one class that was half unpacked."""
    monkeypatch.setattr(image_store, "MAX_REPLACEMENTS", 4)
    domain = file_domain(tmp_path, 12)
    for path in domain.paths[2:9]:
        os.truncate(path, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = ImageStore(domain, 8)
        assert store.get(2)[1] == 11  # neither 2 to 5, nor of those spread over the domain 5 and 8
        for path in domain.paths:
            os.truncate(path, 0)
        with pytest.raises(UserError, match=r"002.png \(empty file\), the 3 after it and 3 others"):
            ImageStore(domain, 8).get(2)
