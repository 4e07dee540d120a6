"""A frozen backbone: what it makes of a task's images is computed once, kept, and trained on instead of the images.

Our own addition, no paper's setting: bottleneck, classifier and the method's parts learn as ever, many steps a second on
a CPU. At the end the backbone is put in front again, so that the run folder is like any other.
"""

import hashlib
import json
import sys
from dataclasses import replace

import keras
import numpy as np

from isra_keras.backbones import build_network
from isra_keras.data.decode import BadImageError, decode_resized
from isra_keras.data.domain import BadImage
from isra_keras.data.image_folder import summary
from isra_keras.data.pairs import evaluation_dataset, own_threads, plain_errors
from isra_keras.data.paths import Paths
from isra_keras.data.reader import DEFAULT_SIZE, late_bad_images
from isra_keras.errors import UserError
from isra_keras.training import feature_cache
from isra_keras.training.feature_cache import KnownRows, cache_folder, file_stamp, locked, read_chunk, write_chunk

FORMAT = 2
"""Of the cache. Format 1 kept another image's features in the row of one that could not be decoded, and did not say so."""
BATCH = 64


def frozen_task(config, task, quiet=False):
    """The task with the backbone's pooled features of the centre crops in place of the images.

    Features of the same files, weights and sizes are read from the cache; what is missing is computed and added.

    Args:
        config: `TrainConfig`; its backbone, weights, sizes and precision count.
        task: `Task` of images.
        quiet: no progress.

    Returns:
        `Task` of kind "features", float32 (n, p) arrays.

    Raises:
        UserError: features already, or weights that nothing has trained.
    """
    if task.kind == "features":
        raise UserError(f"Expected images with --freeze-backbone; '{task.name}' has features. Leave the option out.")
    if config.weights == "none" or config.backbone in ("small_cnn", "features"):
        raise UserError(
            f"Expected trained --weights with --freeze-backbone; received backbone {config.backbone} with weights "
            f"{config.weights}: frozen, it would never learn anything."
        )
    network = build_network(config.backbone, 2, 2, _shape(config, task), config.weights, seed=config.seed,
                            batch_norm="fixed")  # fmt: skip
    backbone = network.get_layer("backbone")
    domains = [_with_features(domain, config, backbone, quiet) for domain in (task.source, task.target)]
    return replace(task, source=domains[0], target=domains[1], kind="features")


def whole_network(config, task, head):
    """The network of images whose bottleneck and classifier are those of a network of frozen features.

    Args:
        config: `TrainConfig` of the run.
        task: of `frozen_task`.
        head: network of features, as trained.
    """
    from isra_keras.training.build import network_options

    network = build_network(
        config.backbone, len(task.class_names), config.feature_dim, _shape(config, task), config.weights,
        seed=config.seed, batch_norm="fixed", **network_options(config),
    )  # fmt: skip
    for name in ("bottleneck", "classifier"):
        network.get_layer(name).set_weights(head.get_layer(name).get_weights())
    return network


def _shape(config, task):
    """(height, width, 3) that the backbone receives."""
    size = config.crop_size or config.image_size or task.image_size
    return size, size, 3


def _with_features(domain, config, backbone, quiet):
    """The `Domain` with features in place of paths, without the images that fail only now: they join its bad images.

    Raises:
        UserError: on_bad_image="error" and such an image; no image of the domain is readable; no folder for the cache.
    """
    stamps = None if domain.paths is None else [file_stamp(path) for path in domain.paths]
    folder = cache_folder() / _digest(domain, config, backbone, stamps)
    known = None if stamps is None else KnownRows(folder, _settings(config, backbone).hexdigest(), stamps)
    with locked(folder, domain.name):
        parts = list(_chunks(domain, config, backbone, folder, known, quiet))
        if known is not None:
            known.note()
    late = {row: reason for _, bad in parts for row, reason in bad.items()}
    bad = tuple(BadImage(domain.paths[row], reason) for row, reason in sorted(late.items()))
    if bad and config.on_bad_image == "error":
        raise UserError(f"Expected readable images; {summary(bad)}. Remove or replace them, or pass over bad ones "
                        "(--on-bad-image skip).")  # fmt: skip
    labels = np.delete(domain.labels, sorted(late))
    names = Paths([path for row, path in enumerate(domain.paths) if row not in late]).digest() if late else domain.names_digest
    return replace(domain, paths=None, arrays=np.concatenate([features for features, _ in parts]), labels=labels,
                   bad_images=(*domain.bad_images, *bad), files=names)  # fmt: skip


