"""Several replicas on TensorFlow's own engine: `none`, `mirrored` (one process) or `multi_worker` (one a machine)."""

import functools
import signal as signals
from contextlib import contextmanager, nullcontext

import keras
import numpy as np
import tensorflow as tf

from isra_keras.errors import UserError, WorkerLost
from isra_keras.objective import Evaluation
from isra_keras.semantic.kernels import one_by_one
from isra_keras.training.cluster import cluster
from isra_keras.training.replica import share
from isra_keras.training.tf_replica import Replica, forwards_own_rows

LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
        tf.errors.InternalError, tf.errors.FailedPreconditionError)  # fmt: skip
"""What a collective raises in the others when a worker is gone."""


class Distribution:
    """Training on one device, the default.

    Attributes:
        replicas, workers: how many in all; `worker` is the number of this process.
    """

    replicas, workers, worker = 1, 1, 0

    def scope(self):
        """In which models and optimisers are made."""
        return nullcontext()

    def configure(self, config):
        """Takes what a run's configuration says of replicas.

        Raises:
            UserError: this distribution can't train it; says why.
        """

    def attach(self, model):
        """Lets a model predict on all replicas of this process."""

    def own_rows(self):
        """None, or (first, stop, of all): this process's replicas, for `DomainPairs`, which reads their rows only."""
        return None

    def train_on(self, model, batch, network_training, rows):
        """`AdaptationModel.train_on`; `rows` is {domain: rows of the whole batch}."""
        return model.train_on(batch, network_training)

    def average_statistics(self, model):
        """Running statistics of batch normalisation become their mean over replicas.

        Evaluations then see the same network everywhere. Nothing in training reads them, and they are linear in what
        they average: it makes no difference when or how often this happens.
        """

    def own_share(self, rows):
        """(start, stop) of the rows of a domain that this process predicts."""
        return 0, rows

    def whole(self, evaluation, indices, rows):
        """(`Evaluation`, indices) of the whole domain from every process's share, in order."""
        return evaluation, indices

    def agree(self, signal, due):
        """The signal that asks to stop; with several workers only where it is `due`, and then on all of them."""
        return signal


