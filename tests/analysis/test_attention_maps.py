"""Attention maps: gradients against differences, batching against one by one, every kind of backbone."""

import keras
import numpy as np
import pytest

from isra_keras.analysis.attention_maps import AttentionMaps, Explanation, upsample, weighted_maps
from isra_keras.backbones import build_network
from isra_keras.layers.prototype_head import PrototypeHead
from isra_keras.semantic import SemanticAlignment
from isra_keras.semantic.topic_network import topic_network

TOPICS, CLASSES = 3, 4


def make(backbone="small_cnn", shape=(32, 32, 3), bottleneck="bn_relu", pooled=False, seed=0):
    keras.utils.set_random_seed(seed)
    network = build_network(backbone, CLASSES, 6, shape, weights="none", bottleneck=bottleneck)
    width = network.output["pooled" if pooled else "features"].shape[-1]
    plugin = SemanticAlignment(num_topics=TOPICS, receptor_width=8)
    plugin.build_parts(width, CLASSES, 0, {})
    return AttentionMaps(network, topic_network(plugin, width), "pooled" if pooled else "features")


def images(n=2, shape=(32, 32, 3), seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (n, *shape)).astype("float32")


def whole(maps, pooled):
    """(responses (n, J), logits (n, C)) of pooled features, in double steps of float32."""
    network = maps.network
    features = np.asarray(network.get_layer("bottleneck")(pooled, training=False))
    seen = pooled if maps.inputs == "pooled" else features
    return np.asarray(maps.semantic(seen)["responses"]), np.asarray(network.get_layer("classifier")(features))


@pytest.mark.parametrize("pooled", [False, True])
def test_maps_are_the_gradients_of_the_responses(pooled):
    """sum of the map before the ReLU = directional derivative along Z, measured by differences."""
    maps = make(pooled=pooled, bottleneck="linear")
    explained = maps.explain(images())
    z, width = explained.pooled, explained.pooled.shape[1]
    analytic = maps._topic_gradients(z)
    direction = np.random.default_rng(1).normal(size=(2, width)).astype("float32")
    step = 1e-3
    ahead, behind = (whole(maps, z + sign * step * direction)[0] for sign in (1, -1))
    measured = (ahead - behind) / (2 * step)
    expected = np.einsum("njp,np->nj", analytic, direction)
    np.testing.assert_allclose(measured, expected, rtol=0.05, atol=2e-3)
    np.testing.assert_allclose(explained.responses, whole(maps, z)[0], atol=1e-5)
    sums = np.einsum("njp,nhwp->njhw", analytic, explained.activation) / np.prod(maps.map_shape)
    np.testing.assert_allclose(explained.topic_maps, np.maximum(sums, 0), atol=1e-6)


def test_gradient_at_the_map_is_constant_over_positions():
    """The claim of the module's docstring: d g_j / d Z_uvc = a_jc / (h w), by differences at one position."""
    maps = make(bottleneck="linear")
    explained = maps.explain(images(1))
    alpha, step = maps._topic_gradients(explained.pooled)[0], 1e-1
    for u, v, c in ((0, 0, 1), (3, 2, 1)):
        moved = explained.activation.copy()
        moved[0, u, v, c] += step
        change = whole(maps, moved.mean(axis=(1, 2)))[0] - explained.responses
        np.testing.assert_allclose(change[0] / step, alpha[:, c] / 16, rtol=0.05, atol=1e-4)


def test_class_map_of_a_linear_head_is_cam():
    maps = make(bottleneck="linear")
    explained = maps.explain(images())
    kernel = maps.network.get_layer("bottleneck").get_weights()[0] @ maps.network.get_layer("classifier").kernel.numpy()
    labels = [2, 0]
    cam = np.einsum("nhwp,pn->nhw", explained.activation, kernel[:, labels]) / 16
    np.testing.assert_allclose(maps.class_maps(explained, labels), np.maximum(cam, 0), rtol=1e-3, atol=1e-6)


def test_a_class_is_explained_by_all_that_decides_it():
    """A2KT predicts by prototypes too: the maps of its classes were those of its classifier alone."""
    network = make(bottleneck="linear").network
    head = PrototypeHead(CLASSES, temperature=1.0)
    logits = head(network.output["features"], network.output["logits"])
    head.centers.assign(np.random.default_rng(2).normal(size=(CLASSES, 6)))
    head.known.assign(np.ones(CLASSES))
    maps = AttentionMaps(keras.Model(network.input, dict(network.output) | {"logits": logits}, name="network"))
    explained = maps.explain(images())
    direction = np.random.default_rng(1).normal(size=explained.pooled.shape).astype("float32")
    ahead, behind = (_head_on(network, head, explained.pooled + step * direction) for step in (1e-2, -1e-2))
    measured = (ahead - behind) / 2e-2
    gradients = maps._class_gradients(explained.pooled, False)
    np.testing.assert_allclose(np.einsum("ncp,np->nc", gradients, direction), measured, rtol=0.05, atol=2e-3)
    np.testing.assert_allclose(explained.logits, _head_on(network, head, explained.pooled), atol=1e-5)


