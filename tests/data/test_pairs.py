"""pairs: batches are a function of (seed, step), every sample comes once a pass, streams do not disturb each other."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from isra_keras.data.pairs import DomainPairs, evaluation_dataset, plain_errors
from isra_keras.errors import UserError
from tests.data.made import array_domain, feature_domain, file_domain, grey, save, task_of, undecodable
from tests.figures import no_figures  # noqa: F401


def sizes(step):
    """A middle batch that comes, grows, shrinks and goes."""
    return (0, 3, 5, 2)[step % 4]


@pytest.fixture(params=["files", "arrays", "features"])
def task(request, tmp_path):
    if request.param == "files":
        return task_of(file_domain(tmp_path / "s", 13), file_domain(tmp_path / "t", 7))
    make = {"arrays": array_domain, "features": feature_domain}[request.param]
    return task_of(make(13), make(7))


@pytest.fixture
def features():
    return task_of(feature_domain(13), feature_domain(7))


def pairs_of(task, seed=0, **options):
    sizes_of_images = {"image_size": 8, "crop_size": 6} if task.kind == "images" else {}
    return DomainPairs(task, 4, seed, **(sizes_of_images | {"middle_size": sizes} | options))


def taken(pairs, start=0, stop=None):
    """Batches as numpy."""
    return list(pairs.dataset(start, stop).as_numpy_iterator())


def indices(batches, stream):
    return np.concatenate([batch[stream]["indices"] for batch in batches]).tolist()


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


def differ(first, second):
    return any(not np.array_equal(a, b) for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second)))


# ---------------------------------------------------------------- a function of (seed, step)


def test_equal_seeds_give_equal_batches(task):
    first = taken(pairs_of(task), 0, 9)
    assert_equal(first, taken(pairs_of(task), 0, 9))
    assert differ(first, taken(pairs_of(task, seed=1), 0, 9))


def test_one_batch_is_that_of_the_dataset(task):
    wanted = taken(pairs_of(task), 0, 4)
    assert_equal([pairs_of(task).batch(step) for step in range(4)], wanted)
    with pytest.raises(UserError, match="at least 0"):
        pairs_of(task).batch(-1)


@pytest.mark.parametrize("step", [1, 6])
def test_resuming_goes_on_as_if_never_stopped(task, step):
    assert_equal(taken(pairs_of(task), 0, 9)[step:], taken(pairs_of(task), step, 9))


def test_resuming_far_on(features):
    assert_equal(taken(pairs_of(features), 2998, 3002)[2:], taken(pairs_of(features), 3000, 3002))


def test_balanced_batches_resume_too(features):
    options = {"source_sampling": "balanced"}
    assert_equal(taken(pairs_of(features, **options), 0, 9)[5:], taken(pairs_of(features, **options), 5, 9))


def test_augmentation_changes_from_pass_to_pass(tmp_path):
    task = task_of(array_domain(4, size=32), array_domain(4, size=32))
    first, second = (batch["target"] for batch in taken(DomainPairs(task, 4, 0), 0, 2))
    images = [dict(zip(part["indices"].tolist(), part["images"])) for part in (first, second)]
    assert any(not np.array_equal(images[0][i], images[1][i]) for i in range(4))
    plain = taken(DomainPairs(task, 4, 0, augment=False), 0, 1)[0]["target"]
    assert np.array_equal(plain["images"], task.target.arrays[plain["indices"]])


def test_a_warm_and_a_cold_cache_give_equal_batches(tmp_path):
    task = task_of(file_domain(tmp_path / "s", 13), file_domain(tmp_path / "t", 7))
    kept = pairs_of(task, cache=True)
    taken(kept, 0, 5)
    warm = taken(kept, 5, 9)
    del kept
    assert_equal(warm, taken(pairs_of(task, cache=False), 5, 9))


# ---------------------------------------------------------------- what the batches hold


def test_every_sample_once_a_pass(task):
    batches = taken(pairs_of(task), 0, 26)
    for stream, count in (("source", 13), ("target", 7), ("middle", 13)):
        drawn = indices(batches, stream)
        passes = [drawn[begin : begin + count] for begin in range(0, len(drawn) - count + 1, count)]
        assert len(passes) >= 4 and all(sorted(one) == list(range(count)) for one in passes)
        assert passes[0] != passes[1]


def test_images_and_labels_belong_to_the_indices(task):
    for batch in taken(pairs_of(task, augment=False, crop_size=None), 0, 6):
        assert set(batch["source"]) == set(batch["middle"]) == {"images", "labels", "indices"}
        assert set(batch["target"]) == {"images", "indices"}  # no labels of the target, ever
        for stream, part in batch.items():
            domain = task.target if stream == "target" else task.source
            at, corner = part["indices"], (...,) + (0,) * (part["images"].ndim - 1)
            expected = 2 * at if domain.paths else domain.arrays[at][corner]
            np.testing.assert_array_equal(part["images"][corner], expected)
            if "labels" in part:
                np.testing.assert_array_equal(part["labels"], domain.labels[at])
                assert part["labels"].dtype == np.int32


def test_streams_are_independent(features):
    """Neither a middle batch, nor its size, nor other sampling of the source changes what the others hold."""
    full = taken(pairs_of(features), 0, 12)
    bare = taken(pairs_of(features, middle_size=None), 0, 12)
    balanced = taken(pairs_of(features, source_sampling="balanced"), 0, 12)
    no_source = taken(pairs_of(features, uses_source=False), 0, 12)
    assert indices(full, "source") == indices(bare, "source")
    assert indices(full, "middle") == indices(balanced, "middle")
    for other in (bare, balanced, no_source):
        assert indices(full, "target") == indices(other, "target")
    assert "middle" not in bare[0] and set(no_source[0]) == {"target"}
    even = task_of(feature_domain(13), feature_domain(13))
    drawn = taken(pairs_of(even, middle_size=[4]), 0, 3)
    orders = [indices(drawn, stream) for stream in ("source", "target", "middle")]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_middle_batches_of_changing_size(task):
    pairs = pairs_of(task)
    assert [len(batch["middle"]["images"]) for batch in taken(pairs, 0, 6)] == [0, 3, 5, 2, 0, 3]
    spec = pairs.dataset().element_spec
    assert all(part["indices"].shape.as_list() == [None] for part in spec.values())
    assert all(part["images"].shape.as_list()[0] is None for part in spec.values())
    assert [len(b["middle"]["labels"]) for b in taken(pairs_of(task, middle_size=[1, 0, 4]), 0, 5)] == [1, 0, 4, 4, 4]


def test_balanced_sampling_of_skewed_classes():
    source = feature_domain(40)
    source.labels[:] = [0] * 36 + [1, 1, 2, 2]
    batches = taken(pairs_of(task_of(source, feature_domain(7)), source_sampling="balanced"), 0, 150)
    labels = np.concatenate([batch["source"]["labels"] for batch in batches])
    np.testing.assert_allclose(np.bincount(labels) / 600, 1 / 3, atol=0.06)


def test_lengths(features):
    pairs = pairs_of(features)
    assert len(pairs.dataset(3, 8)) == 5 and taken(pairs, 4, 4) == []
    assert pairs.dataset().cardinality() == tf.data.INFINITE_CARDINALITY
    assert pairs.sizes == {"source": 13, "target": 7}


# ---------------------------------------------------------------- files that go bad


def damage(domain, gone, cut):
    """Removes one file and truncates another, as a disk might during a run."""
    os.remove(domain.paths[gone])
    with open(domain.paths[cut], "r+b") as file:
        file.truncate(50)


def test_the_run_goes_on_without_files_that_go_bad(tmp_path):
    task = task_of(file_domain(tmp_path / "s", 13), file_domain(tmp_path / "t", 7))
    pairs = pairs_of(task, cache=False, augment=False)
    batches = pairs.dataset(0, 40).as_numpy_iterator()
    next(batches)
    damage(task.source, 4, 9)
    damage(task.target, 0, 6)
    with pytest.warns(UserWarning, match="cannot be read"):
        rest = list(batches)
    assert len(rest) == 39
    for stream, bad in (("source", {4, 9}), ("target", {0, 6}), ("middle", {4, 9})):
        late = rest[-20:]  # past what was prefetched
        assert not bad & set(indices(late, stream))
        for batch in late:
            part = batch[stream]
            np.testing.assert_array_equal(part["images"][:, 0, 0, 0], 2 * part["indices"])
            if stream != "target":  # a label of what is shown, not of what was asked for
                np.testing.assert_array_equal(part["labels"], task.source.labels[part["indices"]])
    named = {(os.path.basename(os.path.dirname(bad.path)), os.path.basename(bad.path)) for bad in pairs.bad_images}
    assert named == {("s", "004.png"), ("s", "009.png"), ("t", "000.png"), ("t", "006.png")}


def test_evaluation_goes_on_too(tmp_path):
    domain = file_domain(tmp_path, 5)
    damage(domain, 1, 2)
    with pytest.warns(UserWarning, match="001.png"):
        batches = list(evaluation_dataset(domain, 2, 8, cache=False).as_numpy_iterator())
    assert indices([{"all": batch} for batch in batches], "all") == [0, 1, 2, 3, 4]
    assert [int(level) for batch in batches for level in batch["images"][:, 0, 0, 0]] == [0, 6, 6, 6, 8]
    assert [bool(one) for batch in batches for one in batch["readable"]] == [True, False, False, True, True]


# ---------------------------------------------------------------- evaluation


@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
def test_evaluation_is_in_order_and_whole(task, batch_size):
    data = evaluation_dataset(task.source, batch_size, 8 if task.kind == "images" else None)
    batches = list(data.as_numpy_iterator())
    assert len(data) == len(batches) == -(-13 // batch_size)
    assert indices([{"all": batch} for batch in batches], "all") == list(range(13))
    assert all(len(batch["images"]) == batch_size for batch in batches[:-1])


def test_evaluation_takes_the_centre():
    domain = array_domain(5)
    batch = next(evaluation_dataset(domain, 5, 8, 4).as_numpy_iterator())
    assert np.array_equal(batch["images"], domain.arrays[:, 2:6, 2:6])


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    "options, words",
    [
        ({"batch_size": 8}, "at most 7 samples, all that the target domain 'features' has; received a batch of 8"),
        ({"batch_size": 14}, "at most"),
        ({"batch_size": 0}, "batch size of at least 1"),
        ({"batch_size": 2, "middle_size": lambda step: step}, "at most 13 samples, all that the source"),
        ({"batch_size": 2, "source_sampling": "sorted"}, "shuffle, balanced; received 'sorted'"),
    ],
)
def test_what_cannot_be_drawn(features, options, words):
    with pytest.raises(UserError, match=words):
        DomainPairs(features, seed=0, **options)


def test_steps_that_make_no_sense(features):
    for start, stop in ((-1, None), (5, 4)):
        with pytest.raises(UserError, match="0 <= start <= stop"):
            pairs_of(features).dataset(start, stop)
    with pytest.raises(UserError, match="at least 1"):
        evaluation_dataset(features.target, 0)


def test_balanced_batches_may_be_larger_than_the_source():
    pairs = DomainPairs(task_of(feature_domain(3), feature_domain(9)), 9, 0, source_sampling="balanced")
    assert len(taken(pairs, 0, 1)[0]["source"]["images"]) == 9


def test_everything_gone_ends_with_a_sentence(tmp_path):
    domain = file_domain(tmp_path, 3)
    for path in domain.paths:
        os.remove(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError, match=r"^Expected readable images in domain files; [^\n]*still there\?$"):
            with plain_errors():
                list(evaluation_dataset(domain, 2, 8, cache=False))
    with pytest.raises(tf.errors.OpError), plain_errors():  # anything else stays what it is
        raise tf.errors.UnknownError(None, None, "other")


@pytest.mark.usefixtures("no_figures")
def test_a_run_goes_on_and_names_what_went_bad(tmp_path, monkeypatch):
    """Two files vanish while a run trains: it ends, and bad_images.csv has them with those of the scan."""
    from isra_keras.data.tasks import folder_task
    from isra_keras.training import callbacks, recipes, runner

    for role in ("source", "target"):
        for number in range(12):
            save(tmp_path / role / "ab"[number % 2] / f"{number}.png", grey(20 * number, 32))
    (tmp_path / "source" / "a" / "empty.png").write_bytes(b"")

    class Vandal(callbacks.RunCallback):
        def on_step(self, step, logs):
            if step == 1:
                os.remove(tmp_path / "target" / "a" / "0.png")
                (tmp_path / "source" / "b" / "1.png").write_bytes(b"<html>")

    folders = {"source_dir": str(tmp_path / "source"), "target_dir": str(tmp_path / "target")}
    config = recipes.resolve(**folders, method="source_only", semantic=False, backbone="small_cnn", weights="none",
                             iterations=30, eval_interval=30, batch_size=4, image_size=32, crop_size=28)  # fmt: skip
    monkeypatch.setattr("isra_keras.data.image_store.fits", lambda nbytes: False)  # nothing is kept in memory
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = folder_task(tmp_path / "source", tmp_path / "target")
        result = runner.run(config, tmp_path / "run", task=task, callbacks=[Vandal()], quiet=True)
    assert result.samples == 11  # of 12: the file that vanished is nobody's
    assert (tmp_path / "run" / "report" / "bad_images.csv").read_text().splitlines() == [
        "path,reason",
        f"{tmp_path}/source/a/empty.png,empty file",
        f'{tmp_path}/source/b/1.png,"a text page (HTML, XML or SVG), not an image"',
        f"{tmp_path}/target/a/0.png,file not found",
    ]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("method", ["source_only", "shot"])
def test_a_run_counts_no_image_that_cannot_be_decoded(tmp_path, method):
    """It looks whole to the scan; every evaluation counted the next image in its place, under its label."""
    from isra_keras.training import recipes, runner

    for role in ("source", "target"):
        for number in range(12):
            save(tmp_path / role / "ab"[number % 2] / f"{number}.png", grey(20 * number, 32))
    bad = undecodable(tmp_path / "target" / "a" / "5x.jpg")
    folders = {"source_dir": str(tmp_path / "source"), "target_dir": str(tmp_path / "target")}
    config = recipes.resolve(**folders, method=method, semantic=False, backbone="small_cnn", weights="none",
                             iterations=4, eval_interval=2, batch_size=4, image_size=32, crop_size=28)  # fmt: skip
    with pytest.warns(UserWarning, match="cannot be read"):
        result = runner.run(config, tmp_path / "run", quiet=True)
    assert result.samples == 12 and result.selected.accuracy * 12 == pytest.approx(round(result.selected.accuracy * 12))
    assert bad in (tmp_path / "run" / "report" / "bad_images.csv").read_text()


@pytest.mark.parametrize("count", [2, 4])
def test_replicas_read_their_own_rows_of_the_same_batches(task, count):
    """Together in order they have the whole batch with its crops; fewer middle rows than replicas are read by each."""
    whole = taken(pairs_of(task), 0, 6)
    shares = [taken(pairs_of(task, replicas=(number, number + 1, count)), 0, 6) for number in range(count)]
    for step, batch in enumerate(whole):
        assert pairs_of(task).rows(step) == {domain: len(part["indices"]) for domain, part in batch.items()}
        for domain, part in batch.items():
            for name, values in part.items():
                parts = [share[step][domain][name] for share in shares]
                alike = len(values) < count
                np.testing.assert_array_equal(parts[-1] if alike else np.concatenate(parts), values)
                assert alike or max(map(len, parts)) - min(map(len, parts)) <= 1


def test_an_evaluation_of_some_rows_is_that_part_of_the_whole(task):
    options = {"image_size": 8, "crop_size": 6} if task.kind == "images" else {}
    whole = list(evaluation_dataset(task.source, 4, **options).as_numpy_iterator())
    part = list(evaluation_dataset(task.source, 4, **options, rows=(5, 12)).as_numpy_iterator())
    assert [len(batch["indices"]) for batch in part] == [4, 3]
    for name in ("images", "indices"):
        one, other = (np.concatenate([batch[name] for batch in batches]) for batches in (whole, part))
        np.testing.assert_array_equal(one[5:12], other)


def test_a_process_ends_while_batches_are_read_ahead(tmp_path):
    made = "from tests.data.made import save; from pathlib import Path; from isra_keras.data.pairs import DomainPairs, own_threads; " \
           "from isra_keras.data.tasks import folder_task; "  # fmt: skip
    files = f"[save(Path({str(tmp_path)!r}, part, f'{{i % 2}}', f'{{i}}.png')) for part in ('s', 't') for i in range(9)]; "
    task = f"task = folder_task({str(tmp_path / 's')!r}, {str(tmp_path / 't')!r}); "
    read = "batches = iter(own_threads(DomainPairs(task, 4, 0, 64, cache=False).dataset())); next(batches)"
    subprocess.run([sys.executable, "-c", made + files + task + read], check=True, timeout=240, cwd=Path(__file__).parents[2])
