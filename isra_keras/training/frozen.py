"""A frozen backbone: what it makes of a task's images is computed once, kept, and trained on instead of the images.

Our own addition, no paper's setting: bottleneck, classifier and the method's parts learn as ever, many steps a second on
a CPU. At the end the backbone is put in front again, so that the run folder is like any other.
"""

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from filelock import FileLock

from isra_keras.backbones import build_network
from isra_keras.data.pairs import evaluation_dataset, own_threads, plain_errors
from isra_keras.errors import UserError

CHUNK = 1024
"""Images in a file of the cache: what a killed extraction loses at most."""
BATCH = 64


def cache_folder():
    """Where features are kept: $ISRA_CACHE/features, ~/.cache/isra_keras/features without it."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("ISRA_CACHE") or Path(home).expanduser() / "isra_keras") / "features"


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
    """The `Domain` with features; its paths give way to them, its labels and bad images stay."""
    folder = cache_folder() / _digest(domain, config, backbone)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"Expected a folder for features in '{folder.parent}'; the system refused: {error.strerror}. "
            "Name another in the environment variable ISRA_CACHE."
        ) from error
    with FileLock(folder / ".lock"):
        parts = list(_chunks(domain, config, backbone, folder, quiet))
    return replace(domain, paths=None, arrays=np.concatenate(parts))


def _chunks(domain, config, backbone, folder, quiet):
    """float32 (n, p) features of 1,024 samples after the other, each kept before the next one begins."""
    import tensorflow as tf

    compute = tf.function(lambda images: backbone(tf.cast(images, "float32"), training=False))
    width = int(backbone.output.shape[-1])
    with _progress(f"features of {domain.name}", len(domain), quiet) as advance:
        for start in range(0, len(domain), CHUNK):
            stop = min(start + CHUNK, len(domain))
            path = folder / f"{start:08d}.npy"
            found = _read(path, (stop - start, width))
            if found is None:
                sizes, rows = (config.image_size, config.crop_size), []
                data = evaluation_dataset(domain, BATCH, *sizes, cache=False, rows=(start, stop))
                with plain_errors():
                    for batch in own_threads(data):
                        rows.append(compute(batch["images"]).numpy().astype("float32"))
                        advance(len(rows[-1]))
                found = np.concatenate(rows)
                _write(path, found)
            else:
                advance(stop - start)
            yield found


def _read(path, shape):
    """The array of a chunk, None where there is no whole one."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.float32 else None


def _write(path, array):
    """The chunk, whole or not at all."""
    aside = path.with_suffix(".part")
    with open(aside, "wb") as file:
        np.save(file, array)
    aside.replace(path)


def _digest(domain, config, backbone):
    """Name of a domain's features: the files (path, bytes, time of change) or pixels, the weights, the sizes."""
    digest = hashlib.sha256()
    sizes = [config.backbone, config.image_size, config.crop_size, config.precision, len(domain), keras.__version__]
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
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty())

    def __enter__(self):
        self.bar.start()
        number = self.bar.add_task(self.what, total=self.total)
        return lambda samples: self.bar.advance(number, samples)

    def __exit__(self, *error):
        self.bar.stop()
