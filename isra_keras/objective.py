"""What a method sees (`Views`, `Context`) and what it must answer (`Objective.loss_terms`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from keras import ops


@dataclass
class View:
    """One domain's batch after one forward pass of the network.

    Features and logits of another dtype become float32, in which all losses are, labels int32.

    Attributes:
        images: (n, height, width, 3) or (n, p), what the network received (values 0..255 for images).
        pooled: (n, p) backbone output before the bottleneck, in the compute dtype.
        features: (n, d) float32 bottleneck features ("X" in the paper).
        logits: (n, C) float32.
        labels: (n,) int32 source labels; None for the target, whose labels no method may see.
        indices: (n,) int32 positions of the samples in their domain's list.
    """

    images: Any
    pooled: Any
    features: Any
    logits: Any
    labels: Any = None
    indices: Any = None

    def __post_init__(self):
        self.features, self.logits = _float32(self.features), _float32(self.logits)
        self.labels = _cast(self.labels, "int32")

    @classmethod
    def of(cls, part, outputs):
        """The view of one domain's part of a batch and of what the network made of it."""
        return cls(
            images=part["images"],
            pooled=outputs["pooled"],
            features=outputs["features"],
            logits=outputs["logits"],
            labels=part.get("labels"),
            indices=part.get("indices"),
        )

    @property
    def size(self):
        """Number of rows n: an int, of a middle batch an int32 scalar where one graph serves all its sizes."""
        return ops.shape(self.features)[0]


@dataclass
class Views:
    """The three batches of one step. `middle` (extra source samples, BA3US) is None when empty."""

    source: View
    target: View
    middle: View | None = None

    def concatenate(self, name: str):
        """`name` ("features", "logits", ...) of source, target and middle rows, in this order."""
        views = [v for v in (self.source, self.target, self.middle) if v is not None]
        return ops.concatenate([getattr(v, name) for v in views], axis=0)


@dataclass
class Context:
    """Where training stands.

    Attributes:
        step: int32 scalar, 0 for the first training step of the stage.
        max_iterations: int, number of steps of the stage.
        class_weights: (C,) float32, what the method's `class_weights` made of the last evaluation;
            all ones before the first one.
        has_class_weights: bool scalar tensor, False before the first evaluation.
        eval_interval: int, steps between evaluations.
        stage: name of the current `Stage`.
        network: the network, `network(images, training=True)` -> {"pooled", "features", "logits"}, for
            methods that forward images of their own (mixup).
        training: bool.
    """

    step: Any
    max_iterations: int
    class_weights: Any
    has_class_weights: Any
    eval_interval: int = 500
    stage: str = "adapt"
    network: Any = None
    training: bool = True

    def __post_init__(self):
        self.class_weights = _float32(self.class_weights)

    @property
    def progress(self):
        """step / max_iterations, float32 scalar in [0, 1]."""
        return ops.cast(self.step, "float32") / float(max(self.max_iterations, 1))

    def sample_weights(self, labels):
        """Class weight of each label: (n,) float32; ones before the first evaluation. Labels of any integer dtype."""
        weights = ops.take(self.class_weights, _cast(labels, "int32"), axis=0)
        return ops.where(self.has_class_weights, weights, ops.ones_like(weights))


@dataclass(frozen=True)
class Stage:
    """A stretch of training with its own losses, data and frozen parts (SHOT and IWAN have two).

    Attributes:
        name: passed on as `Context.stage`.
        share: fraction of `max_iterations` that the stage takes.
        frozen: names of network parts ("backbone", "bottleneck", "classifier") that do not learn.
        uses_source: False where the stage sees no source images (SHOT's second).
        source_only: it trains on source labels alone; its network is kept as source_model.keras.
    """

    name: str = "adapt"
    share: float = 1.0
    frozen: tuple[str, ...] = ()
    uses_source: bool = True
    source_only: bool = False

    def __post_init__(self):
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"Expected stage '{self.name}' to take a share of the steps in [0, 1]; received {self.share:g}. "
                             "Give the method's shares as fractions, 0.8 for 80 %.")  # fmt: skip


