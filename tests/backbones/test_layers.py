"""The layers of the bottlenecks and classifiers against closed forms."""

import keras
import numpy as np
import pytest

from isra_keras.backbones import CaffePreprocessing, L2PreservingDropout, TorchBatchNormalization, WeightNormDense

RNG = np.random.default_rng(0)


def test_weight_norm_closed_form():
    layer = WeightNormDense(3)
    inputs = RNG.normal(size=(5, 4)).astype("float32")
    layer(inputs)
    assert [v.name for v in layer.weights] == ["direction", "gain", "bias"]
    assert [tuple(v.shape) for v in layer.weights] == [(4, 3), (3,), (3,)]
    assert np.allclose(layer.kernel(), layer.direction, atol=1e-6)  # gain starts as the norm
    direction, gain, bias = RNG.normal(size=(4, 3)), RNG.normal(size=3), RNG.normal(size=3)
    layer.set_weights([direction, gain, bias])
    expected = inputs @ (direction / np.linalg.norm(direction, axis=0) * gain) + bias
    assert np.allclose(layer(inputs), expected, atol=1e-5)
    layer.set_weights([7 * direction, gain, bias])  # its length does not count
    assert np.allclose(layer(inputs), expected, atol=1e-5)


def test_batch_normalisation_running_variance():
    batches = [RNG.normal(2, 3, (n, 4)).astype("float32") for n in (6, 3)]
    torch, plain = TorchBatchNormalization(), TorchBatchNormalization(torch_statistics=False)
    mean, unbiased, biased = np.zeros(4), np.ones(4), np.ones(4)
    for batch in batches:
        outputs = [layer(batch, training=True) for layer in (torch, plain)]
        mean = 0.9 * mean + 0.1 * batch.mean(0)
        unbiased, biased = 0.9 * unbiased + 0.1 * batch.var(0, ddof=1), 0.9 * biased + 0.1 * batch.var(0)
        expected = (batch - batch.mean(0)) / np.sqrt(batch.var(0) + 1e-5)
        assert all(np.allclose(o, expected, atol=1e-5) for o in outputs)
    assert np.allclose(torch.moving_mean, mean, atol=1e-6) and np.allclose(plain.moving_mean, mean, atol=1e-6)
    assert np.allclose(torch.moving_variance, unbiased, rtol=1e-5)
    assert np.allclose(plain.moving_variance, biased, rtol=1e-5)
    evaluated = torch(batches[0], training=False)
    assert np.allclose(evaluated, (batches[0] - mean) / np.sqrt(unbiased + 1e-5), atol=1e-5)
    torch.trainable = False
    torch(batches[0], training=True)
    assert np.allclose(torch.moving_mean, mean, atol=1e-6)


def test_batch_normalisation_of_images_and_of_one_row():
    images = RNG.normal(size=(2, 3, 3, 4)).astype("float32")
    layer = TorchBatchNormalization()
    layer(images, training=True)
    assert np.allclose(layer.moving_variance, 0.9 + 0.1 * images.reshape(-1, 4).var(0, ddof=1), rtol=1e-5)
    one = TorchBatchNormalization()
    one(images[:1, 0, 0], training=True)
    assert np.allclose(one.moving_variance, 0.9)


def test_l2_preserving_dropout():
    inputs = np.ones((200, 500), "float32")
    layer = L2PreservingDropout(0.5, seed=1)
    outputs = np.array(layer(inputs, training=True))
    assert np.allclose(np.unique(outputs), [0, np.sqrt(2)], atol=1e-6)
    assert np.mean(outputs**2) == pytest.approx(1.0, abs=0.01)
    assert np.array_equal(layer(inputs, training=False), inputs)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        L2PreservingDropout(1.0)


def test_caffe_preprocessing_equals_keras():
    images = RNG.uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    expected = keras.applications.resnet.preprocess_input(images.copy())
    assert np.allclose(CaffePreprocessing()(images), expected, atol=1e-4)


@pytest.mark.parametrize("layer", [
    WeightNormDense(3), TorchBatchNormalization(torch_statistics=False, momentum=0.8), L2PreservingDropout(0.3, seed=4),
    CaffePreprocessing(),
])  # fmt: skip
def test_config_round_trip(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config() and type(copy) is type(layer)
