"""AdaptationModel: a network, a method and the semantic plug-in as one Keras model."""

from dataclasses import replace

import keras
import numpy as np
from keras import ops

from isra_keras.losses import cross_entropy
from isra_keras.objective import Context, Evaluation, Outcome, Sizes, Stage, View, Views
from isra_keras.training.draws import seed_draws, seed_generators
from isra_keras.training.optimizer import PartwiseSGD
from isra_keras.training.replica import ALONE
from isra_keras.training.schedules import InverseDecay
from isra_keras.training.steps import backend_steps, batch_of, class_numbers, within_stage

WARMUP = "warmup"
"""Name of the stage that comes before the method's own."""

NETWORK_PARTS = ("backbone", "bottleneck", "classifier")
NETWORK_MULTIPLIERS = {"backbone": (1.0, 2.0), "bottleneck": (10.0, 2.0), "classifier": (10.0, 2.0)}


@keras.saving.register_keras_serializable("isra_keras")
class AdaptationModel(keras.Model):
    """Trains `network` with the terms of `method` and, if given, of the semantic plug-in.

    A batch is what `isra_keras.data.pairs.DomainPairs` yields: {"source": {"images", "labels", "indices"},
    "target": {"images", "indices"}, "middle": {...}}. Source, target and middle are forwarded separately (BN
    statistics per domain, as in the authors' code) unless the method says otherwise; all terms are summed and
    minimised with one gradient and one optimiser step.

    Dropout is a pure function of (seed, step): every seed generator is set from the step counter, so that a
    resumed run draws what the uninterrupted one did. Under KERAS_BACKEND=jax or torch a batch is NumPy arrays.

    Args:
        network: from `isra_keras.backbones.build_network`; images -> {"pooled", "features", "logits"}.
        method: an `Objective`.
        semantic: a `SemanticAlignment`, or None.
        max_iterations: training steps in all; ramps and schedules are counted against it.
        eval_interval: steps between evaluations, which renew the class weights.
        seed: of dropout and other draws inside the step.
        sizes: {"source": N_s, "target": N_t}, for methods that keep something for each sample.
        warmup: share of the steps, in [0, 1), that train on source labels alone before the method's first stage; the
            evaluations in it give the first class weights. Not in any paper: they start from ImageNet's weights.
        weight_smoothing: in [0, 1), share of the old class weights that stays when an evaluation renews them, in a warm-up too.

    Example:
        >>> model = AdaptationModel(network, BA3US(), SemanticAlignment(num_topics=16), max_iterations=2000)
        >>> model.compile()
        >>> pairs = DomainPairs(task, 36, 0, middle_size=lambda step: model.method.middle_size(step, 36, 2000, 500))
        >>> model.fit(pairs.dataset(0, 2000), epochs=1, callbacks=[TargetEvaluation(target)])  # or, on any backend,
        >>> logs = model.train_on({"source": source, "target": target})

    Where there are several `stages`, each is a `fit` of its own: `model.begin_stage(stage)`, then
    `model.fit(pairs.dataset(0, model.steps_of_stage()), ...)`. A `fit` beyond a stage that another follows is refused.
    """

    def __init__(self, network, method, semantic=None, max_iterations=1000, eval_interval=500, seed=0,
                 sizes=None, warmup=0.0, weight_smoothing=0.0, **kwargs):  # fmt: skip
        kwargs.setdefault("name", "adaptation")
        super().__init__(**{"autocast": False} | kwargs)  # the network casts for itself, features too late to lose digits
        self.network, self.method, self.semantic = network, method, semantic
        self.max_iterations, self.eval_interval = int(max_iterations), int(eval_interval)
        self.seed, self.sizes = int(seed), dict(sizes or {})
        self.warmup, self.weight_smoothing = float(warmup), float(weight_smoothing)
        if not (0.0 <= self.warmup < 1.0 and 0.0 <= self.weight_smoothing < 1.0):
            raise ValueError(f"Expected warmup and weight_smoothing in [0, 1); received {warmup} and {weight_smoothing}.")
        self.objectives = [method] if semantic is None else [method, semantic]
        outputs = network.output
        outputs = outputs if isinstance(outputs, dict) else dict(zip(network.output_names, network.outputs))
        self.feature_dim = int(outputs["features"].shape[-1])
        self.pooled_dim = int(outputs["pooled"].shape[-1])
        self.num_classes = int(outputs["logits"].shape[-1])
        self.stage, self._frozen = self.stages()[0], set()
        self._build_state()
        self._compiled_steps, self.predictor = {}, None
        self.built = True

    def _build_state(self):
        """Creates the objectives' parts, the counters and the class weights: everything that resume restores."""
        self.method.attach(self.network)
        self.watched_sizes = Sizes(self.sizes)
        self.method.build_parts(self.feature_dim, self.num_classes, self.pooled_dim, self.watched_sizes)
        if self.semantic is not None:
            width = self.method.semantic_dim(self.feature_dim, self.pooled_dim)
            self.semantic.build_parts(width, self.num_classes, self.pooled_dim, self.watched_sizes)
        for objective in self.objectives:
            objective.built = True

        def state(name, value, dtype):
            value = np.asarray(value, dtype)
            initial = lambda shape, dtype=None: ops.cast(value, dtype)  # noqa: E731
            return self.add_weight(shape=value.shape, dtype=dtype, initializer=initial, trainable=False, name=name)

        self.step = state("step", 0, "int32")
        self.class_weights = state("class_weights", np.ones(self.num_classes), "float32")
        self.has_class_weights = state("has_class_weights", 0, "int32")

    # ---------------------------------------------------------------- compile

    def compile(self, optimizer=None, jit_compile=False, **kwargs):
        """As `keras.Model.compile`; without an optimizer, the one the authors of ISRA and BA3US trained with.

        Args:
            optimizer: a Keras optimizer or None for `PartwiseSGD` with the schedule lr0 1e-3 (1 + 0.001 i)^-0.75 and the
                method's `default_multipliers`.
            jit_compile: compile the whole step with XLA (benchmarks/train_step.py --jit measures what that gains).
                JAX compiles in any case, PyTorch never does.
        """
        if optimizer is None:
            optimizer = PartwiseSGD(InverseDecay(1e-3), multipliers=self.default_multipliers())
        if (steps := kwargs.get("steps_per_execution") or 1) != 1:
            raise ValueError(f"Expected steps_per_execution 1, as evaluations come between steps; received {steps}.")
        of_backend = {"jax": "auto", "torch": False}.get(keras.backend.backend(), jit_compile)
        super().compile(optimizer=optimizer, jit_compile=of_backend, **kwargs)
        self._jit, self._compiled_with = bool(jit_compile), kwargs
        inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        if isinstance(inner, PartwiseSGD):
            inner.assign_parts(self.parts())
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        self._compiled_steps = {}

    def get_compile_config(self):
        if getattr(self, "optimizer", None) is None:
            return None
        return {"optimizer": keras.saving.serialize_keras_object(self.optimizer), "jit_compile": self._jit}

    def compile_from_config(self, config):
        self.compile(keras.saving.deserialize_keras_object(config["optimizer"]), jit_compile=config["jit_compile"])

    def default_multipliers(self):
        """{part: (learning-rate, decay multiplier)} of the network, by the method's own recipe, and the objectives' parts."""
        recipe = self.method.recipes.get(getattr(self.method, "variant", None), self.method.recipes.get("default", {}))
        of_parts = [objective.multipliers for objective in self.objectives]
        return {k: v for table in (NETWORK_MULTIPLIERS, recipe.get("multipliers", {}), *of_parts) for k, v in table.items()}

    def parts(self):
        """{part: trainable variables}; an objective's parts are its direct sub-layers by name."""
        parts = {name: list(self.network.get_layer(name).trainable_variables) for name in NETWORK_PARTS}
        for objective in self.objectives:
            for layer in objective._flatten_layers(include_self=False, recursive=False):
                parts.setdefault(layer.name, []).extend(layer.trainable_variables)
        return parts

    # ---------------------------------------------------------------- training

    def call(self, images, training=None):
        """{"pooled" (n, p), "features" (n, d), "logits" (n, C)} of images in 0..255; not in training the method's logits."""
        outputs = dict(self.network(images, training=training))
        return outputs if training else {**outputs, "logits": self.method.target_logits(outputs)}

    def stages(self):
        """The method's stages, after one of source labels alone if there is a warm-up; their shares sum to one."""
        stages = self.method.stages()
        if not self.warmup:
            return stages
        rest = tuple(replace(stage, share=stage.share * (1.0 - self.warmup)) for stage in stages)
        return (Stage(WARMUP, self.warmup, source_only=True), *rest)

    def steps_of_stage(self):
        """Steps that the current stage takes."""
        return max(round(self.max_iterations * self.stage.share), 1)

    def begin_stage(self, stage: Stage, learning_rate=None):
        """Freezes the stage's parts (not for later ones), counts from 0, restarts the optimiser's state, tells the objectives.

        Args:
            stage: one of `stages()`.
            learning_rate: float or schedule of the fresh optimiser; None keeps the compiled one's.
        """
        self.stage = stage
        self.step.assign(0)
        for name in NETWORK_PARTS:
            part, freezes = self.network.get_layer(name), name in stage.frozen
            if part.trainable if freezes else name in self._frozen:  # setting it otherwise would thaw layers within, too
                part.trainable, self._frozen = not freezes, self._frozen | {name} if freezes else self._frozen - {name}
        if stage.name != WARMUP:
            for objective in self.objectives:
                objective.on_stage_begin(stage, self.network)
        self.restart_optimizer(learning_rate)

    def restart_optimizer(self, learning_rate):
        """A fresh optimiser for the current stage; see `begin_stage`."""
        config = keras.saving.serialize_keras_object(self.optimizer)
        if learning_rate is not None:  # in the configuration, since an optimiser with a schedule takes no number
            inner = config["config"].get("inner_optimizer", config)["config"]
            inner["learning_rate"] = keras.saving.serialize_keras_object(learning_rate)
        self.compile(keras.saving.deserialize_keras_object(config), jit_compile=self._jit, **self._compiled_with)

    def context(self, training=True):
        """`Context` of the current step."""
        return Context(
            step=ops.convert_to_tensor(self.step),
            max_iterations=self.steps_of_stage(),
            class_weights=ops.convert_to_tensor(self.class_weights),
            has_class_weights=ops.convert_to_tensor(self.has_class_weights) > 0,
            eval_interval=self.eval_interval,
            stage=self.stage.name,
            network=self.network,
            training=training,
        )

    def make_views(self, batch, network_training=True):
        """`Views` of a batch: one forward pass for each domain, or one for source and target together."""
        source, target, middle = batch.get("source"), batch["target"], batch.get("middle")
        views = {}
        if self.method.joint_forward and source is not None:
            count = source["images"].shape[0]
            images = ops.concatenate([_floats(source["images"]), _floats(target["images"])], axis=0)
            outputs = self.network(images, training=network_training)
            views["source"] = View.of(source, {k: v[:count] for k, v in outputs.items()})
            views["target"] = View.of(target, {k: v[count:] for k, v in outputs.items()})
        else:
            for name, part in (("source", source), ("target", target)):
                views[name] = part and View.of(part, self.network(_floats(part["images"]), training=network_training))
        if middle is not None and middle["images"].shape[0] != 0:  # None where one graph serves all sizes
            views["middle"] = View.of(middle, self.network(_floats(middle["images"]), training=network_training))
        views["target"].labels = None  # no method may see them
        return Views(**views)

    def loss_terms(self, views, context):
        """{name: weighted float32 scalar} of the method and the plug-in.

        In the warm-up the network learns from source labels alone; topics and receptors learn from its features as
        constants. Untrained topics would pull all features to zero as soon as the plug-in joins in.
        """
        if context.stage == WARMUP:
            terms = {"classification": ops.mean(cross_entropy(views.source.logits, views.source.labels))}
            return terms | (self.semantic.topic_terms(views, context) if self.knows_topics_early() else {})
        terms = dict(self.method.loss_terms(views, context))
        if self.semantic is not None and context.stage == "adapt":
            own = self.semantic.loss_terms(self.method.semantic_views(views, context), context)
            if both := set(own) & set(terms):
                raise ValueError(f"Expected {self.method.name} to name its terms otherwise; {both} are ISRA's.")
            terms |= own
        return {name: ops.cast(value, "float32") for name, value in terms.items()}

    def knows_topics_early(self):
        """Whether the plug-in aligns the features themselves, so that its topics can be learned in a warm-up."""
        return self.semantic is not None and self.method.aligns_own_features()

    def train_step(self, batch, network_training=True, replica=ALONE):
        """One step on one batch; returns {term: value, "loss", "learning_rate", diagnostics} as float32 scalars.

        Inside of `strategy.run`, `replica` is a `Replica` and the batch its share of the rows.
        """
        return backend_steps().take_step(self, batch, network_training, replica)

    def outcome(self, batch, network_training=True, replica=ALONE):
        """`Outcome` of this step's draws and one forward pass: what a backend's step differentiates."""
        seed_draws(self, replica.number)
        context = self.context()
        with backend_steps().draws(self):
            views = replica.gather(lambda: self.make_views(batch, network_training), self.method.uses_images)
            terms = self.loss_terms(views, context)
        total = sum(terms.values())
        return Outcome(self.optimizer.scale_loss(replica.part(total)), total, terms, views, context)

    def logs(self, outcome):
        """What `train_step` returns, diagnostics included."""
        logs = dict(outcome.terms, loss=outcome.total, learning_rate=ops.cast(self.optimizer.learning_rate, "float32"))
        for objective in self.objectives if outcome.context.stage != WARMUP else self.objectives[1:]:
            logs.update(objective.diagnostics(outcome.views, outcome.context))
        return logs

    def train_on(self, batch, network_training=True):
        """`train_step`, compiled once for each shape of batch; sizes of the middle batch share one where they can.

        Args:
            batch: dict of arrays or of eager tensors of Keras's backend.
            network_training: False runs the network in evaluation mode: under `reference_quirks` the step of an
                evaluation, since the authors' script does not leave that mode in time.

        Returns:
            {name: float32 scalar tensor}.
        """
        form = backend_steps().form_of(self, batch := batch_of(batch))
        key = (network_training, form)  # a function each: TensorFlow warns of one that is traced often
        if key not in self._compiled_steps:
            self._compiled_steps[key] = backend_steps().compile_step(self, network_training, form)
        return self._compiled_steps[key](batch)

    def make_train_function(self, force=False):
        """For `fit`, which stays within the current stage."""
        if self.train_function is None or force:
            self.train_function = within_stage(self, backend_steps().make_train_function(self))
        self.steps_left = self.steps_of_stage() - int(self.step)

    def make_test_function(self, force=False):
        """For `evaluate`."""
        if not hasattr(self, "_accuracy_tracker"):
            self._accuracy_tracker = keras.metrics.Mean(name="accuracy")
        own = backend_steps().make_test_function(self)
        if own is None:
            return super().make_test_function(force)
        self.test_function = own

    def test_step(self, data):
        """Accuracy and cross-entropy on (images, labels), for `evaluate`."""
        if isinstance(data, dict):
            raise ValueError(f"Expected (images, labels) to evaluate on; received a dict of {', '.join(data)}. `predict` takes it.")
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        logits, labels = self.call(_floats(images), training=False)["logits"], class_numbers(labels)
        hits = ops.cast(ops.equal(ops.argmax(logits, -1), labels), "float32")
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        self._loss_tracker.update_state(losses, sample_weight=weights)
        self._accuracy_tracker.update_state(hits, sample_weight=weights)
        return {"loss": self._loss_tracker.result(), "accuracy": self._accuracy_tracker.result()}

    # ---------------------------------------------------------------- evaluation

    def predict_domain(self, dataset, progress=None):
        """Predictions for every element of a dataset, in evaluation mode and in order.

        Args:
            dataset: iterable of {"images": (n, ...), ...}, with "readable" (n,) as `evaluation_dataset` has it, or without.
            progress: called with the number of rows of each batch, or None.

        Returns:
            `Evaluation` of NumPy float32 arrays: features (N, d), logits (N, C), pooled (N, p); and its readable rows.
        """
        if self.predictor is None:  # a function images -> outputs; `Replicated` puts its own here
            self.predictor = backend_steps().compile_predictor(self)
        columns = {"features": [], "logits": [], "pooled": [], "readable": []}
        for batch in dataset:
            outputs = self.predictor(_floats(batch["images"]))
            for name in ("features", "logits", "pooled"):
                columns[name].append(ops.convert_to_numpy(outputs[name]).astype("float32"))
            columns["readable"].append(np.asarray(batch.get("readable", [True] * len(outputs["logits"])), bool))
            if progress is not None:
                progress(len(outputs["logits"]))
        if not columns["logits"]:
            raise ValueError("Expected at least one batch to predict; received none. A generator has one pass only: give a list.")
        return Evaluation(**{name: np.concatenate(parts) for name, parts in columns.items()})

    def _predict(self, images):
        return self.call(images, training=False)

    def update(self, evaluation: Evaluation):
        """Renews class weights and the method's own state from the target's evaluation.

        Args:
            evaluation: of the whole target set, from `predict_domain`.

        Returns:
            (C,) float32 class weights, or None for a method without them.
        """
        evaluation.context = self.context(training=False)
        weights = self.method.class_weights(evaluation.seen())
        if weights is not None:
            weights = np.asarray(weights, "float32")
            if self.weight_smoothing and self.has_class_weights.numpy():
                weights = self.weight_smoothing * self.class_weights.numpy() + (1.0 - self.weight_smoothing) * weights
            self.class_weights.assign(weights)
            self.has_class_weights.assign(1)
        self.method.on_evaluation(evaluation)
        return weights

    # ---------------------------------------------------------------- saving

    def state_variables(self):
        """{unique path: variable} of all that an exact resume needs: weights, optimiser, counters, method state.

        Seed generators are left out: `train_step` sets them.
        """
        draws = {id(g.state) for g in seed_generators(self)}
        named = [(v.path, v) for v in self.variables if id(v) not in draws]
        if getattr(self, "optimizer", None) is not None:
            named += [(f"optimizer/{v.path}", v) for v in self.optimizer.variables]
        return {f"{index:05d}/{path}": variable for index, (path, variable) in enumerate(named)}

    def get_config(self):
        values = ("max_iterations", "eval_interval", "seed", "sizes", "warmup", "weight_smoothing", "name")
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("network", "method", "semantic")}
        return parts | {name: getattr(self, name) for name in values} | {"stage": self.stage.name}

    def export(self, filepath, **kwargs):
        """As `keras.Model.export`, of the network as the method predicts with it."""
        from isra_keras.training.results import final_network

        return final_network(self).export(filepath, **kwargs)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        parts = {
            key: keras.saving.deserialize_keras_object(config[key], custom_objects=custom_objects)
            for key in ("network", "method", "semantic")
        }
        stage = config.pop("stage", None)
        model = cls(**{**config, **parts})
        model.stage = next((one for one in model.stages() if one.name == stage), model.stage)
        model._frozen = set(model.stage.frozen)
        return model


def _floats(images):
    """Images as float32; the values stay as they are (0..255)."""
    return ops.cast(images, "float32")