@dataclass
class Evaluation:
    """The whole target (and, where asked for, source) set in evaluation mode, NumPy float32.

    Attributes:
        features: (N, d), logits: (N, C), pooled: (N, p) or None.
        readable: (N,) bool, False in rows where another image stands in for one that can't be read; None for all True.
        source: the same for the source set, with `labels`, if the method sets `needs_source_evaluation`.
    """

    features: Any
    logits: Any
    pooled: Any = None
    labels: Any = None
    source: "Evaluation | None" = None
    context: Context | None = field(default=None)
    readable: Any = None

    def seen(self):
        """The same without the rows of images that can't be read: what may be counted, scored and averaged."""
        if self.readable is None or np.all(self.readable):
            return self
        rows = {name: getattr(self, name) for name in ("features", "logits", "pooled", "labels")}
        kept = {name: values[self.readable] for name, values in rows.items() if values is not None}
        return replace(self, **kept, readable=np.ones(int(np.sum(self.readable)), bool))

    def in_place(self, labels):
        """(N,) int32: labels of `seen()`'s rows where these stand in the whole set, -1 in the rows that it left out."""
        if self.readable is None:
            return np.asarray(labels, "int32")
        found = np.full(len(self.readable), -1, "int32")
        found[np.asarray(self.readable, bool)] = labels
        return found


@dataclass
class Outcome:
    """What one step's forward pass came to.

    Attributes:
        scaled: float32 scalar to differentiate, the loss times the optimiser's loss scale.
        total: float32 scalar, the loss.
        terms: {name: float32 scalar}, whose sum it is.
    """

    scaled: Any
    total: Any
    terms: dict
    views: Views
    context: Context


class Sizes(Mapping):
    """{"source": N_s, "target": N_t} that knows whether anybody looked: a graph that depends on them fits one task only.

    Attributes:
        used: whether a size was read.
    """

    def __init__(self, values):
        self.used, self._values = False, dict(values)

    def __getitem__(self, name):
        self.used = True
        return self._values[name]

    def __iter__(self):
        self.used = True
        return iter(self._values)

    def __len__(self):
        self.used = True
        return len(self._values)


