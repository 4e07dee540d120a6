"""Everything that the figures of a run are made of: its predictions for both domains, with labels where known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isra_keras.errors import UserError


@dataclass
class DomainData:
    """Predictions for samples of a domain.

    Attributes:
        domain: `Domain`. indices: (n,) positions in it. labels: (n,) int, -1 where unknown.
        features: (n, d). pooled: (n, p). logits: (n, C). responses: (n, J), J = 0 without the plug-in.
    """

    domain: Any
    indices: Any
    labels: Any
    features: Any
    pooled: Any
    logits: Any
    responses: Any

    def images(self, rows, info):
        """uint8 (k, h, w, 3) of rows, as the network sees them."""
        from isra_keras.data.reader import make_reader

        reader = make_reader(self.domain, info["image_size"], info["crop_size"], cache=False)
        return np.asarray(reader.read(self.indices[rows].astype("int32"))[0]).astype("uint8")


@dataclass
class RunData:
    """A run and its predictions.

    Attributes:
        folder, name, info: of the run. network, maps: `keras.Model`, `AttentionMaps`.
        task: `Task`. source, target: `DomainData`.
    """

    folder: Path
    name: str
    info: dict
    network: Any
    maps: Any
    task: Any
    source: DomainData
    target: DomainData

    @property
    def class_names(self):
        return self.info["class_names"]

    @property
    def predictions(self):
        """(n,) predicted labels of the target."""
        return self.target.logits.argmax(axis=1)

    def class_weights(self):
        """(C,) of the method, or the mean of the predictions; 0 for a class without source samples."""
        from isra_keras.analysis.per_class import weights_judged_by
        from isra_keras.selection.scores import softmax

        kept = self.info.get("class_weights") or None
        return weights_judged_by(kept, None if kept else softmax(self.target.logits), self.task.source.labels)

    def shared(self):
        """(C,) bool: classes with target labels, or, without labels, those that are judged shared."""
        from isra_keras.analysis.per_class import judged_shared

        counts = self.target_counts()
        return judged_shared(self.class_weights()) if counts is None else counts > 0

    def shared_by(self):
        """A sentence that says by what `shared` tells classes apart."""
        if self.target_counts() is None:
            return "The target has no labels: shared are the classes that the run judges so, source only those that it does not."
        return "Shared are the classes that the target's labels have: what is said of them is no label-free result."

    def target_counts(self):
        """(C,) images of each class by all of the target's labels, of which the predictions may be a sample; or None."""
        labels = np.asarray(self.task.target.labels)
        known = labels[labels >= 0]
        return np.bincount(known, minlength=len(self.class_names)) if len(known) else None


def load_run_data(folder, data_dir=None, max_samples=2000, batch_size=64, task=None):
    """Loads a run and predicts both domains, at most `max_samples` of each, spread evenly.

    Args:
        folder: run folder.
        data_dir: where the dataset is now; None for where it was.
        max_samples, batch_size: ints.
        task: `Task`, if it is already there.

    Raises:
        UserError: the run or the data can't be read, they do not fit together, or the network's answers are no numbers.
    """
    from isra_keras.analysis.attention_maps import AttentionMaps
    from isra_keras.evaluate import check_finite, read_config, rebuild_task
    from isra_keras.run_folder import load_run, load_semantic, run_folder

    folder = run_folder(folder)
    network, info = load_run(folder)
    task = task or rebuild_task(read_config(folder), data_dir)
    if list(task.class_names) != info["class_names"]:
        raise UserError(f"Expected the classes that '{folder}' was trained on; the data has others.")
    maps = AttentionMaps(network, load_semantic(folder), (info.get("semantic") or {}).get("inputs", "features"))
    parts = [_predict(maps, info, domain, max_samples, batch_size) for domain in (task.source, task.target)]
    for part in parts:
        check_finite(part.domain, vars(part))
    return RunData(folder, folder.resolve().name, info, network, maps, task, *parts)


def _predict(maps, info, domain, max_samples, batch_size):
    """`DomainData` of a domain."""
    from isra_keras.data.reader import make_reader

    reader = make_reader(domain, info["image_size"], info["crop_size"], cache=False)
    chosen = np.linspace(0, len(domain) - 1, min(len(domain), max_samples)).astype("int32")
    columns, used = [], []
    for start in range(0, len(chosen), batch_size):
        wanted = chosen[start : start + batch_size]
        images, indices = reader.read(wanted)
        readable = np.asarray(indices) == wanted  # elsewhere another image stands in
        outputs = maps.network.predict_on_batch(np.asarray(images, "float32"))
        columns.append({name: np.asarray(values)[readable] for name, values in outputs.items()})
        used.append(wanted[readable])
    outputs = {name: np.concatenate([np.asarray(part[name], "float32") for part in columns]) for name in columns[0]}
    indices, seen = np.concatenate(used), outputs[maps.inputs]
    responses = np.zeros((len(seen), 0), "float32")
    if maps.num_topics:
        parts = [maps.semantic(seen[i : i + 256])["responses"] for i in range(0, len(seen), 256)]
        responses = np.concatenate([np.asarray(part) for part in parts])
    labels = np.asarray(domain.labels)[indices]
    return DomainData(domain, indices, labels, outputs["features"], outputs["pooled"], outputs["logits"], responses)
