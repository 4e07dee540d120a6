"""imagenet_caltech on small made files: both directions, both layouts of the validation set, what is missing."""

import os

import pytest

from isra_keras.data import imagenet_caltech
from isra_keras.data.protocols import facts, protocols
from isra_keras.data.tasks import load_task, shared_pairs
from isra_keras.errors import UserError
from tests.data.made import save, tree

SYNSETS = [f"n{index:08d}" for index in range(1000)]


@pytest.fixture
def data(tmp_path):
    """One image of each ImageNet class for training, two of some for validation, three of each Caltech class."""
    root = tmp_path / "data"
    tree(root / "imagenet" / "train", dict.fromkeys(SYNSETS, 1))
    tree(root / "imagenet" / "val", dict.fromkeys(SYNSETS, 2))
    tree(root / "256_ObjectCategories", dict.fromkeys([*facts()["caltech256"]["classes"], "257.clutter"], 3))
    return root


def load(data, source, target, **options):
    return load_task("imagenet_caltech", source, target, data_dir=data, allow_incomplete=True, **options)


@pytest.mark.filterwarnings("ignore:imagenet_caltech")
def test_imagenet_to_caltech(data):
    task = load(data, "I", "C")
    assert task.name == "I-C" and len(task.source) == 1000 and task.class_names == tuple(SYNSETS)
    assert task.source.labels.tolist() == list(range(1000))
    assert len(task.target) == 84 * 3 and len(task.shared_classes) == 84
    numbers = {caltech: imagenet for imagenet, caltech in shared_pairs()}
    for path, label in zip(task.target.paths, task.target.labels):
        name = os.path.basename(os.path.dirname(path))
        assert label == numbers[int(name[:3]) - 1]
        assert SYNSETS[label] in task.shared_classes


@pytest.mark.filterwarnings("ignore:imagenet_caltech")
@pytest.mark.parametrize("flat", [False, True])
def test_caltech_to_imagenet(data, flat):
    if flat:
        val, lines = data / "imagenet" / "val", []
        for index, name in enumerate(SYNSETS):
            for number in range(2):
                lines.append(f"val/image_{index}_{number}.png {index}")
                os.rename(val / name / f"{number:04d}.png", val / f"image_{index}_{number}.png")
            os.rmdir(val / name)
        (data / "imagenet" / "val.txt").write_text("\n".join(lines) + "\n")
    task = load(data, "C", "I")
    classes = protocols()["imagenet_caltech"].classes
    assert task.name == "C-I" and task.class_names == classes and len(task.source) == 256 * 3
    assert len(task.target) == 84 * 2 and set(task.shared_classes) == {classes[c] for _, c in shared_pairs()}
    own = dict(shared_pairs())
    for path, label in zip(task.target.paths, task.target.labels):
        index = int(os.path.basename(path).split("_")[1]) if flat else int(os.path.basename(os.path.dirname(path))[1:])
        assert label == own[index]


def test_counts_are_checked(data):
    with pytest.raises(UserError, match="expected 1,281,167 images in all, found 1,000"):
        load_task("imagenet_caltech", "I", "C", data_dir=data)
    with pytest.raises(UserError, match=r"001.ak47: expected 98 images, found 3"):
        load_task("imagenet_caltech", "C", "I", data_dir=data)


@pytest.mark.filterwarnings("ignore:imagenet_caltech")
def test_missing_parts(data):
    os.rename(data / "imagenet" / "val", data / "elsewhere")
    with pytest.raises(UserError, match="no folder imagenet/val"):
        load(data, "C", "I")
    save(data / "imagenet" / "val" / "a.png")
    with pytest.raises(UserError, match="neither 1000 class folders nor a val.txt"):
        load(data, "C", "I")
    os.rename(data / "imagenet" / "train" / SYNSETS[7], data / "seven")
    with pytest.raises(UserError, match="expected 1000 class folders in .*, found 999"):
        load(data, "I", "C")


@pytest.mark.parametrize("given", ["given", "inner"])
@pytest.mark.filterwarnings("ignore:imagenet_caltech")
def test_validation_counts(data, given, monkeypatch):
    monkeypatch.setattr(imagenet_caltech, "VALIDATION_IMAGES", 2)
    index = shared_pairs()[0][0]
    if given == "inner":
        os.remove(data / "imagenet" / "val" / SYNSETS[index] / "0000.png")
        with pytest.warns(UserWarning, match=rf"ImageNet index {index}\): expected 2 images, found 1"):
            load(data, "C", "I")
    else:
        assert len(load(data, "C", "I").target) == 168


@pytest.mark.parametrize("line", ["val/a.png", "val/a.png x", "val/a.png 1000", "val/a.png -1", "", "\0 1"])
def test_a_list_with_something_else_in_it(tmp_path, line):
    (tmp_path / "val.txt").write_text(line + "\n")
    with pytest.raises(UserError, match="val.txt"):
        imagenet_caltech._validation_rows(tmp_path / "val.txt")