class Objective(keras.layers.Layer):
    """Base of all methods and of the semantic plug-in: a layer that owns weights and answers losses.

    A subclass builds its layers in `build_parts` and returns its weighted terms from `loss_terms`;
    their sum is minimised with one gradient. Two-player games use gradient reversal inside the terms.

    Class attributes that a method may set:
        network_options: keyword arguments for `isra_keras.backbones.build_network`
            (`bottleneck`, `classifier`, ...) that the method's paper asks for.
        joint_forward: source and target go through the network as one batch (joint BN statistics).
        needs_source_evaluation: `on_evaluation` also receives the source set.
        recipes: {data set, "default" or one of the method's variants: values of `TrainConfig` and "options", "tasks"} of the
            paper or its code, see `isra_keras.training.recipes`; {} trains as the data set's recipe says.
        multipliers: {part name: (learning-rate multiplier, weight-decay multiplier)} for its own parts.
        starts_on_source: its first stage trains on source labels anyway; recipes give it no warm-up.
        aligned: the network's output that the semantic plug-in looks at, "features" or "pooled".
        quirky_loop: under `reference_quirks` its run, as one with ISRA, takes one step more and the step of an evaluation in
            evaluation mode; other authors' scripts do not.
        uses_images: its terms read `View.images`: where several replicas share a batch, they exchange the images too.
    """

    network_options: dict = {}
    joint_forward = False
    needs_source_evaluation = False
    recipes: dict = {}
    multipliers: dict = {}
    starts_on_source = False
    aligned = "features"
    quirky_loop = False
    uses_images = False

    def __init__(self, **kwargs):
        kwargs["dtype"] = "float32"  # losses are float32 under every precision policy
        super().__init__(**kwargs)
        self._allow_non_tensor_positional_args = True  # objective(views, context)

    def attach(self, network) -> None:
        """Called once, before `build_parts`, with the network that will be trained.

        For methods that hold a network of their own, such as a frozen copy: it has to exist from the start, so that
        saving and resuming know its weights. The network itself must not become an attribute.
        """

    def build_parts(self, feature_dim: int, num_classes: int, pooled_dim: int, sizes: dict) -> None:
        """Creates the objective's own layers and state, all of them built.

        Args:
            feature_dim: d, width of the bottleneck features.
            num_classes: C, number of source classes.
            pooled_dim: width of the backbone output.
            sizes: {"source": N_s, "target": N_t}, number of samples of each domain (may be empty), a `Sizes`.
        """

    def loss_terms(self, views: Views, context: Context) -> dict:
        """{name: weighted float32 scalar}; the sum is the loss."""
        raise NotImplementedError(f"{type(self).__name__} has to define loss_terms")

    def diagnostics(self, views: Views, context: Context) -> dict:
        """{name: float32 scalar} for the log, without a gradient. Called inside the step, after `loss_terms`."""
        return {}

    def middle_size(self, step: int, batch_size: int, max_iterations: int, eval_interval: int) -> int:
        """Number of extra source samples ("middle" batch) at a step; 0 for most methods."""
        return 0

    def class_weights(self, evaluation: Evaluation):
        """(C,) weights from the target's evaluation, or None for a method that has none."""
        return None

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Renews the method's own state (pseudo-labels, selections) after an evaluation, of a warm-up too."""

    def semantic_dim(self, feature_dim: int, pooled_dim: int) -> int:
        """Width of the features that the semantic plug-in aligns on top of this method."""
        return feature_dim

    def aligns_own_features(self) -> bool:
        """Whether `semantic_views` are the network's own, so that topics can be learned before adaptation begins."""
        return type(self).semantic_views is Objective.semantic_views

    def semantic_views(self, views: Views, context: Context) -> Views:
        """What the semantic plug-in aligns on top of this method; SHOT gives it stored source features."""
        return views

    def target_logits(self, outputs: dict, training: bool = False):
        """Final logits (n, C) from the network's outputs; A2KT averages two classifiers."""
        return outputs["logits"]

    def on_stage_begin(self, stage: Stage, network) -> None:
        """Called before the first step of each stage, e.g. to keep a copy of the source network."""

    def stages(self) -> tuple[Stage, ...]:
        """The stretches of training, in order; their shares sum to one."""
        return (Stage(),)

    def add_target_labels(self, name, sizes):
        """An int32 weight (N_t,): a label for each target sample, by its index; -1, none, at first."""
        return self.add_weight(
            shape=(max(sizes.get("target", 0), 1),), dtype="int32", trainable=False, name=name,
            initializer=lambda shape, dtype=None: -ops.ones(shape, "int32"),
        )  # fmt: skip

    def labels_at(self, kept, indices):
        """int32 (n,): rows `indices` of a weight of `add_target_labels`.

        Raises:
            ValueError: there are no indices, or the model was not told how many target samples there are.
        """
        if indices is None:
            raise ValueError(f"Expected batches with the target's \"indices\", as '{self.name}' keeps a label for each sample; received "
                             "none. Add int32 (n,) positions in the target's list, as DomainPairs does.")  # fmt: skip
        if kept.shape[0] == 1 < (indices.shape[0] or 0):
            raise self._without_sizes(f"a batch of {indices.shape[0]} and no number")
        return ops.take(kept, indices, axis=0)

    def keep_labels(self, kept, labels):
        """Assigns int32 (N_t,) labels of the whole target to a weight of `add_target_labels`.

        Raises:
            ValueError: the model was told of another number of target samples, or of none.
        """
        if kept.shape[0] != len(labels):
            told = kept.shape[0] if kept.shape[0] > 1 else "no number"
            raise self._without_sizes(f"{len(labels)} labels and {told}")
        kept.assign(labels)

    def _without_sizes(self, received):
        return ValueError(f"Expected the number of target samples, as '{self.name}' keeps a label for each; received {received}. "
                          "AdaptationModel(..., sizes={'source': N_s, 'target': N_t}) has it.")  # fmt: skip

    def call(self, views, context):
        return self.loss_terms(views, context)


def _float32(values):
    """As float32 where they are of another dtype; None stays None."""
    return _cast(values, "float32")


def _cast(values, dtype):
    """Values of this dtype as they are, others converted; None stays None."""
    known = getattr(values, "dtype", None)
    if values is None or known is not None and keras.backend.standardize_dtype(known) == dtype:
        return values
    return ops.cast(values, dtype)
