"""From names or folders to a `Task`: `load_task` for the benchmarks, `folder_task` for anybody's own images."""

import os
import warnings
import zipfile

import numpy as np

from isra_keras.data import image_folder
from isra_keras.data.domain import Domain, Task
from isra_keras.data.image_folder import make_domain
from isra_keras.data.locate import data_roots, find_domain, find_feature_file, missing
from isra_keras.data.own_folders import PHOTO_SIZE, folder_task  # noqa: F401 - a task as the others
from isra_keras.data.protocols import choose, facts, plain, protocols
from isra_keras.errors import UserError

DATASETS = tuple(protocols())


def domain_names(dataset):
    """Full names of a dataset's domains, as a list."""
    return list(protocol_of(dataset).domains)


def protocol_of(dataset):
    """The `Protocol` of a dataset.

    Raises:
        UserError: if the name is unknown.
    """
    return protocols()[choose(dataset, list(protocols()), "dataset")]


def resolve_domain(dataset, name):
    """Full name of a domain from any spelling ("Rw", "Real World") of it.

    Raises:
        UserError: if the name is unknown.
    """
    protocol = protocol_of(dataset)
    for domain in protocol.domains:
        if plain(name) and plain(name) in protocol.spellings(domain):
            return domain
    return choose(name, protocol.domains, f"domain of {protocol.name}")


def resolve_task_name(dataset, name):
    """(source, target) of a task name such as "Ar-Cl", "A2W", "printed->handwritten".

    Args:
        dataset: name of the dataset.
        name: two domains joined by "-", "->", "2", "_to_", ":" or "/".

    Raises:
        UserError: if it is no pair of domains.
    """
    text = str(name)
    for joint in ("->", "→", "-", "_to_", ":", "/", ",", "2"):
        parts = [part.strip() for part in text.split(joint)]
        if len(parts) == 2 and all(parts):
            return _checked_pair(protocol_of(dataset), *(resolve_domain(dataset, part) for part in parts))
    shorts = ", ".join(protocol_of(dataset).domains.values())
    raise UserError(f"Expected a task SOURCE-TARGET with domains of {shorts}; received '{name}'.")


def task_name(dataset, source, target):
    """Short name of a task: "Ar-Cl"."""
    shorts = protocol_of(dataset).domains
    return "-".join(shorts[resolve_domain(dataset, name)] for name in (source, target))


def task_names(dataset):
    """Short names of all tasks of a dataset, in the order of its domains."""
    shorts = protocol_of(dataset).domains.values()
    return [f"{source}-{target}" for source in shorts for target in shorts if source != target]


def load_task(
    dataset, source=None, target=None, data_dir=None, seed=0, allow_incomplete=False, on_bad_image="skip"
):  # fmt: skip
    """A benchmark task with its partial protocol.

    Args:
        dataset: one of `DATASETS`.
        source, target: domains, by full or short name; None for the dataset's default.
        data_dir: folder of the dataset, or one that holds it; None for the environment's ISRA_DATA, ISRA_TEST_DATA.
        seed: of data that is made at run time (glyphs).
        allow_incomplete: go on where counts differ from the protocol's.
        on_bad_image: "skip" leaves unreadable files out (see `Domain.bad_images`), "error" refuses.

    Returns:
        `Task`; the target's labels use the source's numbering.

    Raises:
        UserError: if a name is unknown, data is missing, or counts differ.
    """
    protocol = protocol_of(dataset)
    default = protocol.default
    pair = [resolve_domain(protocol.name, given or fallback) for given, fallback in zip((source, target), default)]
    source, target = _checked_pair(protocol, *pair)
    if protocol.name == "glyphs":
        return _glyph_task(protocol, source, target, seed)
    roots = data_roots(protocol, data_dir)
    if protocol.kind == "features":
        return _feature_task(protocol, source, target, roots, allow_incomplete)
    if protocol.name == "imagenet_caltech":
        from isra_keras.data.imagenet_caltech import imagenet_caltech_task

        return imagenet_caltech_task(protocol, source, target, roots, allow_incomplete, on_bad_image)
    every = tuple(range(len(protocol.classes)))
    shared = tuple(protocol.classes.index(name) for name in protocol.shared)
    domains = []
    for name, wanted in ((source, every), (target, shared)):
        folder = find_domain(protocol, name, roots)
        domains.append(read_classes(protocol, name, folder, wanted, allow_incomplete, on_bad_image))
    return _task(protocol, *domains, protocol.shared, PHOTO_SIZE)


