"""A frozen backbone: what it makes of a task's images is computed once, kept, and trained on instead of the images.

Our own addition, no paper's setting: bottleneck, classifier and the method's parts learn as ever, many steps a second on
a CPU. At the end the backbone is put in front again, so that the run folder is like any other.
"""

import errno
import hashlib
import io
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from filelock import FileLock, Timeout

from isra_keras.backbones import build_network
from isra_keras.data.decode import BadImageError, decode_resized
from isra_keras.data.domain import BadImage
from isra_keras.data.image_folder import summary
from isra_keras.data.pairs import evaluation_dataset, own_threads, plain_errors
from isra_keras.data.paths import Paths
from isra_keras.data.reader import DEFAULT_SIZE, late_bad_images
from isra_keras.errors import UserError

FORMAT = 2
"""Of the cache. Format 1 kept another image's features in the row of one that could not be decoded, and did not say so."""
CHUNK = 1024
"""Images in a file of the cache: what a killed extraction loses at most."""
BATCH = 64


def cache_folder():
    """Where features are kept: $ISRA_CACHE/features, ~/.cache/isra_keras/features without it."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(os.environ.get("ISRA_CACHE") or os.path.join(home, "isra_keras"))) / "features"


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
    folder = cache_folder() / _digest(domain, config, backbone)
    with _locked(folder, domain.name):
        parts = list(_chunks(domain, config, backbone, folder, quiet))
    late = {row: reason for _, bad in parts for row, reason in bad.items()}
    bad = tuple(BadImage(domain.paths[row], reason) for row, reason in sorted(late.items()))
    if bad and config.on_bad_image == "error":
        raise UserError(f"Expected readable images; {summary(bad)}. Remove or replace them, or pass over bad ones "
                        "(--on-bad-image skip).")  # fmt: skip
    labels = np.delete(domain.labels, sorted(late))
    names = Paths([path for row, path in enumerate(domain.paths) if row not in late]).digest() if late else domain.names_digest
    return replace(domain, paths=None, arrays=np.concatenate([features for features, _ in parts]), labels=labels,
                   bad_images=(*domain.bad_images, *bad), files=names)  # fmt: skip


@contextmanager
def _locked(folder, name):
    """The folder of a domain's features, for this process alone; one that can't be written to is read as it is.

    Raises:
        UserError: the folder is not there and can't be made, or, later, features are missing in it and can't be added.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            print(f"waiting for another process that computes the features of {name}", file=sys.stderr, flush=True)
            lock.acquire()
    except OSError as error:  # chunks are replaced whole, so that reading needs no lock
        if not folder.is_dir():
            raise _no_room(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _no_room(folder, error):
    return UserError(
        f"Expected a folder for features in '{folder.parent}'; the system refused: {error.strerror}. "
        "Name another in the environment variable ISRA_CACHE."
    )


def _chunks(domain, config, backbone, folder, quiet):
    """(float32 (k, p) features of the readable ones, {row: why it is not}) of 1,024 samples after the other.

    Each is kept before the next one begins.
    """
    import tensorflow as tf

    compute = tf.function(lambda images: backbone(tf.cast(images, "float32"), training=False))
    width = int(backbone.output.shape[-1])
    with _progress(f"features of {domain.name}", len(domain), quiet) as advance:
        for start in range(0, len(domain), CHUNK):
            stop = min(start + CHUNK, len(domain))
            path = folder / f"{start:08d}.npy"
            found = _read(path, start, stop, width)
            if found is not None and not any(_readable(domain.paths[row], config) for row in found[1]):
                advance(stop - start)
                yield found
                continue
            sizes, rows, missing = (config.image_size, config.crop_size), [], []
            data = evaluation_dataset(domain, BATCH, *sizes, cache=False, rows=(start, stop))
            with plain_errors():
                for batch in own_threads(data):
                    readable = batch["readable"].numpy()
                    rows.append(compute(batch["images"]).numpy().astype("float32")[readable])
                    missing += batch["indices"].numpy()[~readable].tolist()
                    advance(len(readable))
            reasons = dict(late_bad_images(domain, config.image_size)) if missing else {}
            found = np.concatenate(rows), {row: reasons.get(domain.paths[row], "unreadable") for row in missing}
            _write(path, *found)
            yield found


def _readable(path, config):
    """Whether an image that could not be read has become readable: its time of change tells nothing of permissions."""
    try:
        decode_resized(path, config.image_size or DEFAULT_SIZE)
    except BadImageError:
        return False
    return True


def _read(path, start, stop, width):
    """(features, {row: reason}) of a chunk, None where there is no whole one."""
    try:
        found, bad = np.load(path, allow_pickle=False), {}
        if len(found) < stop - start:
            listed = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            bad = {int(row): str(reason) for row, reason in listed.items()}
    except (OSError, ValueError, EOFError, AttributeError, TypeError):
        return None
    whole = found.shape == (stop - start - len(bad), width) and all(start <= row < stop for row in bad)
    return (found, bad) if whole and found.dtype == np.float32 else None


def _write(path, features, bad):
    """The chunk, whole or not at all; the images that it lacks are named in a .json beside it, written first."""
    listed = path.with_suffix(".json")
    if bad:
        _replace(listed, json.dumps(bad).encode())
    else:
        listed.unlink(missing_ok=True)
    content = io.BytesIO()
    np.save(content, features)
    _replace(path, content.getbuffer())


def _replace(path, content):
    """Bytes in a file, by way of one beside it."""
    aside = path.with_name(f"{path.name}.part")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise _no_room(path.parent, error) from error


def _digest(domain, config, backbone):
    """Name of a domain's features: the files (path, bytes, time of change) or pixels, the weights, the sizes."""
    digest = hashlib.sha256()
    sizes = [FORMAT, config.backbone, config.image_size, config.crop_size, config.precision, len(domain), keras.__version__]
    digest.update(json.dumps(sizes).encode())
    for weight in backbone.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    if domain.paths is None:
        digest.update(np.ascontiguousarray(domain.arrays).tobytes())
    else:
        for path in domain.paths:
            digest.update(os.fsencode(os.path.abspath(path)) + _stamp(path))
    return digest.hexdigest()[:32]


def _stamp(path):
    """Bytes that change with a file."""
    try:
        status = os.stat(path)
    except OSError:
        return b"\0gone\0"
    return f"\0{status.st_size} {status.st_mtime_ns}\0".encode()


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
