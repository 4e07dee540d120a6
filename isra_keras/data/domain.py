"""What a domain and a task are: lists of samples, nothing that reads or decodes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from isra_keras.data.paths import Paths


class BadImage(NamedTuple):
    """A file that could not be read as an image.

    Attributes:
        path: the file.
        reason: why, in words for people ("empty file", "an HTML page, not an image", ...).
    """

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Domain:
    """An ordered list of samples with the source's label numbering.

    Attributes:
        name: "Art", "printed", or the folder's name.
        class_names: C names of the source's classes, in label order (for a target too).
        labels: (n,) int32 in 0..C-1; -1 where a sample has no label.
        paths: n image files, kept as `isra_keras.data.paths.Paths`, or None.
        arrays: uint8 (n, height, width, 3) images or float32 (n, p) features, or None.
        bad_images: files that were left out, with the reason.
        files: digest of the names of the image files that arrays of features were made of, or None.
    """

    name: str
    class_names: tuple[str, ...]
    labels: np.ndarray
    paths: Sequence[str] | None = None
    arrays: np.ndarray | None = field(default=None, repr=False)
    bad_images: tuple[BadImage, ...] = ()
    files: str | None = None

    def __post_init__(self):
        if (self.paths is None) == (self.arrays is None):
            raise ValueError("Expected either paths or arrays; received both or neither.")
        if self.paths is not None and not isinstance(self.paths, Paths):
            object.__setattr__(self, "paths", Paths(self.paths))
        samples = self.paths if self.arrays is None else self.arrays
        if len(samples) != len(self.labels):
            raise ValueError(f"Expected a label for each of {len(samples)} samples; received {len(self.labels)}.")
        object.__setattr__(self, "labels", np.asarray(self.labels, "int32"))

    def __len__(self):
        return len(self.labels)

    @property
    def names_digest(self):
        """SHA-256 of the names of its image files, of those too that its features were made of; None where it has none."""
        return self.files if self.paths is None else self.paths.digest()

    @property
    def class_counts(self):
        """(C,) int64: labelled samples of each class."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.class_names))


@dataclass(frozen=True, eq=False)
class Task:
    """A source and a target domain.

    Attributes:
        name: "Ar-Cl", or "source-target" of two folders.
        source, target: `Domain`; the target's labels serve evaluation only.
        class_names: the source's classes.
        shared_classes: names of the target's classes, known for benchmarks only (reports use them, training never);
            None for folders of unlabelled images.
        kind: "images" or "features".
        image_size: side of the stored images (32 for glyphs); the side to resize files to (256); None for features.
        dataset: name of the benchmark that `load_task` made it of; None for anybody's own data. Two benchmarks may have
            the same domains, so the domains alone don't say which one it is.
    """

    name: str
    source: Domain
    target: Domain
    class_names: tuple[str, ...]
    shared_classes: tuple[str, ...] | None
    kind: str
    image_size: int | None
    dataset: str | None = None
