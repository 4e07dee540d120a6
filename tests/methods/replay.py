"""Golden files of adversarial methods: their views, their weights by name, and their training loops replayed."""

import re

import keras
import numpy as np
from keras import ops

from isra_keras.backbones import build_network
from isra_keras.model import NETWORK_PARTS, AdaptationModel
from isra_keras.objective import Context, View, Views
from isra_keras.training.optimizer import PartwiseSGD
from tests.methods.golden_arrays import assert_change_close, assert_close

DENSE = [f"dense{number}/{kind}" for number in (1, 2, 3) for kind in ("kernel", "bias")]


def context(step=0, max_iterations=10000, class_weights=None, classes=1, **options):
    """`Context` at a step; with class weights as after an evaluation, without as before the first."""
    known = class_weights is not None
    weights = ops.convert_to_tensor(class_weights if known else np.ones(classes, "float32"))
    step = ops.convert_to_tensor(np.int32(step))
    return Context(step, max_iterations, weights, ops.convert_to_tensor(known), **options)


def inputs_of(golden):
    """The file's features and logits, {name: array}, under the names its gradients carry."""
    names = ("features", "logits", "source_features", "target_features", "source_logits", "target_logits")
    return {name: golden[name] for name in names if name in golden}


def views_of(golden, values):
    """`Views` of tensors named as `inputs_of` names them; a file without logits has them as None."""
    rows = len(golden["source_labels"]) if "source_labels" in golden else len(golden["source_features"])

    def part(kind, domain):
        if kind in values:
            return values[kind][:rows] if domain == "source" else values[kind][rows:]
        return values.get(f"{domain}_{kind}")

    views = {d: View(None, None, part("features", d), part("logits", d)) for d in ("source", "target")}
    views["source"].labels = golden.get("source_labels")
    return Views(**views)


def load_discriminator(layer, golden, prefix):
    """Gives a built `DomainDiscriminator` the file's weights; {name of the weight in the file: variable}."""
    variables = {}
    for name in DENSE:
        dense, kind = name.split("/")
        variables[f"{prefix}/{name}"] = getattr(getattr(layer, dense), kind)
        variables[f"{prefix}/{name}"].assign(golden[f"{prefix}/{name}"])
    return variables


def hyper_of(golden):
    return {name.removeprefix("hyper/"): golden[name].item() for name in golden if name.startswith("hyper/")}


def trajectory_model(golden, method, rate, weight_decay, max_iterations=100000, multipliers=None):
    """`AdaptationModel` over Dense backbone, bottleneck (with BN if the file has one) and classifier, file's weights.

    Args:
        rate: learning-rate schedule of the backbone.
        weight_decay: of every part.
        multipliers: {part: learning-rate multiplier}; 10 for all but the backbone if None.
    """
    shape = {name: golden[f"init/{name}/kernel"].shape for name in ("backbone", "classifier")}
    images = keras.Input(shape["backbone"][:1], name="images")
    pooled = keras.layers.Dense(shape["backbone"][1], name="backbone")(images)
    kind = "bn_relu" if "init/bottleneck/bn/gamma" in golden else "linear"
    head = build_network(
        "features", shape["classifier"][1], shape["classifier"][0], image_shape=(shape["backbone"][1],), weights="none",
        bottleneck=kind,
    )  # fmt: skip
    features = head.get_layer("bottleneck")(pooled)
    outputs = {"pooled": pooled, "features": features, "logits": head.get_layer("classifier")(features)}
    model = AdaptationModel(keras.Model(images, outputs, name="network"), method, max_iterations=max_iterations)
    for name in weight_names(golden):
        write(model, name, golden[f"init/{name}"])
    parts = {part: (10.0, 1.0) for part in model.parts()} | {"backbone": (1.0, 1.0)}
    parts |= {part: (value, 1.0) for part, value in (multipliers or {}).items()}
    model.compile(PartwiseSGD(rate, weight_decay=weight_decay, multipliers=parts))
    return model


def weight_names(golden):
    return [name.removeprefix("init/") for name in golden if name.startswith("init/")]


def replay(golden, model, losses, before_step=None, steps=5, tolerance=1e-4, rate_of_heads=False):
    """Takes the file's steps and compares losses, their sum, the rate and the change of every weight after each.

    Args:
        losses: {loss of the file: function of the step's logs}.
        before_step: called with the step.
        tolerance: of weight changes since the start, relative to the largest change of the array.
        rate_of_heads: the file's rate is that of the new layers, ten times the backbone's.
    """
    for step in range(steps):
        if before_step is not None:
            before_step(step)
        data = {name: golden[f"step{step}/{name}"] for name in ("source_x", "target_x", "source_labels")}
        indices = np.arange(len(data["source_x"]), dtype="int32")
        source = {"images": data["source_x"], "labels": data["source_labels"], "indices": indices}
        if f"step{step}/lr" in golden:
            rate = keras.ops.convert_to_numpy(model.optimizer.learning_rate) * (10.0 if rate_of_heads else 1.0)
            assert_close(rate, golden[f"step{step}/lr"], 1e-6, f"step {step} rate")
        logs = model.train_on({"source": source, "target": {"images": data["target_x"], "indices": indices}})
        for name, function in losses.items():
            assert_close(function(logs), golden[f"step{step}/loss/{name}"], 1e-5, f"step {step} {name}")
        if f"step{step}/loss/total" in golden:
            assert_close(logs["loss"], golden[f"step{step}/loss/total"], 1e-5, f"step {step} total")
        for name in weight_names(golden):
            after, start = golden[f"step{step}/after/{name}"], golden[f"init/{name}"]
            assert_change_close(read(model, name), after, start, tolerance, f"step {step} {name}")


def read(model, name):
    """A weight as an array, by its name in the file."""
    variable, row = _find(model, name)
    return variable.numpy() if row is None else variable.numpy()[row]


def write(model, name, value):
    """Sets a weight by its name in the file."""
    variable, row = _find(model, name)
    if row is not None:
        whole = variable.numpy()
        whole[row] = value
        value = whole
    variable.assign(value)


def _find(model, name):
    """(variable, index of its class or None); "discriminator/class2/dense1/kernel" is row 2 of a stacked kernel."""
    stacked = re.fullmatch(r"(\w+)/class(\d+)/dense(\d+)/(kernel|bias)", name)
    if stacked:
        part, row, number, kind = stacked.groups()
        layer = getattr(model.method, part)
        return (layer.kernels if kind == "kernel" else layer.biases)[int(number) - 1], int(row)
    part, *rest = name.split("/")
    found = model.network.get_layer(part) if part in NETWORK_PARTS else getattr(model.method, part)
    if isinstance(found, keras.Model) and len(rest) == 1:
        found = found.get_layer("dense")  # the file's bottleneck is one Dense layer, ours a model that holds it
    for step in rest:
        found = found.get_layer(step) if isinstance(found, keras.Model) else getattr(found, step)
    return found, None
