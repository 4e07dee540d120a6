"""Do heat maps mean something? Deletion and insertion curves, and the randomisation of parameters.

Deletion replaces the pixels of an image by a blurred copy, the hottest of the map first, and watches the probability
of a class; insertion goes the other way, from the blurred copy. A map that points to what the network uses has a small
area under the deletion curve and a large one under insertion. Under randomisation the weights of the network are
shuffled, each array for itself: a map that stays the same shows the image, not the model.

Reference:
    Petsiuk et al., "RISE: Randomized Input Sampling for Explanation", BMVC 2018.
    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018.
"""

from contextlib import contextmanager

import numpy as np

from isra_keras.analysis.attention_maps import random_maps, upsample


def area_curves(predict, image, heat, label, steps=16, blur=None, seed=0):
    """Deletion and insertion of one image under one map. Where that is the same, as it often is zero, places follow each
    other as under noise: a map that says nothing has noise's area.

    Args:
        predict: (m, height, width, 3) float32 -> (m, C) probabilities.
        image: (height, width, 3) in 0..255.
        heat: (height, width), the hotter the earlier.
        label: class whose probability is watched.
        steps: equal shares of the pixels, one after the other.
        blur: (height, width, 3) to replace pixels by; None for `blurred(image)`.
        seed: of that noise.

    Returns:
        {"deletion": (steps + 1,), "insertion": (steps + 1,)} probabilities.
    """
    image = np.asarray(image, "float32")
    blur = blurred(image) if blur is None else np.asarray(blur, "float32")
    noise = upsample(random_maps(1, (7, 7), seed)[0], heat.shape)
    order = np.lexsort((noise.reshape(-1), -heat.reshape(-1)))
    rank = np.empty(order.size, int)
    rank[order] = np.arange(order.size)
    limits = np.round(np.linspace(0, order.size, steps + 1))
    taken = (rank[None] < limits[:, None]).reshape(steps + 1, *heat.shape, 1)
    stack = np.concatenate([np.where(taken, blur, image), np.where(taken, image, blur)])
    probabilities = np.asarray(predict(stack))[:, label]
    return {"deletion": probabilities[: steps + 1], "insertion": probabilities[steps + 1 :]}


def area(curve):
    """Area under a curve over [0, 1] by trapezoids: float in [0, 1]."""
    curve = np.asarray(curve, "float64")
    return float(((curve[1:] + curve[:-1]) / 2).mean())


def blurred(image, share=1 / 8):
    """The image without its detail: Gaussian blur with a deviation of `share` of the side. float32."""
    from PIL import Image, ImageFilter

    picture = Image.fromarray(np.clip(np.asarray(image), 0, 255).astype("uint8"))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(share * min(picture.size))), "float32")


def compare_maps(maps, images, labels, steps=16, seed=0):
    """Areas of the topics' map, Grad-CAM and noise on labelled images.

    Args:
        maps: `AttentionMaps` of a network with a convolutional map.
        images: (n, height, width, 3) in 0..255.
        labels: (n,) int, the classes that are watched.
        steps: of `area_curves`.
        seed: of the noise.

    Returns:
        {"gradcam" | "random" | "topics" | "strongest topic": {"deletion": (n,), "insertion": (n,)}}, without topics
        only the first two.
    """
    explained = maps.explain(images)
    size = images.shape[1:3]
    kinds = {"gradcam": maps.class_maps(explained, labels), "random": random_maps(len(images), maps.map_shape, seed)}
    if maps.num_topics:
        kinds["topics"] = np.stack([explained.driving_map(row, label) for row, label in enumerate(labels)])
        best = [explained.strongest_topics(row, label, 1)[0] for row, label in enumerate(labels)]
        kinds["strongest topic"] = explained.topic_maps[np.arange(len(images)), best]

    def predict(stack):
        from isra_keras.selection.scores import softmax

        return softmax(np.asarray(maps.network.predict_on_batch(np.asarray(stack, "float32"))["logits"]))

    areas = {name: {"deletion": [], "insertion": []} for name in kinds}
    for row, image in enumerate(images):
        for name, heats in kinds.items():
            curves = area_curves(predict, image, upsample(heats[row], size), labels[row], steps, seed=(seed, row))
            for kind, curve in curves.items():
                areas[name][kind].append(area(curve))
    return {name: {kind: np.array(values) for kind, values in both.items()} for name, both in areas.items()}


def randomisation(maps, images, labels, seed=0):
    """How much maps change when weights are shuffled, part after part from the output down.

    Args:
        maps: `AttentionMaps`; its weights are put back afterwards.
        images, labels: as in `compare_maps`.
        seed: of the shuffles.

    Returns:
        {"heads" | "bottleneck" | "backbone": {"topics": (n,), "gradcam": (n,)}}: rank correlation of each image's map
        with the map before, after that part and all before it were shuffled ("heads": classifier and receptors). A
        map that has become zero everywhere counts as 0; NaN where it was so before, which says nothing.
    """
    before = _both_maps(maps, images, labels)
    heads = [maps.head] + ([maps.semantic] if maps.num_topics else [])
    parts = {"heads": heads, "bottleneck": [maps.network.get_layer("bottleneck")]}
    parts["backbone"] = [maps.network.get_layer("backbone")]
    results, shuffled = {}, []
    for name, layers in parts.items():
        shuffled += layers
        with shuffled_weights(shuffled, seed):
            after = _both_maps(maps, images, labels)
        results[name] = {
            kind: np.array([rank_correlation(a, b) if np.ptp(a) > 0 else np.nan for a, b in zip(heats, after[kind])])
            for kind, heats in before.items()
        }
    return results


def _both_maps(maps, images, labels):
    """{"topics": (n, h, w), "gradcam": (n, h, w)}."""
    explained = maps.explain(images)
    heats = {"gradcam": maps.class_maps(explained, labels)}
    if maps.num_topics:
        heats["topics"] = np.stack([explained.driving_map(row, label) for row, label in enumerate(labels)])
    return heats


@contextmanager
def shuffled_weights(layers, seed=0):
    """Entries of every array of these layers in a random order, each array for itself; put back at the end."""
    kept = [layer.get_weights() for layer in layers]
    rng = np.random.default_rng(seed)
    try:
        for layer, weights in zip(layers, kept):
            layer.set_weights([rng.permutation(array.reshape(-1)).reshape(array.shape) for array in weights])
        yield
    finally:
        for layer, weights in zip(layers, kept):
            layer.set_weights(weights)


def rank_correlation(first, second):
    """Spearman's correlation of two maps in [-1, 1]; 0 where one of them is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(np.asarray(heat).reshape(-1)) for heat in (first, second)]
    deviations = [rank - rank.mean() for rank in ranks]
    norms = [np.sqrt((d**2).sum()) for d in deviations]
    return float(np.dot(*deviations) / (norms[0] * norms[1])) if min(norms) > 0 else 0.0
