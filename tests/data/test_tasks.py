"""tasks and locate: names, benchmark tasks, incomplete and missing data, anybody's own folders, real data."""

import dataclasses
import os
import shutil
import warnings

import numpy as np
import pytest

from isra_keras.data import tasks
from isra_keras.data.protocols import protocols
from isra_keras.data.tasks import folder_task, load_task, resolve_task_name, task_name, task_names
from isra_keras.errors import UserError
from tests.data.made import save, tree

REAL = os.environ.get("ISRA_TEST_DATA")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("ISRA_DATA", "ISRA_TEST_DATA"):
        monkeypatch.delenv(name, raising=False)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "dataset, name, pair",
    [
        ("office_home", "Ar-Cl", ("Art", "Clipart")),
        ("office_home", "Real World->product", ("RealWorld", "Product")),
        ("office31", "A2W", ("amazon", "webcam")),
        ("office_caltech10", "caltech10-dslr", ("caltech10", "dslr")),
        ("imagenet_caltech", "I-C", ("imagenet", "caltech256")),
        ("glyphs", "Ha_to_Ph", ("handwritten", "photo")),
        ("pacs_features", "art_painting:sketch", ("art_painting", "sketch")),
    ],
)
def test_task_names(dataset, name, pair):
    assert resolve_task_name(dataset, name) == pair
    assert resolve_task_name(dataset, task_name(dataset, *pair)) == pair


def test_all_tasks():
    assert len(task_names("office_home")) == 12 and len(task_names("office31")) == 6
    assert task_names("glyphs") == ["Pr-Ha", "Pr-Ph", "Ha-Pr", "Ha-Ph", "Ph-Pr", "Ph-Ha"]
    for dataset in tasks.DATASETS:
        for name in task_names(dataset):
            assert task_name(dataset, *resolve_task_name(dataset, name)) == name


@pytest.mark.parametrize("name", ["Ar", "Ar-Xx", "Ar-Ar", "", "-"])
def test_no_task(name):
    with pytest.raises(UserError, match="Expected"):
        resolve_task_name("office_home", name)


def test_unknown_dataset_lists_the_valid_ones():
    with pytest.raises(UserError, match="glyphs, office_home, office31.*did you mean 'office31'"):
        load_task("ofice31")


# ---------------------------------------------------------------- benchmarks


@pytest.fixture
def office31(tmp_path):
    """DATA/office31 with dslr and webcam, whole."""
    protocol, root = protocols()["office31"], tmp_path / "data"
    for domain in ("dslr", "webcam"):
        counts = dict(zip(protocol.classes, protocol.counts[domain]))
        tree(root / "office31" / domain / "images", counts)
    return root


def test_a_whole_task(office31):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        task = load_task("office31", "D", "webcam", data_dir=office31)
    protocol = protocols()["office31"]
    assert task.name == "D-W" and task.kind == "images" and task.image_size == 256
    assert len(task.source) == 498 and len(task.target) == 295
    assert task.class_names == protocol.classes == task.target.class_names and task.shared_classes == protocol.shared
    assert tuple(task.source.class_counts) == protocol.counts["dslr"]
    assert task.source.labels.dtype == np.int32
    for domain in (task.source, task.target):  # target labels are in the source's numbering
        folders = [os.path.basename(os.path.dirname(path)) for path in domain.paths]
        assert folders == [protocol.classes[label] for label in domain.labels]
    assert {protocol.classes[label] for label in task.target.labels} == set(protocol.shared)


def test_found_from_the_environment_and_from_inside(office31, monkeypatch):
    assert len(load_task("office31", "D", "W", data_dir=office31 / "office31").source) == 498
    monkeypatch.setenv("ISRA_DATA", str(office31))
    assert len(load_task("office31", "D", "W").source) == 498


def test_an_incomplete_dataset_names_what_is_missing(office31):
    images = office31 / "office31" / "dslr" / "images"
    os.remove(images / "mug" / "0003.png")
    for path in (images / "bike").iterdir():
        path.unlink()
    (images / "bike").rmdir()
    expected = "domain dslr.*bike: expected 21 images, found no folder; mug: expected 8 images, found 7 images"
    with pytest.raises(UserError, match=f"{expected}.*--allow-incomplete"):
        load_task("office31", "D", "W", data_dir=office31)
    with pytest.warns(UserWarning, match=expected):
        task = load_task("office31", "D", "W", data_dir=office31, allow_incomplete=True)
    assert len(task.source) == 498 - 22 and len(task.class_names) == 31


