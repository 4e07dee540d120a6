"""Where in an image a topic or a class is seen: the receptors' attention carried back to the convolutional map.

Notation: Z (h, w, p) the last convolutional map of an image, z = mean over positions (the pooled features),
x = b(z) (d) the bottleneck's features, g_j the receptor of topic j, y_k the logit of class k that is predicted by (of A2KT
its log p_k).

    A_j = |d g_j(x) / d x|                                  (d)     attention of topic j (the paper's Eq. 2, 3)
    a_j = d g_j(b(z)) / d z                                 (p)     the same gradient, one layer further down
    M_j = ReLU(sum_c a_jc Z_c) / (h w)                      (h, w)  topic map
    G_k = ReLU(sum_c (d y_k / d z_c) Z_c) / (h w)           (h, w)  Grad-CAM of class k
    D_jk = max(g_j(x), 0) sum_i A_ji x_i (d y_k / d x_i) / sum_i A_ji      how much topic j drives logit k

Since z is the mean of Z, the gradient with respect to Z is d g_j / d Z_uvc = a_jc / (h w) at every position, so that
the mean over positions that Grad-CAM takes changes nothing. The sum in D_jk is the logit that the linearised classifier
gives to the topic's masked features, with the mask scaled to sum one; it counts as far as the topic responds at all.

All topics of all images take one forward pass and one backward pass: z is copied J times (a broadcast), and the sum
of all responses has every gradient apart.

Reference:
    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Explanation:
    """What the receptors and the classifier look at, for n images; NumPy float32.

    Attributes:
        logits: (n, C). pooled: (n, p). features: (n, d).
        responses: (n, J), g_j(x); attention: (n, J, d) >= 0; drives: (n, J, C). All with J = 0 without the plug-in.
        topic_maps: (n, J, h, w) >= 0, or None for a backbone without a convolutional map.
        activation: (n, h, w, p), or None; what `class_maps` needs.
    """

    logits: Any
    pooled: Any
    features: Any
    responses: Any
    attention: Any
    drives: Any
    topic_maps: Any = None
    activation: Any = field(default=None, repr=False)

    @property
    def num_topics(self):
        """J, 0 without the plug-in."""
        return self.responses.shape[1]

    def strongest_topics(self, row, label, count=None):
        """Topics of an image by how much they drive a class, the strongest first: (count,) int."""
        order = np.argsort(-self.drives[row, :, label], kind="stable")
        return order[:count]

    def driving_map(self, row, label):
        """(h, w) map of a class made of its topics: sum_j max(D_jk, 0) M_j / max M_j; None without map or topics.

        Each topic's map is scaled to a largest value of one, so that a topic counts by what it gives to the class.
        """
        if self.topic_maps is None or not self.num_topics:
            return None
        maps = self.topic_maps[row]
        largest = maps.max(axis=(1, 2), keepdims=True)
        scaled = maps / np.where(largest > 0, largest, 1.0)
        return np.tensordot(np.maximum(self.drives[row, :, label], 0.0), scaled, axes=1)


class AttentionMaps:
    """Explains images with a network and its topic network.

    Args:
        network: of `build_network` or `load_run`.
        semantic: of `topic_network` or `load_semantic`; None for a run without the plug-in.
        inputs: "features" or "pooled", the output that the receptors look at (model.json's "semantic").

    Example:
        >>> maps = AttentionMaps(network, load_semantic(run), info["semantic"]["inputs"])
        >>> maps.explain(images).topic_maps     # (n, J, 7, 7)
    """

    def __init__(self, network, semantic=None, inputs="features"):
        import keras

        self.network, self.semantic, self.inputs = network, semantic, inputs
        self._bottleneck = network.get_layer("bottleneck")
        self.map_shape = None
        outputs = dict(network.output) if isinstance(network.output, dict) else network.output
        last = convolutional_map(network)
        if last is not None:
            stem = keras.Model(network.get_layer("backbone").input, last)
            outputs = outputs | {"activation": stem(network.input)}
            self.map_shape = tuple(last.shape[1:3])
        self._forward = keras.Model(network.input, outputs)
        # All that comes behind the features: for A2KT its prototypes too, not the layer "classifier" alone.
        self.head = keras.Model(network.output["features"], network.output["logits"])
        self.num_topics = 0 if semantic is None else int(semantic.output["responses"].shape[-1])

    def explain(self, images):
        """`Explanation` of images.

        Args:
            images: (n, height, width, 3) in 0..255, or (n, p) features.
        """
        outputs = self._forward.predict_on_batch(np.asarray(images, "float32"))
        outputs = {name: np.asarray(value, "float32") for name, value in outputs.items()}
        pooled, features, logits = (outputs[name] for name in ("pooled", "features", "logits"))
        seen = pooled if self.inputs == "pooled" else features
        if self.num_topics:
            responses, attention = self.receive(seen)
            drives = _drives(attention, seen, self._class_gradients(seen, features is seen))
            drives *= np.maximum(responses, 0.0)[:, :, None]
        else:
            responses = np.zeros((len(logits), 0), "float32")
            attention = np.zeros((len(logits), 0, seen.shape[1]), "float32")
            drives = np.zeros((len(logits), 0, logits.shape[1]), "float32")
        explained = Explanation(logits, pooled, features, responses, attention, drives)
        if self.map_shape is not None:
            explained.activation = outputs["activation"]
            explained.topic_maps = weighted_maps(self._topic_gradients(pooled), explained.activation)
        return explained

    def class_maps(self, explained, labels):
        """Grad-CAM of one class an image.

        Args:
            explained: of `explain`.
            labels: (n,) int, a class for each image.

        Returns:
            (n, h, w) float32 >= 0, or None for a backbone without a convolutional map.
        """
        if explained.activation is None:
            return None
        chosen = self._class_gradients(explained.pooled, False)[np.arange(len(labels)), np.asarray(labels)]
        return weighted_maps(chosen[:, None], explained.activation)[:, 0]

    def all_class_maps(self, explained):
        """Grad-CAM of every class: (n, C, h, w) float32 >= 0, or None for a backbone without a convolutional map."""
        if explained.activation is None:
            return None
        return weighted_maps(self._class_gradients(explained.pooled, False), explained.activation)

    def receive(self, features):
        """(responses (n, J), attention (n, J, d)) of all topics."""
        from keras import ops

        from isra_keras.semantic.attention import topic_attention

        receptors = self.semantic.get_layer("receptors")
        responses, attention = topic_attention(receptors, ops.convert_to_tensor(features), self.num_topics)
        return _numpy(responses).T, np.swapaxes(_numpy(attention), 0, 1)

    def _topic_gradients(self, pooled):
        """a = d g_j / d z: (n, J, p)."""
        if not self.num_topics:
            return np.zeros((len(pooled), 0, pooled.shape[1]), "float32")
        receptors = self.semantic.get_layer("receptors")

        def response(copies):
            return receptors(copies if self.inputs == "pooled" else self._on_rows(self._bottleneck, copies))

        return _gradients(response, pooled, self.num_topics)

    def _class_gradients(self, rows, from_features):
        """d y_k / d features (or pooled): (n, C, width)."""
        from keras import ops

        classes = int(self._forward.output["logits"].shape[-1])
        own = ops.reshape(ops.eye(classes), (classes, 1, classes))

        def logits(copies):
            hidden = copies if from_features else self._on_rows(self._bottleneck, copies)
            return ops.sum(self._on_rows(self.head, hidden) * own, axis=-1)

        return _gradients(logits, rows, classes)

    def _on_rows(self, part, copies):
        """A layer or a model on (J, n, width)."""
        from keras import ops

        flat = ops.reshape(copies, (-1, copies.shape[-1]))
        outputs = part(flat, training=False)
        return ops.reshape(outputs, (*copies.shape[:2], outputs.shape[-1]))


def convolutional_map(network):
    """Symbolic (None, h, w, p): what the backbone's global average pooling receives; None if there is no such map.

    The maths above holds for a backbone that ends in that pooling, as all of `build_network` do; precomputed features
    and networks of tokens have no map.
    """
    import keras

    backbone = network.get_layer("backbone")
    last = getattr(backbone, "layers", [None])[-1]
    if not isinstance(last, keras.layers.GlobalAveragePooling2D):
        return None
    return last.input


def weighted_maps(gradients, activation):
    """ReLU(sum_c a_c Z_c) / (h w): (n, J, p), (n, h, w, p) -> (n, J, h, w) float32 >= 0."""
    n, height, width, channels = activation.shape
    flat = activation.reshape(n, height * width, channels)
    sums = np.matmul(gradients, flat.transpose(0, 2, 1)).reshape(n, -1, height, width)
    return np.maximum(sums, 0.0).astype("float32") / (height * width)


def random_maps(count, shape, seed=0):
    """(count, h, w) uniform noise: what a map has to beat."""
    return np.random.default_rng(seed).random((count, *shape)).astype("float32")


def upsample(maps, size):
    """Maps brought to the image's size, each scaled to 0..1 (all 0 stays 0).

    Args:
        maps: (..., h, w) >= 0.
        size: (height, width).

    Returns:
        (..., height, width) float32, bicubic, cut to 0..1.
    """
    from PIL import Image

    maps = np.asarray(maps, "float32")
    flat = maps.reshape(-1, *maps.shape[-2:])
    large = np.empty((len(flat), *size), "float32")
    for row, heat in enumerate(flat):
        top = heat.max(initial=0.0)
        scaled = heat / top if top > 0 else heat
        image = Image.fromarray(scaled).resize((size[1], size[0]), Image.Resampling.BICUBIC)
        large[row] = np.clip(np.asarray(image), 0.0, 1.0)
    return large.reshape(*maps.shape[:-2], *size)


def _gradients(function, rows, count):
    """d function_j(row_i) / d row_i of (count, n, width) -> (count, n): (n, count, width) float32."""
    from keras import ops

    from isra_keras.semantic.attention import input_gradients

    copies = ops.broadcast_to(ops.convert_to_tensor(rows)[None], (count, *rows.shape))
    _, gradients = input_gradients(function, copies)
    return np.swapaxes(_numpy(gradients), 0, 1)


def _drives(attention, features, class_gradients):
    """The sum in D, (n, J, C): each topic's mask, scaled to sum one, on features times class gradients."""
    masks = attention / np.maximum(attention.sum(axis=-1, keepdims=True), 1e-20)
    return np.matmul(masks, np.swapaxes(class_gradients * features[:, None, :], 1, 2)).astype("float32")


def _numpy(tensor):
    from keras import ops

    return np.asarray(ops.convert_to_numpy(tensor), "float32")
