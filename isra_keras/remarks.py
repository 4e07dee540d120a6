"""Remarks about single answers: images unlike the source, and answers less certain than is usual for the run."""

import numpy as np

MOST_IMAGES = 1000
MOST_TARGETS = 300
BATCH = 32
UNLIKE = "not like anything in the source"
UNSURE = "less certain than 95 % of the target's images"


class Border:
    """How near to a class of the source an image usually is, by the cosine of features to the nearest class mean.

    `border` is what 99 % of the source's images and 98 % of the target's reach: most of the target is of the source's
    classes, however different it looks.

    Args:
        features: (n, d) of source images. labels: (n,) of them. target_features: (m, d).
    """

    def __init__(self, features, labels, target_features):
        means = np.stack([_unit(features)[labels == label].mean(axis=0) for label in np.unique(labels)])
        self.means = _unit(means)
        nearest = [self.similarity(rows) for rows in (features, target_features)]
        self.border = float(min(np.quantile(nearest[0], 0.01), np.quantile(nearest[1], 0.02)))

    def similarity(self, features):
        """(n,) cosines of (n, d) features to the nearest class mean; below `border` an image is unlike the source."""
        return (_unit(features) @ self.means.T).max(axis=1)


def remarks(info, entropy, features=None, border=None):
    """A text for each row, "" where there is nothing to say.

    Args:
        info: dict of model.json.
        entropy: (n,) nats, of the predictions.
        features: (n, d), and border: `Border`; without one nothing is said of likeness.
    """
    usual = (info.get("entropy_quantiles") or [np.inf])[-2:][0]
    unlike = np.zeros(len(entropy), bool) if border is None else border.similarity(features) < border.border
    return ["; ".join([UNLIKE] * bool(far) + [UNSURE] * bool(value > usual)) for far, value in zip(unlike, entropy)]


def read_border(network, info, task):
    """`Border` of a run's task, by at most 1,000 source and 300 target images, spread evenly.

    Args:
        network, info: of `load_run`.
        task: `Task` that the run was trained on.
    """
    from isra_keras.data.reader import make_reader

    found = []
    for domain, most in ((task.source, MOST_IMAGES), (task.target, MOST_TARGETS)):
        reader = make_reader(domain, info["image_size"], info["crop_size"], cache=False)
        outputs, indices = predict_some(network.predict_on_batch, reader, spread(domain, most))
        found.append((outputs["features"], domain.labels[indices]))
    return Border(*found[0], found[1][0])


def spread(domain, most):
    """(k,) int32 positions in a domain, at most so many, spread evenly."""
    return np.linspace(0, len(domain) - 1, min(len(domain), most)).astype("int32")


def predict_some(predict, reader, chosen):
    """({"features", "logits", ...}, indices) of samples of a domain.

    Args:
        predict: images -> dict of arrays.
        reader: of `make_reader`.
        chosen: (k,) int32 positions.
    """
    columns, used = [], []
    for start in range(0, len(chosen), BATCH):
        images, indices = reader.read(chosen[start : start + BATCH])
        columns.append(predict(np.asarray(images, "float32")))
        used.append(np.asarray(indices))
    return {name: np.concatenate([np.asarray(part[name]) for part in columns]) for name in columns[0]}, np.concatenate(used)


def _unit(rows):
    rows = np.asarray(rows, "float32")
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
