"""What a run leaves: the selected network, its description, the three choices side by side, the report."""

import json
import os
import resource
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np

from isra_keras.errors import UserError
from isra_keras.objective import Objective
from isra_keras.semantic.topic_network import topic_network
from isra_keras.training.checkpoint import FULL, disk_full, write_text
from isra_keras.training.record import finite


@dataclass
class Choice:
    """One way to pick among the evaluations.

    Attributes:
        step: steps done at that evaluation.
        accuracy: on the target in [0, 1], None without target labels. Never used to pick `selected` and `last`.
        scores: {name: label-free score}.
    """

    step: int
    accuracy: float | None
    scores: dict = field(default_factory=dict)


@dataclass
class RunResult:
    """What came out.

    Attributes:
        out: run folder.
        selected: by the label-free score `select`: the one in model.keras.
        last: the last evaluation.
        oracle: highest target accuracy, an upper bound that nobody without target labels can pick; None without.
        select: name of the score.
        shared_classes: names that the model judged to be in the target.
        class_weights: {class name: weight}, by the method or by its predictions.
        samples: evaluated target samples.
        seconds: of training and evaluation, in this process.
        steps_per_second: of training alone.
        data_wait_share: share of the training time spent waiting for batches, in [0, 1].
        evaluation_seconds: of all evaluations.
        peak_memory_mb: largest resident size of the process.
        seed: of the run.
    """

    out: str
    selected: Choice
    last: Choice
    oracle: Choice | None
    select: str
    shared_classes: list
    class_weights: dict
    samples: int
    seconds: float = 0.0
    steps_per_second: float = 0.0
    data_wait_share: float = 0.0
    evaluation_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    seed: int = 0

    def to_json(self):
        """Text of result.json."""
        return json.dumps(finite(asdict(self)), indent=2) + "\n"

    @classmethod
    def load(cls, path):
        """Reads result.json.

        Raises:
            UserError: if it can't be read.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            for name in ("selected", "last", "oracle"):
                values[name] = Choice(**values[name]) if values[name] else None
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"Expected the result of a run in '{path}'; it is missing or broken ({error}).") from error


def is_better(entry, best, select, final_stage=None):
    """Whether an evaluation beats the best so far by a label-free score; the first of equals stays.

    Sound evaluations come before the model from before adaptation, which comes before collapsed ones.

    Args:
        entry, best: lines of metrics.jsonl; best may be None.
        select: a name of `SCORES`, or "last".
        final_stage: name of the stage that adapts; an entry of another one is from before it. None: all are of it.
    """
    from isra_keras.selection.scores import SCORES

    if best is None:
        return True
    standing, record = (_standing(one, final_stage) for one in (entry, best))
    if standing != record:
        return standing > record
    if select == "last":
        return True
    value, record = entry["scores"].get(select), best["scores"].get(select)
    if value is None or not np.isfinite(value):
        return False
    if record is None or not np.isfinite(record):
        return True
    return value < record if SCORES[select][1] == "min" else value > record


def _standing(entry, final_stage):
    """2 for a sound evaluation, 1 for one from before adaptation, 0 for a collapsed one."""
    if final_stage is not None and entry["stage"] != final_stage:
        return 1
    return 0 if entry.get("collapsed") else 2


def choices(history, selected_step, final_stage):
    """(selected, last, oracle) `Choice`s; the last is of the final stage, the oracle's of it or the selected one itself, which
    may be from before adaptation: it would not bound that from above."""

    def choice(entry):
        return Choice(entry["step"], entry.get("oracle_accuracy"), entry["scores"])

    selected = next(entry for entry in history if entry["step"] == selected_step)
    history = [entry for entry in history if entry["stage"] == final_stage]
    labelled = [entry for entry in (*history, selected) if entry.get("oracle_accuracy") is not None]
    oracle = choice(max(labelled, key=lambda entry: entry["oracle_accuracy"])) if labelled else None
    return choice(selected), choice(history[-1]), oracle


def final_network(model, network=None):
    """The network as it is used: where a method predicts by more than its logits, that is put on top of it.

    Args:
        model: `AdaptationModel`.
        network: another one than the model's, with the same outputs.
    """
    network = model.network if network is None else network
    if type(model.method).target_logits is Objective.target_logits:
        return network
    outputs = dict(network.output)
    outputs["logits"] = model.method.target_logits(outputs)
    return keras.Model(network.input, outputs, name="network")  # not inputs: a list of one


def image_network(config, task, network):
    """The network of a run as it receives images: a frozen backbone is put in front of it."""
    if not config.freeze_backbone:
        return network
    from isra_keras.training.frozen import whole_network

    return whole_network(config, task, network)


def save_network(network, path):
    """Writes a .keras file (model.keras, semantic.keras) beside its place and renames it.

    Raises:
        UserError: disk full.
    """
    path = Path(path)
    aside = path.with_name(f".part.{path.name}")
    needed = 4 * network.count_params()  # float32
    try:
        network.save(aside)
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        if error.errno in FULL or getattr(error.__cause__, "errno", None) in FULL:
            raise disk_full(path, needed) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def save_semantic(model, path):
    """Writes the topics and receptors of a model with the plug-in; removes an older file of a model without.

    Returns:
        dict for model.json: "num_topics", "variant" and "inputs", the network's output that the plug-in looks at
        ("features", or "pooled" for SHOT); None without the plug-in.
    """
    path, plugin = Path(path), model.semantic
    if plugin is None:
        path.unlink(missing_ok=True)
        return None
    width = int(plugin.receptors.hidden_kernel.shape[1])
    save_network(topic_network(plugin, width), path)
    return {"num_topics": plugin.num_topics, "variant": plugin.variant, "inputs": model.method.aligned}


def class_table(evaluation, labels, class_names):
    """list of dicts for model.json, one a class that has target samples or predictions: name, count (None without
    labels), correct, predicted, accuracy (None where unknown), mistaken_for, mistakes."""
    from isra_keras.analysis.per_class import per_class

    rows = per_class(labels, evaluation.logits.argmax(axis=-1), class_names)
    labelled = bool((labels >= 0).any())
    if not labelled:
        counts = np.bincount(evaluation.logits.argmax(axis=-1), minlength=len(class_names))
        return [{"name": name, "count": None, "correct": None, "predicted": int(count), "accuracy": None,
                 "mistaken_for": "", "mistakes": 0} for name, count in zip(class_names, counts) if count]  # fmt: skip
    return finite([asdict(row) for row in rows if row.count or row.predicted])


def entropy_quantiles(evaluation):
    """[nats] at 0, 5, …, 100 % of the target's predictions: what is usual for this model."""
    from isra_keras.selection.scores import entropies, softmax

    values = np.quantile(entropies(softmax(evaluation.logits)), np.linspace(0, 1, 21))
    return [float(f"{value:.5g}") for value in values]  # digits that count: a sure model has tiny ones