def test_surplus_images_are_told_too(office31):
    save(office31 / "office31" / "dslr" / "images" / "mug" / "more.png")
    with pytest.raises(UserError, match="mug: expected 8 images, found 9 images"):
        load_task("office31", "D", "W", data_dir=office31)


def test_bad_files_of_a_benchmark(office31):
    path = office31 / "office31" / "dslr" / "images" / "mug" / "0003.png"
    os.remove(path)
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match="1 file cannot be read: .*0003.png .empty file.; skipped"):
        task = load_task("office31", "D", "W", data_dir=office31)
    assert len(task.source) == 497 and [bad.path for bad in task.source.bad_images] == [str(path)]
    with pytest.raises(UserError, match="0003.png"):
        load_task("office31", "D", "W", data_dir=office31, on_bad_image="error")


def test_folders_may_be_spelled_otherwise(tmp_path, monkeypatch):
    """OfficeHomeDataset_10072016/Real World/alarm clock/..."""
    whole = protocols()
    small = dataclasses.replace(
        whole["office_home"],
        classes=("Alarm_Clock", "Bed"),
        shared=("Bed",),
        counts={"Art": (1, 2), "RealWorld": (3, 4)},
    )
    monkeypatch.setattr(tasks, "protocols", lambda: whole | {"office_home": small})
    root = tmp_path / "data" / "OfficeHomeDataset_10072016"
    tree(root / "Art", {"Alarm_Clock": 1, "Bed": 2})
    tree(root / "Real World", {"alarm clock": 3, "BED": 4, "Unknown": 2})
    assert len(load_task("office_home", "Rw", "Ar", data_dir=tmp_path / "data").source) == 7
    task = load_task("office_home", "Ar", "Rw", data_dir=tmp_path / "data")
    assert task.source.labels.tolist() == [0, 1, 1] and task.target.labels.tolist() == [1, 1, 1, 1]


def test_missing_data_says_where_to_get_it(tmp_path):
    with pytest.raises(UserError, match="neither --data-dir nor.*ISRA_DATA.*hemanthdv.*Art/Alarm_Clock"):
        load_task("office_home")
    with pytest.raises(UserError, match="'.*nothing' does not exist"):
        load_task("office_home", data_dir=tmp_path / "nothing")
    (tmp_path / "holiday").mkdir()
    with pytest.raises(UserError, match="no folder of domain Art: '.*' holds holiday"):
        load_task("office_home", data_dir=tmp_path)
    (tmp_path / "Art" / "Monet").mkdir(parents=True)
    with pytest.raises(UserError, match="Art' has none of the class folders: '.*Art' holds Monet"):
        load_task("office_home", data_dir=tmp_path)


@pytest.mark.parametrize("pair", [("Pr", "Ha"), ("Ha", "Pr"), ("Ph", "Ha")])
def test_glyphs(pair, monkeypatch, tmp_path):
    monkeypatch.setenv("ISRA_CACHE", str(tmp_path))
    monkeypatch.setattr("isra_keras.data.glyphs.PER_CLASS", 2)
    task = load_task("glyphs", *pair)
    classes, shared = (10, 5) if pair[0] == "Ha" else (36, 10)
    assert len(task.class_names) == classes and task.shared_classes == tuple("0123456789"[:shared])
    assert set(task.source.labels) == set(range(classes)) and set(task.target.labels) == set(range(shared))
    assert task.source.arrays.shape[1:] == (32, 32, 3) and task.image_size == 32


# ---------------------------------------------------------------- features


@pytest.fixture
def features(tmp_path):
    """A made file with as many rows as the protocol of PACS has images, in no order."""
    protocol, rows = protocols()["pacs_features"], []
    for domain in ("photo", "sketch"):
        for name, count in zip(protocol.classes, protocol.counts[domain]):
            rows += [(domain, name, f"{domain}/{number:04d}/{name}.jpg") for number in range(count)]
    order = np.random.default_rng(0).permutation(len(rows))
    domain, names, paths = (np.array(column) for column in zip(*(rows[i] for i in order)))
    columns = {"domain": domain, "cls": names, "path": paths}
    values = np.stack([order, np.zeros(len(order))], 1).astype("float16")
    np.savez(tmp_path / "pacs_any.npz", features=values, **columns)
    return tmp_path