def read_classes(protocol, domain, folder, wanted, allow_incomplete, on_bad_image):
    """`Domain` of the classes `wanted` (indices) of a protocol's domain; labels are these indices.

    Raises:
        UserError: if counts differ from the protocol's and `allow_incomplete` is False, or nothing is there.
    """
    present = {plain(name): name for name in image_folder.class_folders(folder)}
    found = {index: present.get(plain(protocol.classes[index])) for index in wanted}
    folders = {index: os.path.join(folder, name) for index, name in found.items() if name}
    files, labels = image_folder.labelled_files(folders, recursive=False)
    counts, problems = np.bincount(labels, minlength=len(protocol.classes)), []
    for index in wanted:
        name, expected = protocol.classes[index], protocol.counts[domain][index]
        if counts[index] != expected:
            state = f"{counts[index]:,} images" if found[index] else "no folder"
            problems.append(f"{name}: expected {expected:,} images, found {state}")
    report_problems(protocol, domain, folder, problems, allow_incomplete)
    return make_domain(domain, protocol.classes, files, labels, folder, on_bad_image)


def report_problems(protocol, domain, place, problems, allow_incomplete):
    """Refuses differences from the protocol, or warns of them where they are allowed."""
    if not problems:
        return
    text = f"{protocol.name}, domain {domain} in '{place}' differs from the protocol: {'; '.join(problems[:8])}"
    text += f"; and {len(problems) - 8} more classes." if len(problems) > 8 else "."
    if not allow_incomplete:
        raise UserError(
            f"{text} Get the whole dataset ({protocol.origin}) or go on with --allow-incomplete "
            "(in Python: allow_incomplete=True)."
        )
    warnings.warn(text, stacklevel=3)


def _checked_pair(protocol, source, target):
    if source == target:
        raise UserError(f"Expected two different domains of {', '.join(protocol.domains)}; received '{source}' twice.")
    return source, target


def _task(protocol, source, target, shared, image_size):
    name = "-".join(protocol.domains[domain.name] for domain in (source, target))
    return Task(name, source, target, source.class_names, tuple(shared), protocol.kind, image_size, protocol.name)


def _glyph_task(protocol, source, target, seed):
    """36 classes -> the 10 digits; from the handwritten digits (10 classes) -> the digits 0 to 4."""
    from isra_keras.data import glyphs

    digits = protocol.classes[:10]
    classes = digits if source == "handwritten" else protocol.classes
    shared = digits[:5] if source == "handwritten" else digits
    domains = []
    for name, count in ((source, len(classes)), (target, len(shared))):
        images, labels = glyphs.load(name, seed)
        keep = labels < count
        domains.append(Domain(name, classes, labels[keep], None, images[keep]))
    return _task(protocol, *domains, shared, glyphs.SIZE)


def _feature_task(protocol, source, target, roots, allow_incomplete):
    path = find_feature_file(protocol, roots)
    try:
        with np.load(path, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in ("features", "domain", "cls", "path")}
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"Expected {protocol.layout}; '{path}' cannot be read: {error}. Copy it anew.") from error
    shapes = {name: column.shape for name, column in columns.items()}
    rows = len(columns["features"]) if columns["features"].ndim == 2 else -1
    if any(shapes[name] != (rows,) for name in ("domain", "cls", "path")):
        raise UserError(f"Expected features (n, p) and n entries of domain, cls and path in '{path}'; received {shapes}.")
    broken = np.flatnonzero(~np.isfinite(columns["features"]).all(axis=1))
    if len(broken):
        raise UserError(f"Expected finite features in '{path}'; {len(broken)} rows hold NaN or infinity, the first is row "
                        f"{broken[0]}. Make the features anew.")  # fmt: skip
    domains = []
    for name, wanted in ((source, protocol.classes), (target, protocol.shared)):
        rows = [i for i in np.flatnonzero(columns["domain"] == name) if str(columns["cls"][i]) in wanted]
        order = sorted(rows, key=lambda i: (protocol.classes.index(str(columns["cls"][i])), str(columns["path"][i])))
        labels = np.array([protocol.classes.index(str(columns["cls"][i])) for i in order], "int32")
        if not order:
            raise missing(protocol, roots, f"'{path}' has no rows of domain {name}")
        counts = np.bincount(labels, minlength=len(protocol.classes))
        expected = zip(protocol.classes, counts, protocol.counts[name])
        problems = [f"{c}: expected {e} rows, found {n}" for c, n, e in expected if c in wanted and n != e]
        report_problems(protocol, name, path, problems, allow_incomplete)
        arrays = np.ascontiguousarray(columns["features"][order], "float32")
        domains.append(Domain(name, protocol.classes, labels, None, arrays))
    return _task(protocol, *domains, protocol.shared, None)


def shared_pairs():
    """[(ImageNet index, Caltech-256 index)] of the 84 classes that both have."""
    return [tuple(pair) for pair in facts()["imagenet_caltech"]["pairs"]]