def _chunks(domain, config, backbone, folder, known, quiet):
    """(float32 (k, p) features of the readable ones, {row: why it is not}) of 1,024 samples after the other.

    Each is kept before the next one begins.
    """
    import tensorflow as tf

    compute = tf.function(lambda images: backbone(tf.cast(images, "float32"), training=False))
    width = int(backbone.output.shape[-1])
    with _progress(f"features of {domain.name}", len(domain), quiet) as advance:
        for start in range(0, len(domain), feature_cache.CHUNK):
            stop = min(start + feature_cache.CHUNK, len(domain))
            path = folder / f"{start:08d}.npy"
            found = read_chunk(path, start, stop, width)
            if found is not None and not any(_readable(domain.paths[row], config) for row in found[1]):
                advance(stop - start)
                yield found
                continue
            nothing = np.zeros((stop - start, width), "float32"), np.zeros(stop - start, bool)
            features, kept = nothing if known is None else known.take(start, stop, width)
            advance(int(kept.sum()))
            fresh, bad = _computed(domain, np.flatnonzero(~kept) + start, config, compute, advance)
            for row, values in fresh.items():
                features[row - start] = values
            found = np.delete(features, [row - start for row in bad], axis=0), bad
            write_chunk(path, *found)
            yield found


def _computed(domain, rows, config, compute, advance):
    """({row: (p,) features}, {row: why it can't be read}) of int (k,) rows of the domain."""
    if not len(rows):
        return {}, {}
    some, span = domain, (int(rows[0]), int(rows[-1]) + 1)
    if span[1] - span[0] > len(rows):  # with gaps
        some, span = replace(domain, paths=[domain.paths[row] for row in rows], labels=domain.labels[rows]), (0, len(rows))
    fresh, missing = {}, []
    data = evaluation_dataset(some, BATCH, config.image_size, config.crop_size, cache=False, rows=span)
    with plain_errors():
        for batch in own_threads(data):
            numbers, readable = rows[batch["indices"].numpy() - span[0]], batch["readable"].numpy()
            values = compute(batch["images"]).numpy().astype("float32")
            fresh.update(zip(numbers[readable].tolist(), values[readable]))
            missing += numbers[~readable].tolist()
            advance(len(readable))
    reasons = dict(late_bad_images(some, config.image_size)) if missing else {}
    return fresh, {row: reasons.get(domain.paths[row], "unreadable") for row in missing}


def _readable(path, config):
    """Whether an image that could not be read has become readable: its time of change tells nothing of permissions."""
    try:
        decode_resized(path, config.image_size or DEFAULT_SIZE)
    except BadImageError:
        return False
    return True


def _settings(config, backbone, *more):
    """A SHA-256 of what features depend on beside the images: the weights, the sizes."""
    sizes = [FORMAT, config.backbone, config.image_size, config.crop_size, config.precision, *more, keras.__version__]
    digest = hashlib.sha256(json.dumps(sizes).encode())
    for weight in backbone.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest


def _digest(domain, config, backbone, stamps):
    """Name of a domain's features: the files (path, bytes, time of change) or pixels, the weights, the sizes."""
    digest = _settings(config, backbone, len(domain))
    for part in (np.ascontiguousarray(domain.arrays).tobytes(),) if stamps is None else stamps:
        digest.update(part)
    return digest.hexdigest()[:32]


class _progress:
    """A bar on a terminal; `advance(samples)` moves it."""

    def __init__(self, what, total, quiet):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.total, self.what = total, what
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty())

    def __enter__(self):
        self.bar.start()
        number = self.bar.add_task(self.what, total=self.total)
        return lambda samples: self.bar.advance(number, samples)

    def __exit__(self, *error):
        self.bar.stop()