def test_features(features):
    task = load_task("pacs_features", "P", "S", data_dir=features)
    protocol = protocols()["pacs_features"]
    assert task.kind == "features" and task.image_size is None and task.source.arrays.dtype == np.float32
    assert tuple(task.source.class_counts) == protocol.counts["photo"]
    assert len(task.target) == sum(protocol.counts["sketch"][:4])
    assert (np.diff(task.source.arrays[:, 0]) >= 0).all()  # sorted by class and path, whatever the file's order
    with pytest.raises(UserError, match="no rows of domain cartoon"):
        load_task("pacs_features", "P", "C", data_dir=features)


def test_incomplete_and_broken_features(features):
    with np.load(features / "pacs_any.npz") as archive:
        columns = {name: archive[name][1:] for name in archive.files}
    np.savez(features / "pacs_any.npz", **columns)
    with pytest.raises(UserError, match="expected .* rows, found"):
        for source, target in ("PS", "SP"):
            load_task("pacs_features", source, target, data_dir=features)
    (features / "pacs_any.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        load_task("pacs_features", "P", "S", data_dir=features)
    os.remove(features / "pacs_any.npz")
    with pytest.raises(UserError, match="no such file.*pacs_<backbone>.npz"):
        load_task("pacs_features", "P", "S", data_dir=features)


@pytest.mark.parametrize("broken", ["truncated", "empty", "npy", "short", "flat", "few", "nan"])
def test_features_that_are_no_table(features, broken):
    path = features / "pacs_any.npz"
    with np.load(path) as archive:
        columns = {name: archive[name] for name in archive.files}
    if broken in ("truncated", "empty"):
        path.write_bytes(path.read_bytes()[: 2000 if broken == "truncated" else 0])
    elif broken == "npy":
        with open(path, "wb") as file:
            np.save(file, columns["features"])
    else:
        columns["cls"] = columns["cls"][: -1 if broken == "short" else None]
        columns["features"] = columns["features"].copy()
        columns["features"][3] = np.nan if broken == "nan" else 0
        if broken in ("flat", "few"):
            columns["features"] = columns["features"][:, 0] if broken == "flat" else columns["features"][1:]
        np.savez(path, **columns)
    words = {"short": "received .*'cls'", "flat": "received .*'features'", "few": "n entries", "nan": "1 rows hold NaN .* row 3"}
    with pytest.raises(UserError, match=words.get(broken, "cannot be read")):
        load_task("pacs_features", "P", "S", data_dir=features)


def test_one_of_two_feature_files_is_not_guessed(features):
    shutil.copy(features / "pacs_any.npz", features / "pacs_old.npz")
    with pytest.raises(UserError, match="received 2: pacs_any.npz, pacs_old.npz"):
        load_task("pacs_features", "P", "S", data_dir=features)


# ---------------------------------------------------------------- anybody's own folders


@pytest.fixture
def own(tmp_path):
    tree(tmp_path / "source", {"cat": 3, "dog": 2, "owl/deep": 2})
    return tmp_path


def test_class_folders_as_target(own):
    tree(own / "target", {"owl": 2, "cat": 1})
    task = folder_task(own / "source", own / "target")
    assert task.name == "source-target" and task.class_names == ("cat", "dog", "owl")
    assert task.source.labels.tolist() == [0, 0, 0, 1, 1, 2, 2] and task.target.labels.tolist() == [0, 2, 2]
    assert task.shared_classes == ("cat", "owl")


@pytest.mark.parametrize("layout", [{".": 4}, {"one/two": 3, "three": 1}])
def test_images_without_labels_as_target(own, layout):
    (own / "target").mkdir()
    for folder, count in layout.items():
        for number in range(count):
            save(own / "target" / folder / f"{number}.png")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task = folder_task(own / "source", own / "target")
    assert task.target.labels.tolist() == [-1] * 4 and task.shared_classes is None
    assert any("taken as unlabelled" in str(one.message) for one in caught) == ("." not in layout)


@pytest.mark.parametrize(
    "source, target, words",
    [
        ({"cat": 2, "dog": 0}, {"cat": 1}, "images in every class folder; '.*dog' holds none"),
        ({"cat": 2}, {"cat": 1}, "at least two class folders"),
        ({"cat": 2, "dog": 1}, {"cat": 1, "wolf": 2}, r"that the source has \(cat, dog\); received 'wolf'"),
        ({"cat": 2, "dog": 1}, {"cat": 1, "dog": 0}, "images in every class folder; '.*target/dog' holds none"),
        ({"cat": 2, "dog": 1}, {"cat": 1, ".": 2}, "either all in class folders or all without"),
        ({"cat": 2, "dog": 1}, {}, "Expected images in the target"),
    ],
)
def test_folders_that_do_not_fit(source, target, words, tmp_path):
    for role, classes in (("source", source), ("target", target)):
        (tmp_path / role).mkdir()
        for name, count in classes.items():
            (tmp_path / role / name).mkdir(exist_ok=True)
            for number in range(count):
                save(tmp_path / role / name / f"{number}.png")
    with pytest.raises(UserError, match=words):
        folder_task(tmp_path / "source", tmp_path / "target")


@pytest.mark.parametrize("inner, outer", [("target", "source"), ("source", "target")])
def test_one_folder_in_the_other(inner, outer, tmp_path):
    """The target would be a class of the source, or the source's images samples of the target."""
    places = {outer: tmp_path / "all", inner: tmp_path / "all" / "photos"}
    tree(places["source"], {"cat": 2, "dog": 2})
    save(places["target"] / "1.png")
    (tmp_path / "link").symlink_to(places[inner], target_is_directory=True)
    for place in (places[inner], tmp_path / "link"):
        with pytest.raises(UserError, match=f"Expected the {inner} outside of the {outer}; received .*lies in"):
            folder_task(*({**places, inner: place}[role] for role in ("source", "target")))


def test_a_folder_with_the_same_beginning_is_another_one(tmp_path):
    tree(tmp_path / "shop", {"cat": 2, "dog": 2})
    tree(tmp_path / "shop2", {"cat": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder_task(tmp_path / "shop", tmp_path / "shop2")


def test_the_same_folder_twice_is_told(own):
    with pytest.warns(UserWarning, match="are the same folder"):
        task = folder_task(own / "source", f"{own / 'source'}/")
    assert task.shared_classes == task.class_names


def test_names_in_another_unicode_form_are_the_same(tmp_path):
    """macOS keeps "é" as two characters."""
    composed, apart = "caf\u00e9", "cafe\u0301"
    tree(tmp_path / "source", {composed: 2, "dog": 2})
    tree(tmp_path / "target", {apart: 3})
    task = folder_task(tmp_path / "source", tmp_path / "target")
    assert task.shared_classes == (composed,) and len(task.target) == 3
    lines = [f"target/{apart}/000{number}.png\t{apart}" for number in range(3)]
    (tmp_path / "target.txt").write_text("\n".join(lines))
    assert folder_task(tmp_path / "source", tmp_path / "target.txt").target.class_counts.tolist() == [3, 0]
    tree(tmp_path / "twice", {apart: 1, composed: 1})
    with pytest.raises(UserError, match="one folder of class 'caf.*received two"):
        folder_task(tmp_path / "source", tmp_path / "twice")


def test_names_in_another_case_are_asked_about(tmp_path):
    tree(tmp_path / "source", {"Mug": 2, "mug": 2, "DOG": 2})
    tree(tmp_path / "target", {"mug": 1, "dog": 1})
    with pytest.warns(UserWarning, match="'Mug' and 'mug' in .*as two"):
        with pytest.raises(UserError, match=r"received 'dog' in .*Did you mean 'DOG'\?"):
            folder_task(tmp_path / "source", tmp_path / "target")
    (tmp_path / "source" / "mug").rename(tmp_path / "source" / "vase")
    tree(tmp_path / "all", {"dog": 1})
    with pytest.warns(UserWarning, match=r"taken as unlabelled. Did you mean 'DOG'\?"):
        folder_task(tmp_path / "source", tmp_path / "all")


def test_files_with_other_endings_are_counted(own):
    for name in ("cat/1.heic", "cat/2.HEIC", "dog/Thumbs.db", "dog/.DS_Store", "owl/deep/notes.txt"):
        (own / "source" / name).write_bytes(b"x")
    tree(own / "target", {"cat": 2})
    with pytest.warns(UserWarning, match=r"source: passed over 3 files with other endings \(2 .heic, 1 .txt\); readable are JPEG.* Convert photos"):
        folder_task(own / "source", own / "target")
    (own / "source" / "yak").mkdir()
    (own / "source" / "yak" / "1.heic").write_bytes(b"x")
    with pytest.raises(UserError, match=r"'.*yak' holds none, but 1 file with another ending \(1 .heic\); readable are JPEG.*Convert"):
        folder_task(own / "source", own / "target")
    (own / "phone").mkdir()
    (own / "source" / "yak" / "1.heic").rename(own / "phone" / "1.heic")
    (own / "source" / "yak").rmdir()
    with pytest.warns(UserWarning), pytest.raises(UserError, match="images in the target; .*1 .heic.*readable are JPEG"):
        folder_task(own / "source", own / "phone")


def test_missing_folders(own):
    for pair, role in (((own / "source", own / "no"), "target"), ((own / "no", own / "source"), "source")):
        with pytest.raises(UserError, match=f"folder of images as {role}, .*; '.*no' does not exist"):
            folder_task(*pair)


def test_bad_files_of_own_folders(own):
    tree(own / "target", {"cat": 2})
    page = own / "source" / "dog" / "page.jpg"
    page.write_text("<html>")
    with pytest.warns(UserWarning, match=": dog/page.jpg .*; skipped"):  # the folder's own path is not repeated
        task = folder_task(own / "source", own / "target")
    assert [bad.path for bad in task.source.bad_images] == [str(page)] and len(task.source) == 7
    with pytest.raises(UserError, match="page.jpg"):
        folder_task(own / "source", own / "target", on_bad_image="error")
    for name in ("0000.png", "0001.png"):
        os.remove(own / "source" / "dog" / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError, match="readable images of class 'dog'; 1 file cannot be read"):
            folder_task(own / "source", own / "target")


# ---------------------------------------------------------------- real data


@pytest.mark.skipif(not REAL, reason="needs ISRA_TEST_DATA")
@pytest.mark.parametrize("dataset", ["office_caltech10", "office_caltech10_features", "pacs_features"])
def test_real_data_matches_the_protocol(dataset):
    protocol = protocols()[dataset]
    names = list(protocol.domains)
    for source, target in zip(names, names[1:] + names[:1]):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            task = load_task(dataset, source, target, data_dir=REAL)
        assert tuple(task.source.class_counts) == protocol.counts[source]
        shared = [name in protocol.shared for name in protocol.classes]
        assert task.target.class_counts.tolist() == [n * s for n, s in zip(protocol.counts[target], shared)]


@pytest.mark.skipif(not REAL, reason="needs ISRA_TEST_DATA")
def test_real_photos_make_batches():
    from isra_keras.data.pairs import DomainPairs

    task = load_task("office_caltech10", "D", "W", data_dir=REAL)
    first, again = (
        next(DomainPairs(task, 8, 0, 256, 224, cache=False).dataset(start, 4).as_numpy_iterator()) for start in (3, 3)
    )
    assert first["source"]["images"].shape == (8, 224, 224, 3) and first["source"]["images"].std() > 20
    assert np.array_equal(first["target"]["images"], again["target"]["images"])


def test_images_beside_the_source_s_class_folders_are_told(own):
    tree(own / "photos", {"cat": 2})
    for name in ("a.png", "b.png"):
        save(own / "source" / name)
    with pytest.warns(UserWarning, match="source: 2 images beside the class folders, such as 'a.png', left out"):
        task = folder_task(own / "source", own / "photos")
    assert len(task.source) == 7


def test_a_class_folder_that_is_no_utf_8(own):
    """Its name would end a run in its figures, when all steps are done."""
    os.rename(own / "source" / "cat", os.path.join(os.fsencode(own / "source"), b"caf\xe9"))
    with pytest.raises(UserError, match=r"UTF-8; received 'caf\\udce9'"):
        folder_task(own / "source", own / "source")