class Replicated(Distribution):
    """Training under a `tf.distribute.Strategy`.

    Args:
        strategy: Mirrored or MultiWorkerMirrored.
        workers: processes.
        worker: number of this one; 0 is the chief.

    Attributes:
        sync_batch_norm: batch normalisation of the network by the statistics of the whole batch.
    """

    sync_batch_norm = False

    def __init__(self, strategy, workers=1, worker=0):
        self.strategy, self.workers, self.worker = strategy, workers, worker
        self.replicas = strategy.num_replicas_in_sync
        self.local = self.replicas // workers
        self.first = worker * self.local
        self._steps, self._optimizer, self._functions = {}, None, {}

    def scope(self):
        return self.strategy.scope()

    def configure(self, config):
        self.sync_batch_norm = config.sync_batch_norm
        if config.batch_size % self.replicas:
            raise UserError(
                f"Expected --batch-size that {self.replicas} replicas can share equally; received {config.batch_size}. "
                f"Take {max(config.batch_size // self.replicas, 1) * self.replicas}."
            )
        if config.jit_compile:
            raise UserError("Expected --no-jit-compile with --distribute: XLA does not compile across devices.")
        if config.precision == "mixed_float16":
            raise UserError(
                "Expected --precision float32 or mixed_bfloat16 with --distribute; received mixed_float16, whose loss "
                "scale each replica would judge by its own gradients."
            )

    def own_rows(self):
        return self.first, self.first + self.local, self.replicas

    # ---------------------------------------------------------------- steps

    def train_on(self, model, batch, network_training, rows):
        if self._optimizer is not model.optimizer:  # compiled anew: a stage began
            self._steps, self._optimizer = {}, model.optimizer
        # By the whole batch's rows, not this worker's: all workers have to trace at the same steps, or the
        # collectives they number while tracing no longer meet.
        key = (network_training, *sorted(rows.items()))
        if key not in self._steps:
            self._steps[key] = tf.function(
                lambda data: self._step(model, data, network_training, rows), autograph=False
            )
        return self._steps[key](self._split(batch, rows))

    def _step(self, model, data, network_training, rows):
        """One step of all replicas; the logs are of the whole batch and therefore the same on each."""

        def step(part):  # may be traced by a thread of its own, which inherits no context
            with one_by_one(True):
                return model.train_step(part, network_training, self._replica(rows))

        with synchronised(model.network) if self.sync_batch_norm else nullcontext():
            logs = self.strategy.run(step, args=(data,))
        return {name: self.strategy.experimental_local_results(value)[0] for name, value in logs.items()}

    def _replica(self, rows=None):
        """The `Replica` whose part of the graph is being traced."""
        return this_replica(self.strategy, rows)

    def _split(self, batch, rows):
        """This worker's rows, a share for each of its replicas."""

        def part(context):
            found = {}
            for domain, columns in batch.items():
                count = rows[domain]
                start, stop = share(count, context.replica_id_in_sync_group, self.replicas)
                before = share(count, self.first, self.replicas)[0]
                found[domain] = {name: tf.convert_to_tensor(values[start - before : stop - before])
                                 for name, values in columns.items()}  # fmt: skip
            return found

        return self.strategy.experimental_distribute_values_from_function(part)

    def average_statistics(self, model):
        layers = [layer for layer in batch_norms(model.network) if layer.trainable]
        if not layers:
            return
        variables = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]

        def average():
            replica = self._replica()
            for variable in variables:
                variable.assign(replica.sum(tf.convert_to_tensor(variable.value)) / self.replicas)

        key = tuple(id(variable) for variable in variables)
        if key not in self._functions:
            self._functions[key] = tf.function(lambda: self.strategy.run(average), autograph=False)
        self._functions[key]()

    # ---------------------------------------------------------------- evaluation

    def own_share(self, rows):
        return share(rows, self.worker, self.workers)

    def attach(self, model):
        if self.local > 1:
            model.predictor = self._predictor(model)

    def _predictor(self, model):
        """Function (n, ...) images -> {name: (n, ...) array}."""
        run = tf.function(
            lambda images: self.strategy.run(model._predict, args=(images,)), reduce_retracing=True, autograph=False
        )

        def predict(images):
            spans = [share(len(images), number, self.local) for number in range(self.local)]
            parts = self.strategy.experimental_distribute_values_from_function(
                lambda context: images[slice(*spans[context.replica_id_in_sync_group - self.first])]
            )
            outputs = {name: self.strategy.experimental_local_results(value) for name, value in run(parts).items()}
            if len(images) < self.local:  # all predicted all
                return {name: values[0] for name, values in outputs.items()}
            return {name: np.concatenate(values) for name, values in outputs.items()}

        return predict

    def whole(self, evaluation, indices, rows):
        if self.workers == 1:
            return evaluation, indices
        start, stop = self.own_share(rows)
        if rows < self.workers and self.worker:  # everybody predicted all
            start, stop = 0, 0

        columns = {name: getattr(evaluation, name) for name in ("features", "logits", "pooled")}
        columns["readable"] = np.asarray(evaluation.readable, "float32")[:, None]
        own = np.concatenate(list(columns.values()), axis=1)
        whole = np.zeros((rows, own.shape[1]), "float32")
        whole[start:stop] = own[: stop - start]
        edges = np.cumsum([values.shape[1] for values in columns.values()])[:-1]
        parts = np.split(self.sum_over_workers(whole), edges, axis=1)
        found = dict(zip(columns, map(np.ascontiguousarray, parts)))
        return Evaluation(**found | {"readable": found["readable"][:, 0] > 0}), np.arange(rows, dtype="int32")

    # ---------------------------------------------------------------- words between workers

    def sum_over_workers(self, array):
        """Sum of an array (float32, int32) over all workers, the same on each."""
        if "sum" not in self._functions:
            self._functions["sum"] = tf.function(
                lambda values: self.strategy.run(lambda value: self._replica().sum(value), args=(values,)),
                reduce_retracing=False, autograph=False,
            )  # fmt: skip
        array = np.asarray(array)
        parts = self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(array if context.replica_id_in_sync_group == self.first else 0 * array)
        )
        return self.strategy.experimental_local_results(self._functions["sum"](parts))[0].numpy()

    def from_chief(self, content=b""):
        """Bytes of the chief, on every worker; what the others give is ignored."""
        own = np.frombuffer(content + bytes(-len(content) % 4), "<i4") if self.worker == 0 else None
        sizes = [len(content), 0] if self.worker == 0 else [0, 0]
        low, high = self.sum_over_workers(np.array([sizes[0] % 2**20, sizes[0] // 2**20], "int32")).tolist()
        size = low + high * 2**20
        words = -(-size // 4)
        return self.sum_over_workers(np.zeros(words, "int32") if own is None else own.astype("int32")).tobytes()[:size]

    def agree(self, signal, due):
        if self.workers == 1:
            return signal
        if not due:
            return None
        asked = self.sum_over_workers(np.array([signal or 0], "int32"))[0]
        return (signal or signals.SIGTERM) if asked else None


def this_replica(strategy, rows=None):
    """`Replica` of the replica context."""
    number = tf.distribute.get_replica_context().replica_id_in_sync_group
    number = number if isinstance(number, int) else int(tf.get_static_value(number))
    devices = strategy.extended.worker_devices
    return Replica(number, strategy.num_replicas_in_sync, devices[number % len(devices)], rows)


def batch_norms(network):
    """Layers of batch normalisation, at any depth."""
    return [layer for layer in network._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


@contextmanager
def synchronised(network):
    """While a step is traced: batch normalisation by the statistics of all replicas.

    Not Keras's `synchronized`: it fails under several workers (its gradient has no device), and loses digits in
    E[x^2] - E[x]^2. The layers are as before afterwards, so that a saved model knows nothing of replicas.
    """
    layers = batch_norms(network)
    for layer in layers:
        layer._moments = functools.partial(_moments, layer)
        layer.rows = _rows
    try:
        yield
    finally:
        for layer in layers:
            del layer._moments, layer.rows


def _moments(layer, inputs, mask):
    if not forwards_own_rows():
        return type(layer)._moments(layer, inputs, mask)
    return this_replica(tf.distribute.get_strategy()).moments(inputs, layer._reduction_axes)


def _rows(count):
    return this_replica(tf.distribute.get_strategy()).sum(count) if forwards_own_rows() else count


# -------------------------------------------------------------------- strategies


@functools.cache  # collectives are set up once a process
def _strategy(kind):
    if kind == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.MultiWorkerMirroredStrategy()


def make_distribution(config):
    """The `Distribution` of a configuration; call it before any TensorFlow operation.

    Raises:
        UserError: multi_worker without a TF_CONFIG that names the workers.
    """
    if config.distribute == "none":
        return Distribution()
    workers, worker = cluster() if config.distribute == "multi_worker" else (1, 0)
    return Replicated(_strategy(config.distribute), workers, worker)


@contextmanager
def failures(distribution):
    """Around a run of several workers: a collective that broke off says that a worker is gone.

    Raises:
        WorkerLost: instead of TensorFlow's error.
    """
    try:
        yield
    except LOST as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise WorkerLost(
            f"Expected all {distribution.workers} workers; worker {distribution.worker} lost touch with another one. "
            "Everything up to the last checkpoint is kept: start all workers again with --resume. TensorFlow said: "
            f"{reason}"
        ) from error
