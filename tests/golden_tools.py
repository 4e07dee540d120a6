"""Reading golden arrays, small dense networks and trajectories for the tests."""

from pathlib import Path

import keras
import numpy as np

GOLDEN = Path(__file__).parent / "golden"


def golden_cases(kind):
    """Files tests/golden/{kind}_*.npz: every case of a kind that lies there is tried."""
    cases = sorted(GOLDEN.glob(f"{kind}_*.npz"))
    return [c for c in cases if c.stem.removeprefix(f"{kind}_").count("_") == 0]


def load(path):
    """{name: array} of a golden file."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def tensors(arrays):
    """{name: tensor of Keras's backend} of {name: array or variable}; PyTorch mixes its own with NumPy's only by halves."""
    return {name: keras.ops.convert_to_tensor(value) for name, value in arrays.items()}


def relative_error(actual, expected):
    """max |actual - expected| / max |expected|; absolute where the expected array is all zero."""
    actual, expected = (
        np.asarray(keras.ops.convert_to_numpy(one) if keras.ops.is_tensor(one) else one, "float64") for one in (actual, expected)
    )
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    if actual.size == 0:
        return 0.0
    scale = np.abs(expected).max()
    return float(np.abs(actual - expected).max() / (scale or 1.0))


def dense_network(golden, prefix="init"):
    """Backbone, bottleneck and classifier as one Dense each, with the golden file's initial weights."""
    kernel = golden[f"{prefix}/backbone/kernel"]
    inputs = keras.Input(kernel.shape[:1], name="images")
    pooled = keras.layers.Dense(kernel.shape[1], name="backbone")(inputs)
    features = keras.layers.Dense(golden[f"{prefix}/bottleneck/kernel"].shape[1], name="bottleneck")(pooled)
    logits = keras.layers.Dense(golden[f"{prefix}/classifier/kernel"].shape[1], name="classifier")(features)
    network = keras.Model(inputs, {"pooled": pooled, "features": features, "logits": logits}, name="network")
    for part in ("backbone", "bottleneck", "classifier"):
        network.get_layer(part).set_weights([golden[f"{prefix}/{part}/{v}"] for v in ("kernel", "bias")])
    return network


def set_discriminator(layer, golden, prefix):
    """Copies dense1..3 of a golden discriminator into a built `DomainDiscriminator`."""
    for name in ("dense1", "dense2", "dense3"):
        getattr(layer, name).set_weights([golden[f"{prefix}/{name}/{v}"] for v in ("kernel", "bias")])


def set_semantic(semantic, golden, prefix=""):
    """Copies golden encoder, decoder and receptors into a built `SemanticAlignment`."""
    for name in ("encoder", "decoder"):
        layer = getattr(semantic.class2vec, name)
        layer.set_weights([golden[f"{prefix}{name}/{v}"] for v in ("kernel", "bias")])
    for name in ("hidden_kernel", "hidden_bias", "output_kernel", "output_bias"):
        getattr(semantic.receptors, name).assign(golden[f"{prefix}receptors/{name}"])


def named_weights(model):
    """{golden name: variable} of network, discriminator and semantic plug-in of an AdaptationModel."""
    layers = {name: model.network.get_layer(name) for name in ("backbone", "bottleneck", "classifier")}
    discriminator = getattr(model.method, "discriminator", None)
    if discriminator is not None:
        layers |= {f"discriminator/{n}": getattr(discriminator, n) for n in ("dense1", "dense2", "dense3")}
    if model.semantic is not None:
        layers |= {n: getattr(model.semantic.class2vec, n) for n in ("encoder", "decoder")}
    named = {f"{name}/{v}": getattr(layer, v) for name, layer in layers.items() for v in ("kernel", "bias")}
    if model.semantic is not None:
        for name in ("hidden_kernel", "hidden_bias", "output_kernel", "output_bias"):
            named[f"receptors/{name}"] = getattr(model.semantic.receptors, name)
    return named