def describe_model(config, task, step, class_weights, labelled):
    """dict of model.json: what `predict` and `evaluate` need beside the network."""
    return {
        "format_version": config.format_version,
        "task": config.task_name,
        "method": config.method + (f"+isra ({config.variant})" if config.semantic else ""),
        "class_names": list(task.class_names),
        "class_weights": None if class_weights is None else [float(value) for value in class_weights],
        "kind": "images" if config.freeze_backbone else task.kind,
        "image_size": _resized_to(config, task),
        "crop_size": config.crop_size,
        "selected_by": config.select,
        "selected_step": step,
        "target_labelled": labelled,
    }


def _resized_to(config, task):
    """Side that `data.reader` brought the target's images to before the crop, also where no size was asked for; None
    for features and for arrays that are no squares."""
    arrays = task.target.arrays
    if config.image_size or task.kind == "features" and not config.freeze_backbone:
        return config.image_size
    if arrays is None or arrays.ndim == 2:  # a frozen backbone's features are of files
        from isra_keras.data.reader import DEFAULT_SIZE

        return DEFAULT_SIZE
    height, width = map(int, arrays.shape[1:3])
    return height if height == width else None


def write_results(out, config, task, model, evaluation, indices, history, selected_step, weights, timing):
    """model.keras, semantic.keras, model.json, report/ and, last of all, result.json: with it the run is done.

    Args:
        out: run folder.
        config, task, model: of the run; the model holds the selected weights.
        evaluation: of the target with these weights; `indices` (N,) are the rows' positions in the target.
        history: evaluations.
        selected_step: steps done when these weights were selected.
        weights: (C,) class weights of that evaluation, or None.
        timing: further values of `RunResult`.

    Returns:
        `RunResult`.
    """
    from isra_keras.analysis.curves import read_history
    from isra_keras.analysis.per_class import judged_shared, weights_judged_by
    from isra_keras.analysis.report import write_report
    from isra_keras.selection.scores import softmax

    out = Path(out)
    labels = np.asarray(task.target.labels)[indices]
    judged = weights_judged_by(weights, softmax(evaluation.logits), task.source.labels)
    weights = weights if weights is None else judged
    save_network(final_network(model, image_network(config, task, model.network)), out / "model.keras")
    info = describe_model(config, task, selected_step, weights, bool((labels >= 0).any()))
    info["semantic"] = save_semantic(model, out / "semantic.keras")
    info["predicted"] = np.bincount(np.asarray(evaluation.logits).argmax(axis=1), minlength=len(task.class_names)).tolist()
    info["classes"] = class_table(evaluation, labels, list(task.class_names))
    info["entropy_quantiles"] = entropy_quantiles(evaluation)
    write_text(out / "model.json", json.dumps(info, indent=2) + "\n")
    title = f"{info['method']} on {config.task_name}, seed {config.seed}"
    curves = [entry | {"accuracy": entry.get("oracle_accuracy")} for entry in read_history(out / "metrics.jsonl")]
    for entry in curves:
        entry.pop("oracle_accuracy", None)  # the report draws it as "accuracy (oracle: target labels)"
    write_report(out, evaluation, labels, list(task.class_names), weights, curves, title, task.source.labels)
    selected, last, oracle = choices(history, selected_step, model.stages()[-1].name)
    result = RunResult(
        out=str(out), selected=selected, last=last, oracle=oracle, select=config.select,
        shared_classes=[name for name, shared in zip(task.class_names, judged_shared(judged)) if shared],
        class_weights=dict(zip(task.class_names, map(float, judged))), samples=len(labels), seed=config.seed,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, **timing,
    )  # fmt: skip
    write_text(out / "result.json", result.to_json())
    return result
