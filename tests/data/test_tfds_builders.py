"""tfds_builders: TFDS's own test case on small made files, counts, loading by name, stored pixels."""

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from isra_keras.data.protocols import facts, protocols
from isra_keras.data.tfds_builders import Caltech256, Office31, OfficeHome
from isra_keras.errors import UserError
from tests.data.made import pixels, save, tree

OFFICE_HOME_FOLDERS = {"Art": "Art", "Clipart": "Clipart", "Product": "Product", "RealWorld": "Real World"}


class _BuilderCase(tfds.testing.DatasetBuilderTestCase):
    """Made files in a temporary folder; their number differs from the protocol's, which is allowed here."""

    __test__ = False
    FOLDERS = ()  # of class folders, with two images each

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = tempfile.mkdtemp()
        classes = cls.DATASET_CLASS.protocol.classes[:2]
        for folder in cls.FOLDERS:
            for number, name in enumerate(classes * 2):
                save(Path(cls.EXAMPLE_DIR, folder, name, f"{number}.jpg"), pixels((9, 7), number))
        cls.allowed = mock.patch.object(cls.DATASET_CLASS, "ALLOW_INCOMPLETE", True)
        cls.allowed.start()
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.allowed.stop()
        shutil.rmtree(cls.EXAMPLE_DIR)

    def test_download_and_prepare_as_dataset(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().test_download_and_prepare_as_dataset()


class OfficeHomeTest(_BuilderCase):
    __test__ = True
    DATASET_CLASS = OfficeHome
    SPLITS = {"train": 4}
    FOLDERS = tuple(f"OfficeHomeDataset_10072016/{name}" for name in OFFICE_HOME_FOLDERS.values())


@pytest.mark.slow  # the code is that of Office-Home; its files are read below
class Office31Test(_BuilderCase):
    __test__ = True
    DATASET_CLASS = Office31
    SPLITS = {"train": 4}
    FOLDERS = ("amazon/images", "dslr/images", "webcam/images")


class Caltech256Test(_BuilderCase):
    __test__ = True
    DATASET_CLASS = Caltech256
    SPLITS = {"train": 4}
    FOLDERS = ("256_ObjectCategories",)


# ---------------------------------------------------------------- classes and counts


@pytest.mark.parametrize("name", ["office_home", "office31", "caltech256"])
def test_classes_and_configs_are_those_of_the_protocol(name, tmp_path):
    entry = facts()[name]
    configs = list(entry["counts"]) if isinstance(entry["counts"], dict) else []
    assert [config.name for config in tfds.builder_cls(name).BUILDER_CONFIGS] == configs
    builder = tfds.builder(f"{name}/{configs[-1]}" if configs else name, data_dir=tmp_path)
    assert builder.info.features["label"].names == entry["classes"]


@pytest.fixture
def dslr(tmp_path):
    """All of Office-31's dslr, as many files as the protocol says."""
    protocol = protocols()["office31"]
    tree(tmp_path / "raw" / "dslr" / "images", dict(zip(protocol.classes, protocol.counts["dslr"])), ".jpg")
    return tmp_path / "raw"


def load(name, raw, folder, **options):
    config = tfds.download.DownloadConfig(manual_dir=raw, compute_stats=tfds.download.ComputeStatsMode.SKIP)
    kwargs = {"download_config": config}
    return tfds.load(name, split="train", data_dir=folder, download_and_prepare_kwargs=kwargs, **options)


def test_a_whole_domain_by_name(dslr, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        data = load("office31/dslr", dslr, tmp_path / "made")
    labels = [int(example["label"]) for example in data]
    assert tuple(np.bincount(labels)) == protocols()["office31"].counts["dslr"]
    again = tfds.load("office31/dslr", split="train", data_dir=tmp_path / "made", as_supervised=True)
    assert len(again) == 498  # nothing but the prepared files is needed


def test_counts_are_checked(dslr, tmp_path):
    os.remove(dslr / "dslr" / "images" / "mug" / "0000.jpg")
    with pytest.raises(UserError, match="mug: expected 8 images, found 7 images.*allow_incomplete=True"):
        load("office31/dslr", dslr, tmp_path / "made")
    with pytest.warns(UserWarning, match="mug: expected 8 images, found 7"):
        data = load("office31/dslr", dslr, tmp_path / "made", builder_kwargs={"allow_incomplete": True})
    assert len(data) == 497
    with pytest.raises(UserError, match="Expected the 498 images of office31/dslr.* prepared from 497"):
        tfds.load("office31/dslr", split="train", data_dir=tmp_path / "made")


def test_unreadable_files_are_refused_by_name(dslr, tmp_path):
    os.remove(dslr / "dslr" / "images" / "mug" / "0000.jpg")
    (dslr / "dslr" / "images" / "mug" / "0000.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"mug/0000.jpg \(empty file\)"):
        load("office31/dslr", dslr, tmp_path / "made")


def test_a_missing_dataset_says_where_to_get_it(tmp_path):
    (tmp_path / "raw" / "other").mkdir(parents=True)
    with pytest.raises(UserError, match="caltech256.*holds other.*data.caltech.edu.*256_ObjectCategories"):
        load("caltech256", tmp_path / "raw", tmp_path / "made")
    with pytest.raises(AssertionError, match="hemanthdv"):
        load("office_home/Art", tmp_path / "nothing", tmp_path / "made")


def test_pixels_are_those_that_training_reads(tmp_path):
    """A plain JPEG is stored as it is, anything else as what `decode_image` makes of it."""
    folder = tmp_path / "raw" / "256_ObjectCategories" / "001.ak47"
    exif = Image.Exif()
    exif[0x0112] = 6
    save(folder / "plain.jpg", quality=98, subsampling=0)
    save(folder / "turned.jpg", quality=98, subsampling=0, exif=exif)
    save(folder / "grey.jpg", pixels()[..., 0], quality=98)
    save(folder / "alpha.png", np.dstack([pixels(), np.zeros((24, 20), "uint8")]))
    Image.fromarray(pixels()).convert("CMYK").save(folder / "ink.jpg", quality=98)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = load("caltech256", tmp_path / "raw", tmp_path / "made", builder_kwargs={"allow_incomplete": True})
    images = {example["filename"].decode(): example["image"].astype(int) for example in tfds.as_numpy(data)}
    expected = {
        "001.ak47/plain.jpg": pixels(),
        "001.ak47/turned.jpg": np.rot90(pixels(), -1),
        "001.ak47/grey.jpg": np.repeat(pixels()[..., :1], 3, 2),
        "001.ak47/alpha.png": np.full((24, 20, 3), 255),
        "001.ak47/ink.jpg": pixels(),
    }
    assert set(images) == set(expected)
    for name, image in expected.items():
        np.testing.assert_allclose(images[name], image, atol=6, err_msg=name)


def test_nothing_else_imports_tfds():
    code = "import sys, isra_keras.cli, isra_keras.train, isra_keras.data.tasks; print('tensorflow_datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_the_case_leaves_nothing_patched():
    from isra_keras.data import tfds_builders

    assert not isinstance(np.load, mock.Mock) and np.load.__module__ == "numpy"
    assert not hasattr(tfds_builders, "os")
