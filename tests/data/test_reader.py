"""reader: crops, shifts and mirroring, and which domain gets which reader."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from isra_keras.data.domain import Domain
from isra_keras.data.reader import ArrayReader, FeatureReader, FileReader, make_reader
from isra_keras.errors import UserError
from tests.data.made import array_domain, feature_domain, file_domain, save, tree

ROWS = tf.constant([4, 0, 4], tf.int32)


def read(reader, seed=None, step=None, rows=ROWS):
    images, used = reader.read(rows, seed, None if step is None else tf.constant(step, tf.int64))
    return images.numpy(), used.numpy()


@pytest.fixture
def ramp(tmp_path):
    """One file of 16 x 16 pixels: red tells the row, green the column."""
    image = np.zeros((16, 16, 3), "uint8")
    image[..., 0], image[..., 1] = np.arange(16)[:, None] * 10, np.arange(16)[None] * 10
    return Domain("ramp", ("a", "b"), [0], (save(tmp_path / "ramp.png", image),))


def test_kinds(tmp_path):
    assert isinstance(make_reader(feature_domain(3)), FeatureReader)
    assert isinstance(make_reader(array_domain(3)), ArrayReader)
    assert isinstance(make_reader(file_domain(tmp_path, 3)), FileReader)


def test_features_are_never_changed():
    images, used = read(make_reader(feature_domain(5)), seed=3, step=2)
    assert images.dtype == np.float32 and images[:, 0].tolist() == [4, 0, 4] == used.tolist()


def test_files_without_a_seed_are_cut_from_the_centre(ramp):
    images, used = read(make_reader(ramp, 16, 6), rows=tf.constant([0]))
    assert images.shape == (1, 6, 6, 3) and images.dtype == np.uint8 and used.tolist() == [0]
    assert images[0, :, 0, 0].tolist() == [50, 60, 70, 80, 90, 100] == images[0, 0, :, 1].tolist()


def test_files_are_resized_to_256_by_default(ramp):
    assert read(make_reader(ramp), rows=tf.constant([0]))[0].shape == (1, 256, 256, 3)
    assert read(make_reader(ramp, 32), rows=tf.constant([0]))[0].shape == (1, 32, 32, 3)


def test_random_crops_and_mirrors_of_files(ramp):
    reader, zeros = make_reader(ramp, 16, 13), tf.zeros([400], tf.int32)
    images, _ = read(reader, 1, 0, zeros)
    tops, lefts = images[:, 0, 0, 0] // 10, images[:, 0, :, 1].min(axis=1) // 10
    mirrored = images[:, 0, 0, 1] > images[:, 0, -1, 1]
    assert set(tops) == set(lefts) == {0, 1, 2, 3}  # all places, none beyond
    assert 150 < mirrored.sum() < 250
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.2 and abs(np.corrcoef(tops, mirrored)[0, 1]) < 0.2
    assert (np.diff(images[..., 0].astype(int), axis=1) == 10).all()


def test_augmentation_depends_on_seed_and_step_alone(ramp):
    reader, zeros = make_reader(ramp, 16, 10), tf.zeros([20], tf.int32)
    first = read(reader, 1, 5, zeros)[0]
    assert np.array_equal(first, read(make_reader(ramp, 16, 10, cache=False), 1, 5, zeros)[0])
    assert not np.array_equal(first, read(reader, 1, 6, zeros)[0])
    assert not np.array_equal(first, read(reader, 2, 5, zeros)[0])


def test_indices_tell_what_stands_in(tmp_path):
    domain = file_domain(tmp_path, 5)
    os.remove(domain.paths[4])
    reader = make_reader(domain, 8)
    with pytest.warns(UserWarning, match="004.png"):
        images, used = read(reader)
    assert used.tolist() == [0, 0, 0] and (images == 0).all()
    assert [os.path.basename(bad.path) for bad in reader.bad_images] == ["004.png"]


def test_arrays_as_they_are():
    domain = array_domain(5)
    images, used = read(make_reader(domain))
    assert images.dtype == np.uint8 and np.array_equal(images, domain.arrays[[4, 0, 4]])
    assert np.array_equal(read(make_reader(domain, 8, 8))[0], images) and used.tolist() == [4, 0, 4]


def test_arrays_are_shifted_by_a_sixteenth_at_most():
    domain = array_domain(2, size=32)
    images, _ = read(make_reader(domain), 1, 0, tf.zeros([300], tf.int32))
    padded = np.pad(domain.arrays[0], ((2, 2), (2, 2), (0, 0)), "edge")
    shifts = {(y, x): padded[y : y + 32, x : x + 32].tobytes() for y in range(5) for x in range(5)}
    found = [next(shift for shift, data in shifts.items() if data == image.tobytes()) for image in images]
    assert set(found) == set(shifts)


def test_crops_of_arrays():
    domain = array_domain(2)
    centre = read(make_reader(domain, crop_size=4), rows=tf.constant([1]))[0]
    assert np.array_equal(centre[0], domain.arrays[1, 2:6, 2:6])
    images, _ = read(make_reader(domain, crop_size=6), 1, 0, tf.zeros([100], tf.int32))
    places = {(y, x): domain.arrays[0, y : y + 6, x : x + 6].tobytes() for y in range(3) for x in range(3)}
    assert {image.tobytes() for image in images} == set(places.values())


def test_arrays_of_another_size_are_resized():
    domain = array_domain(2)
    images, _ = read(make_reader(domain, 16, 12), rows=tf.constant([1]))
    assert images.shape == (1, 12, 12, 3) and images.dtype == np.float32
    expected = Image.fromarray(domain.arrays[1, ..., 0]).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(images[0, ..., 0], np.asarray(expected, "float32")[2:14, 2:14], atol=1)


def test_crop_larger_than_the_image(tmp_path):
    for domain, size in ((array_domain(2), None), (file_domain(tmp_path, 2), 8)):
        with pytest.raises(UserError, match="crop of at most 8 pixels"):
            make_reader(domain, size, 9)


def test_deterministic_runs_read_batches_side_by_side_and_say_nothing(tmp_path):
    """Of 8 threads more than the three of one batch (source, target, middle) load images."""
    code = f"""
import threading, time
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
tf.random.set_seed(0)
from isra_keras.data import reader
from isra_keras.data.pairs import DomainPairs, own_threads
from isra_keras.data.tasks import folder_task
threads, load = set(), reader.FileReader._load
def watched(self, places):
    threads.add(threading.get_ident())
    time.sleep(0.05)
    return load(self, places)
reader.FileReader._load = watched
pairs = DomainPairs(folder_task({str(tmp_path / "source")!r}, {str(tmp_path / "target")!r}), 4, 0, 8, 8, cache=False)
for batch in own_threads(pairs.dataset(0, 24), 8):
    pass
assert len(threads) > 3, len(threads)
"""
    tree(tmp_path / "source", {"ant": 4, "bee": 4})
    tree(tmp_path / "target", {"bee": 4})
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "node_def" not in done.stderr
