"""`DomainPairs`: batches of source, target and middle samples as a pure function of (seed, step)."""

import os
import re
import sys
from contextlib import contextmanager

import tensorflow as tf

from isra_keras.data.reader import make_reader
from isra_keras.data.sampling import MiddleSizes, balanced, shuffled, stream_seed
from isra_keras.errors import UserError

SAMPLINGS = ("shuffle", "balanced")
PREFETCH = 8
"""Batches that are read ahead. TensorFlow's AUTOTUNE doubles its buffer whenever a step found it empty, up to thousands:
gigabytes of pixels."""


def no_middle(step):
    """The size of a middle batch that is never there: 0."""
    return 0


class DomainPairs:
    """Training batches of a task.

    Every sample comes once a pass over its domain, each pass in a new order; source, target and middle are streams of
    their own. Which samples, crops and flips step k holds depends on `seed` and k alone, so that training goes on
    after step k with `dataset(start=k)` as if it had never stopped.

    Args:
        task: `Task`.
        batch_size: rows of the source and of the target batch.
        seed: int.
        image_size: side that images are resized to; None for 256 (files) or as they are (arrays).
        crop_size: side of the random crop; None for none.
        middle_size: extra source rows at a step: a callable of the step, a sequence of ints, or None.
        augment: random crops and flips (files), crops or shifts by at most 1/16 of the side (arrays); False takes the
            centre. Features are never changed.
        uses_source: False leaves "source" and "middle" out.
        source_sampling: "shuffle", or "balanced": classes uniformly, with replacement.
        cache: keep decoded, resized files in memory: True, False, or "auto" for domains that fit in a quarter of the
            free memory (4 GiB at most).
        replicas: (first, stop, of all): read only the rows of these replicas, see `training.replica.share`; None for
            whole batches. Indices, crops and flips are those of the whole batch.

    Raises:
        UserError: if a batch is larger than its domain, or an argument makes no sense.

    Example:
        >>> extra = lambda step: BA3US().middle_size(step, 36, max_iterations=1000, eval_interval=100)
        >>> pairs = DomainPairs(load_task("glyphs"), batch_size=36, seed=0, middle_size=extra)
        >>> for batch in pairs.dataset(start=0, stop=1000):
        ...     batch["source"]["images"], batch["source"]["labels"], batch["target"]["images"]
    """

    def __init__(self, task, batch_size, seed, image_size=None, crop_size=None, middle_size=no_middle, augment=True,
                 uses_source=True, source_sampling="shuffle", cache="auto", replicas=None):  # fmt: skip
        self._replicas = replicas
        self.task, self.batch_size, self.seed = task, int(batch_size), int(seed)
        self.augment, self.uses_source, self.source_sampling = augment, uses_source, source_sampling
        self._middle = MiddleSizes(None if middle_size is no_middle else middle_size)
        largest = self._middle.largest() if uses_source else 0
        self.has_middle = largest > 0
        self._check(largest)
        self._target = make_reader(task.target, image_size, crop_size, cache)
        self._source = make_reader(task.source, image_size, crop_size, cache) if uses_source else None
        self._labels = tf.constant(task.source.labels)  # here, not in the graph, which is copied

    def batch(self, step):
        """The one batch of a step, a pure function of (seed, step): an element of `dataset`, of NumPy arrays.

        Raises:
            UserError: a negative step.
        """
        if step < 0:
            raise UserError(f"Expected a step of at least 0; received {step}.")
        return tf.nest.map_structure(lambda part: part.numpy(), self._batch(tf.constant(step, "int64")))

    def dataset(self, start=0, stop=None):
        """Batches of the steps start, start + 1, ...

        Args:
            start: first step.
            stop: the step after the last one; None goes on for ever.

        Returns:
            tf.data.Dataset of {"source": {"images", "labels", "indices"}, "target": {"images", "indices"}, "middle":
            as source}. Images uint8 or float32 (n, height, width, 3) in 0..255, or float32 (n, p) features; labels
            and indices int32 (n,). n is dynamic; the middle batch changes size, even to 0. "middle" is left out if
            `middle_size` is 0 at all of the first 1,024 steps and at all powers of two.

        Raises:
            UserError: if the steps make no sense.
        """
        if start < 0 or (stop is not None and stop < start):
            raise UserError(f"Expected steps 0 <= start <= stop; received start {start}, stop {stop}.")
        steps = tf.data.Dataset.range(start, sys.maxsize if stop is None else stop)
        batches = steps.map(self._batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        batches = batches.prefetch(PREFETCH)
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY if stop is None
                                                                     else stop - start))  # fmt: skip

    @property
    def sizes(self):
        """{"source": samples, "target": samples}."""
        return {"source": len(self.task.source), "target": len(self.task.target)}

    def rows(self, step):
        """{domain: rows of the whole batch} of a step."""
        rows = {"target": self.batch_size}
        if self.uses_source:
            rows["source"] = self.batch_size
            if self.has_middle:
                rows["middle"] = int(self._middle.at(step)[1])
        return rows

    @property
    def bad_images(self):
        """`BadImage`s of both domains: those of the scan, then those that went bad since."""
        readers = [reader for reader in (self._source, self._target) if reader is not None]
        late = [bad for reader in readers for bad in reader.bad_images]
        return (*self.task.source.bad_images, *self.task.target.bad_images, *late)

    @tf.autograph.experimental.do_not_convert  # a second a run, and nothing here for it to convert
    def _batch(self, step):
        """The element of a step (int64 scalar)."""
        rows = self.batch_size + 0 * step  # not a constant: one element_spec for every size of batch
        positions = step * rows + tf.range(rows)
        target = shuffled(positions, len(self.task.target), stream_seed(self.seed, "target"))
        batch = {"target": self._part("target", target, step)}
        if not self.uses_source:
            return batch
        batch["source"] = self._part("source", self._source_indices(step, positions), step)
        if self.has_middle:
            offset, count = self._middle.tensors(step)
            positions = offset + tf.range(count)
            middle = shuffled(positions, len(self.task.source), stream_seed(self.seed, "middle"))
            batch["middle"] = self._part("middle", middle, step)
        return batch

    def _source_indices(self, step, positions):
        seed = stream_seed(self.seed, "source")
        if self.source_sampling == "balanced":
            return balanced(step, tf.size(positions), self.task.source.labels, seed)
        return shuffled(positions, len(self.task.source), seed)

    def _part(self, stream, indices, step):
        reader = self._target if stream == "target" else self._source
        seed = stream_seed(self.seed, f"{stream}/augment") if self.augment else None
        images, used = reader.read(indices, seed, step, self._own(tf.size(indices)))
        part = {"images": images, "indices": used}
        if stream != "target":
            part["labels"] = tf.gather(self._labels, used)
        return part

    def _own(self, rows):
        """(start, stop) of the replicas' rows among so many, as `training.replica.share` has it; None for all."""
        if self._replicas is None:
            return None
        first, stop, count = self._replicas
        few = rows < count
        return tf.where(few, 0, rows * first // count), tf.where(few, rows, rows * stop // count)

    def _check(self, largest):
        """Refuses what cannot be drawn."""
        if self.source_sampling not in SAMPLINGS:
            raise UserError(f"Expected source sampling of {', '.join(SAMPLINGS)}; received '{self.source_sampling}'.")
        if self.batch_size < 1:
            raise UserError(f"Expected a batch size of at least 1; received {self.batch_size}.")
        wanted = {"target": self.batch_size}
        if self.uses_source:
            shuffles = self.source_sampling == "shuffle"
            wanted["source"] = max(self.batch_size if shuffles else 1, largest)
        for role, rows in wanted.items():
            if rows > self.sizes[role]:
                raise UserError(
                    f"Expected a batch of at most {self.sizes[role]} samples, all that the {role} domain "
                    f"'{getattr(self.task, role).name}' has; received a batch of {rows}. "
                    f"Use --batch-size {min(self.sizes.values())}."
                )


def evaluation_dataset(domain, batch_size, image_size=None, crop_size=None, cache="auto", rows=None):
    """Every sample of a domain once, in order, centre crop.

    Args:
        domain: `Domain`.
        batch_size: rows; the last batch is smaller.
        image_size, crop_size, cache: as in `DomainPairs`, whose decoded images it shares while they are alive.
        rows: (start, stop) of the samples, None for all.

    Returns:
        tf.data.Dataset of {"images": as in `DomainPairs`, "indices": int32 (n,), "readable": bool (n,)}. Where a file
        turns out bad as it is read, the next readable image stands in its row, a warning names it, the index stays and
        "readable" is False: the row is nobody's, leave it out of whatever is counted.
    """
    if batch_size < 1:
        raise UserError(f"Expected a batch size of at least 1; received {batch_size}.")
    reader = make_reader(domain, image_size, crop_size, cache)
    start, stop = rows or (0, len(domain))

    @tf.autograph.experimental.do_not_convert
    def batch(number):
        first = start + number * batch_size
        indices = tf.range(first, tf.minimum(first + batch_size, stop))
        images, used = reader.read(indices)
        return {"images": images, "indices": indices, "readable": tf.equal(used, indices)}

    numbers = tf.data.Dataset.range(-(-(stop - start) // batch_size), output_type=tf.int32)
    return numbers.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def own_threads(dataset, threads=None):
    """The dataset with threads of its own, so that decoding does not wait for the operations of the step.

    Without tf.data's autotuning: its thread sleeps for up to a minute before it notices that an iterator is gone, and
    the end of every stage would wait for it. Parallel calls are then as many as there are threads.
    """
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads or os.cpu_count() or 1
    options.autotune.enabled = False
    return dataset.with_options(options)


@contextmanager
def plain_errors():
    """Around the reading of a dataset: a `UserError` that tf.data wrapped into an error of its own comes out again."""
    try:
        yield
    except tf.errors.OpError as error:
        said = re.search(r"UserError: (Expected [^\n]*)", str(error))
        if said is None:
            raise
        raise UserError(said[1]) from error
