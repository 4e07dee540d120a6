"""build_network: names, shapes, dtypes, parts, precision, saving, seeds, errors."""

import importlib

import keras
import numpy as np
import pytest

from isra_keras.backbones import BOTTLENECKS, build_network, check_backbone
from isra_keras.errors import UserError

PARTS = ("backbone", "bottleneck", "classifier")


@pytest.fixture
def policy():
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def small(**options):
    return build_network("small_cnn", 7, 16, (32, 32, 3), "none", **options)


def images(rows=4, size=32):
    return np.random.default_rng(0).uniform(0, 255, (rows, size, size, 3)).astype("float32")


def paths_in_parts(network):
    return all(any(f"/{part}/" in v.path for part in PARTS) for v in network.weights)


@pytest.mark.parametrize("classifier", ["dense", "weight_norm"])
@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_parts_shapes_and_round_trip(bottleneck, classifier, tmp_path):
    network = small(bottleneck=bottleneck, classifier=classifier)
    outputs = network(images())
    width = 128 if bottleneck == "none" else 16
    assert {k: tuple(v.shape) for k, v in outputs.items()} == {
        "pooled": (4, 128), "features": (4, width), "logits": (4, 7),
    }  # fmt: skip
    assert [layer.name for layer in network.layers[1:]] == list(PARTS)
    assert paths_in_parts(network)
    network.save(tmp_path / "n.keras")
    loaded = keras.models.load_model(tmp_path / "n.keras")
    assert paths_in_parts(loaded)
    assert np.array_equal(loaded(images())["logits"], outputs["logits"])
    for part in PARTS:
        assert len(loaded.get_layer(part).trainable_variables) == len(network.get_layer(part).trainable_variables)


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_ends_in_float32(name, policy, tmp_path):
    reference = small(bottleneck="bn")
    policy(name)
    network = small(bottleneck="bn")
    outputs = network(images())
    assert keras.backend.standardize_dtype(outputs["pooled"].dtype) == name.removeprefix("mixed_")
    assert {outputs[k].dtype for k in ("features", "logits")} == {reference(images())["logits"].dtype}
    assert np.allclose(outputs["features"], reference(images())["features"], atol=0.05)
    features = build_network("features", 3, 4, (5,))
    exact = np.array([[200.3, 1.001, 0, 3, 4]], "float32")  # neither fits into half precision
    assert np.array_equal(features(exact)["pooled"], exact)


def test_normalisation_is_inside():
    backbone = small().get_layer("backbone")
    flat = backbone.get_layer("normalisation")(np.array([[[[0, 127.5, 255]]]], "float32"))
    assert np.allclose(flat, [-1, 0, 1], atol=1e-6)


def test_seed_decides_all_fresh_weights():
    weights = [small(seed=s, bottleneck="afn", classifier="weight_norm").get_weights() for s in (3, 3, 4)]
    assert all(np.array_equal(a, b) for a, b in zip(weights[0], weights[1]))
    kernels = [i for i, w in enumerate(weights[0]) if w.ndim > 1]
    assert not any(np.array_equal(weights[0][i], weights[2][i]) for i in kernels)


def test_initialisers():
    network = build_network("features", 40, 512, (300,), seed=1)
    kernel, bias = network.get_layer("bottleneck").get_weights()
    assert kernel.std() == pytest.approx(np.sqrt(2 / 812), rel=0.02) and not bias.any()
    assert np.abs(kernel).max() > 3 * kernel.std()  # not truncated
    torch = build_network("features", 40, 512, (300,), bottleneck_initializer="torch", classifier_initializer="torch")
    kernel, bias = torch.get_layer("bottleneck").get_weights()
    assert np.abs(kernel).max() <= 300**-0.5 and kernel.std() == pytest.approx((3 * 300) ** -0.5, rel=0.02)
    assert 0.9 * 300**-0.5 < np.abs(bias).max() <= 300**-0.5
    assert np.abs(torch.get_layer("classifier").get_weights()[1]).max() <= 512**-0.5
    afn = build_network("features", 40, 1000, (300,), bottleneck="afn")
    kernel, bias, gamma = afn.get_layer("bottleneck").get_weights()[:3]
    for values, mean in ((kernel, 0), (bias, 0), (gamma, 1)):
        assert values.mean() == pytest.approx(mean, abs=2e-3) and values.std() == pytest.approx(0.01, rel=0.1)
    assert afn.get_layer("classifier").get_weights()[0].std() == pytest.approx(0.01, rel=0.05)
    pada = build_network("features", 4, 64, (300,),
                         bottleneck_initializer=(keras.initializers.RandomNormal(0, 0.005), "zeros"))  # fmt: skip
    assert pada.get_layer("bottleneck").get_weights()[0].std() == pytest.approx(0.005, rel=0.05)


def test_names():
    assert check_backbone("MobileNet_V2") == check_backbone("mobilenet-v2") == check_backbone("MobileNetV2")
    assert check_backbone("HUB:hf://timm/ResNet") == "hub:hf://timm/ResNet"
    with pytest.raises(UserError, match="resnet50, resnet50_torch, mobilenet_v2, small_cnn, features or hub:"):
        check_backbone("vgg16")


@pytest.mark.parametrize("name", ["small_cnn", "mobilenet_v2", "resnet50", "resnet50_torch"])
def test_width_is_that_of_the_pooled_features(name):
    """Recipes convert the weights of ISRA by it."""
    module = importlib.import_module(f"isra_keras.backbones.{name}")
    _, base = module.create((32, 32, 3), False)
    assert base.output_shape[-1] == module.WIDTH


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bottleneck": "wide"}, "linear, bn, bn_relu, afn, a2kt, none.*received 'wide'"),
        ({"classifier": "cosine"}, "dense, weight_norm.*received 'cosine'"),
        ({"image_shape": (32, 32, 1)}, r"height, width, 3.*\(32, 32, 1\)"),
        ({"backbone": "resnet50", "image_shape": (16, 16, 3)}, "at least 32 x 32"),
        ({"backbone": "features"}, r"image_shape \(p,\)"),
        ({"bottleneck_initializer": "he"}, "None, 'torch' or a pair"),
    ],
)
def test_refuses(options, words):
    options = {"backbone": "small_cnn", "num_classes": 3, "image_shape": (32, 32, 3), "weights": "none"} | options
    with pytest.raises(UserError, match=words):
        build_network(**options)


def test_running_statistics_follow_the_network():
    """Keras's own backbones move them by a thousandth a step: an evaluation after short training would be void."""
    network = build_network("mobilenet_v2", 3, 8, (32, 32, 3), "none")
    norms = [layer for layer in network._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) > 50 and {layer.momentum for layer in norms} == {0.9}
    copy = type(network).from_config(network.get_config())
    assert {n.momentum for n in copy._flatten_layers() if isinstance(n, keras.layers.BatchNormalization)} == {0.9}


def test_fixed_statistics_train_as_they_evaluate():
    images = np.random.default_rng(0).uniform(0, 255, (6, 32, 32, 3)).astype("float32")
    for kind, same in (("fixed", True), ("batch", False)):
        network = build_network("mobilenet_v2", 3, 8, (32, 32, 3), "none", batch_norm=kind)
        norms = [layer for layer in network._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
        before = np.array(norms[0].moving_mean)
        evaluated = network(images, training=False)["features"]
        trained = network(images, training=True)["features"]
        assert np.array_equal(evaluated, trained) == same
        assert np.array_equal(before, norms[0].moving_mean) == same
        assert any(v is norms[0].gamma for v in network.trainable_variables)
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network))
        assert type(copy.get_layer("backbone")) is type(network.get_layer("backbone"))