def _head_on(network, head, pooled):
    features = network.get_layer("bottleneck")(pooled, training=False)
    return np.asarray(head(features, network.get_layer("classifier")(features)))


def test_drives_of_a_linear_head_add_up_to_the_logit_with_a_uniform_mask():
    explained = make(bottleneck="linear").explain(images())
    masks = explained.attention / explained.attention.sum(-1, keepdims=True)
    np.testing.assert_allclose(masks.sum(-1), 1, rtol=1e-5)
    kernel = np.random.default_rng(0).normal(size=(6, CLASSES))
    from isra_keras.analysis.attention_maps import _drives

    gradients = np.broadcast_to(kernel.T, (2, CLASSES, 6))
    uniform = _drives(np.ones((2, 1, 6)), explained.features, gradients)[:, 0]
    np.testing.assert_allclose(6 * uniform, explained.features @ kernel, rtol=1e-4, atol=1e-5)


def test_a_batch_is_its_images_one_by_one():
    maps, batch = make(), images(3)
    together = maps.explain(batch)
    for row in range(3):
        alone = maps.explain(batch[row : row + 1])
        for name in ("responses", "attention", "drives", "topic_maps", "logits"):
            np.testing.assert_allclose(getattr(together, name)[row], getattr(alone, name)[0], rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "size", "grid"), [("small_cnn", 32, 4), ("mobilenet_v2", 64, 2), ("resnet50", 64, 2)]
)
def test_backbones_with_a_map(backbone, size, grid):
    maps = make(backbone, (size, size, 3))
    explained = maps.explain(images(2, (size, size, 3)))
    assert maps.map_shape == (grid, grid) and explained.topic_maps.shape == (2, TOPICS, grid, grid)
    assert maps.class_maps(explained, [0, 1]).shape == (2, grid, grid)
    assert np.isfinite(explained.topic_maps).all() and (explained.topic_maps >= 0).all()
    expected = maps.network.predict_on_batch(images(2, (size, size, 3)))["logits"]
    np.testing.assert_allclose(explained.logits, expected, rtol=1e-4, atol=1e-5)


def test_precomputed_features_have_attention_but_no_map():
    maps = make("features", (10,))
    explained = maps.explain(np.random.default_rng(0).normal(size=(4, 10)))
    assert maps.map_shape is None and explained.topic_maps is None and explained.driving_map(0, 0) is None
    assert explained.attention.shape == (4, TOPICS, 6) and maps.class_maps(explained, [0] * 4) is None


def test_without_the_plugin_only_classes():
    maps = AttentionMaps(make().network)
    explained = maps.explain(images())
    assert explained.num_topics == 0 and explained.topic_maps.shape == (2, 0, 4, 4)
    assert maps.class_maps(explained, [1, 1]).shape == (2, 4, 4) and explained.driving_map(0, 0) is None


def test_a_map_points_to_its_place():
    """Channel 0 fires in one corner and the topic listens to channel 0: the map's peak is that corner."""
    activation = np.zeros((1, 4, 4, 2), "float32")
    activation[0, 3, 1, 0] = 2.0
    activation[0, 0, 0, 1] = 9.0
    heat = weighted_maps(np.array([[[1.0, 0.0], [-1.0, 1.0]]], "float32"), activation)
    assert np.unravel_index(heat[0, 0].argmax(), (4, 4)) == (3, 1) and heat[0, 0].max() == pytest.approx(2 / 16)
    assert heat[0, 1, 3, 1] == 0  # against the topic
    large = upsample(heat, (16, 12))
    assert large.shape == (1, 2, 16, 12) and 0 <= large.min() and large.max() <= 1
    row, column = np.unravel_index(large[0, 0].argmax(), (16, 12))
    assert 12 <= row < 16 and 3 <= column < 6
    assert not upsample(np.zeros((2, 2)), (4, 4)).any()


def test_strongest_topics_and_the_driving_map():
    drives = np.zeros((1, 3, 2), "float32")
    drives[0, :, 1] = [0.5, -1.0, 2.0]
    topic_maps = np.zeros((1, 3, 2, 2), "float32")
    topic_maps[0, 0, 0, 0], topic_maps[0, 1, 0, 1], topic_maps[0, 2, 1, 1] = 5, 5, 0.1
    explained = Explanation(None, None, None, np.zeros((1, 3)), None, drives, topic_maps)
    assert explained.strongest_topics(0, 1).tolist() == [2, 0, 1]
    assert explained.strongest_topics(0, 1, 1).tolist() == [2]
    np.testing.assert_allclose(explained.driving_map(0, 1), [[0.5, 0], [0, 2.0]])
