"""`build_network`: backbone -> bottleneck -> classifier as one functional Keras model."""

import importlib

import keras
from keras import layers

from isra_keras.backbones import hub
from isra_keras.backbones import weights as weight_files
from isra_keras.backbones.batch_norm import TorchBatchNormalization
from isra_keras.backbones.l2_dropout import L2PreservingDropout
from isra_keras.backbones.part import FixedStatisticsPart, NetworkPart
from isra_keras.backbones.weight_norm import WeightNormDense
from isra_keras.errors import UserError
from isra_keras.initializers import GlorotNormal, TorchUniform

BACKBONES = ("resnet50", "resnet50_torch", "mobilenet_v2", "small_cnn", "features")
BOTTLENECKS = ("linear", "bn", "bn_relu", "afn", "a2kt", "none")
CLASSIFIERS = ("dense", "weight_norm")
BATCH_NORMS = ("batch", "fixed")
BATCH_NORM_MOMENTUM = 0.9


def build_network(
    backbone,
    num_classes,
    feature_dim=256,
    image_shape=(224, 224, 3),
    weights="imagenet",
    bottleneck="linear",
    classifier="dense",
    seed=0,
    torch_statistics=True,
    dropout=0.5,
    bottleneck_initializer=None,
    classifier_initializer=None,
    batch_norm="batch",
):
    """Functional model "network": images -> {"pooled", "features", "logits"}.

    Its three layers are named "backbone", "bottleneck" and "classifier"; every variable's path contains its part's
    name. The backbone holds its own normalisation and ends in global average pooling. Under a mixed-precision
    policy the backbone computes in half precision, normalisation, bottleneck and classifier in float32.

    Args:
        backbone: one of `BACKBONES` or `hub:<keras-hub preset>`; case does not matter.
        num_classes: C, source classes.
        feature_dim: d, width of the bottleneck; ignored by bottleneck "none".
        image_shape: (height, width, 3), or (p,) for backbone "features".
        weights: "imagenet", "none", or a file (.weights.h5, .h5, .keras) of the backbone. Backbones without
            downloadable weights ("small_cnn", "features") start fresh under "imagenet" too.
        bottleneck: "linear" (Dense; ISRA, BA3US, CDAN, PADA), "bn" (Dense, BN; SHOT), "bn_relu" (Dense, BN, ReLU;
            IWAN), "afn" (Dense, BN, ReLU, L2-preserving dropout; AFN, which takes feature_dim 1000),
            "a2kt" (Dense 1024, BN, LeakyReLU 0.2, Dense; A2KT, which takes feature_dim 512), "none".
        classifier: "dense" or "weight_norm" (SHOT).
        seed: of all fresh weights.
        torch_statistics: running variance of the bottleneck's BN as in PyTorch.
        dropout: rate of bottleneck "afn".
        bottleneck_initializer, classifier_initializer: None (untruncated Glorot normal, bias 0; N(0, 0.01^2) for
            kernels and biases with bottleneck "afn"), "torch" (U(+-1/sqrt(fan_in)), as `torch.nn.Linear`), or a
            pair (kernel, bias) of Keras initialisers.
        batch_norm: what the backbone's batch normalisation uses in training: "batch", the statistics of each batch (all
            the papers, on ResNet-50), or "fixed", the running ones that came with the weights. Of source and target
            batches, which are forwarded apart, the running ones become a mixture; and weights whose statistics do not
            describe your images, as at another image size, are another network in training than in evaluation.

    Returns:
        keras.Model: float32 (n, height, width, 3) in 0..255 -> dict of "pooled" (n, p) in the compute dtype,
        "features" (n, d) float32, "logits" (n, C) float32.

    Raises:
        UserError: unknown name (lists the valid ones), weights that can't be fetched or don't fit.

    Example:
        >>> network = build_network("small_cnn", 36, image_shape=(32, 32, 3), weights="none")
        >>> network(images)["logits"]
    """
    _check(bottleneck, BOTTLENECKS, "bottleneck")
    _check(classifier, CLASSIFIERS, "classifier")
    _check(batch_norm, BATCH_NORMS, "batch_norm")
    image_shape = tuple(image_shape)
    with keras.name_scope("network"):
        images = keras.Input(image_shape, dtype="float32", name="images")
        pooled = _backbone(backbone, image_shape, weights, seed, batch_norm)(images)
        if bottleneck_initializer is None and bottleneck == "afn":
            bottleneck_initializer = _narrow(seed + 1)
            classifier_initializer = classifier_initializer or _narrow(seed + 5)
        squeeze = _bottleneck(
            bottleneck, pooled.shape[-1], feature_dim, bottleneck_initializer, torch_statistics, dropout, seed + 1
        )
        features = squeeze(pooled)
        logits = _classifier(classifier, features.shape[-1], num_classes, classifier_initializer, seed + 5)(features)
        outputs = {"pooled": pooled, "features": features, "logits": logits}
        return NetworkPart(images, outputs, name="network")


def check_backbone(name):
    """The canonical name of a backbone: lower case, underscores; `hub:` keeps its preset as it is.

    Raises:
        UserError: lists the valid names.
    """
    if str(name).lower().startswith("hub:"):
        return "hub:" + str(name)[4:]
    plain = str(name).lower().replace("-", "_")
    plain = {"resnet_50": "resnet50", "mobilenetv2": "mobilenet_v2"}.get(plain, plain)
    if plain not in BACKBONES:
        raise UserError(f"Expected a backbone of {', '.join(BACKBONES)} or hub:<preset>; received '{name}'.")
    return plain


def _backbone(name, image_shape, weights, seed, batch_norm):
    """Part "backbone": normalisation, network, global average pooling."""
    name = check_backbone(name)
    _check_shape(name, image_shape)
    kind = str(weights or "none").lower()
    with keras.name_scope("backbone"):
        normalisation, base = _create(name, image_shape, kind)
        if kind not in ("imagenet", "none"):
            weight_files.load_file(base, weights, name)
        elif kind == "none" or name in ("small_cnn", "features"):
            weight_files.seed_kernels(base, seed)
        _follow_statistics(base)
        images = keras.Input(image_shape, dtype="float32", name="images")
        outputs = base(normalisation(images) if normalisation else images)
        if len(outputs.shape) == 4:
            outputs = layers.GlobalAveragePooling2D(name="pool")(outputs)
        elif len(outputs.shape) == 3:  # tokens of a transformer
            outputs = layers.GlobalAveragePooling1D(name="pool")(outputs)
        part = FixedStatisticsPart if batch_norm == "fixed" else NetworkPart
        return part(images, outputs, name="backbone")


def _follow_statistics(base):
    """Running statistics that move as in PyTorch (its momentum 0.1), with which all the authors trained.

    `keras.applications` keeps 0.99 (ResNet-50) or 0.999 (MobileNetV2) of the old ones at each step: after a few hundred
    steps of fine-tuning, evaluation would normalise by statistics of features that no longer exist.
    """
    for layer in base._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM


def _create(name, image_shape, kind):
    """(normalisation, network without pooling) of a backbone, with its downloaded weights if asked for."""
    if name.startswith("hub:"):
        return hub.create(name[4:], image_shape, kind == "imagenet")
    module = importlib.import_module(f"isra_keras.backbones.{name}")
    if kind != "imagenet":
        return module.create(image_shape, False)
    if name == "resnet50_torch":
        raise weight_files.no_download(name, "Keras hosts none in torchvision's layout")
    if not module.DOWNLOADS:
        return module.create(image_shape, False)
    try:
        return module.create(image_shape, True)
    except Exception as error:  # keras.utils.get_file raises plain Exception
        raise weight_files.no_download(name, error) from error


def _bottleneck(kind, pooled_dim, feature_dim, initializer, torch_statistics, dropout, seed):
    """Part "bottleneck", float32 whatever the policy."""
    if kind == "none":
        return layers.Activation("linear", dtype="float32", name="bottleneck")
    kernel, bias = _initializers(initializer, pooled_dim, seed)
    with keras.name_scope("bottleneck"):
        inputs = keras.Input((pooled_dim,), dtype="float32", name="pooled")
        outputs = _hidden(inputs, torch_statistics, seed + 4) if kind == "a2kt" else inputs
        outputs = layers.Dense(
            feature_dim, kernel_initializer=kernel, bias_initializer=bias, dtype="float32", name="dense"
        )(outputs)
        if kind in ("bn", "bn_relu", "afn"):
            gamma = keras.initializers.RandomNormal(1.0, 0.01, seed=seed + 2) if kind == "afn" else "ones"
            outputs = TorchBatchNormalization(
                torch_statistics, gamma_initializer=gamma, dtype="float32", name="bn"
            )(outputs)  # fmt: skip
        if kind in ("bn_relu", "afn"):
            outputs = layers.ReLU(dtype="float32", name="relu")(outputs)
        if kind == "afn":
            outputs = L2PreservingDropout(dropout, seed=seed + 3, dtype="float32", name="dropout")(outputs)
        return NetworkPart(inputs, outputs, name="bottleneck")


def _hidden(inputs, torch_statistics, seed, units=1024):
    """Hidden layer of A2KT's generator: Dense, BN, LeakyReLU."""
    kernel = GlorotNormal(seed=seed)
    outputs = layers.Dense(units, kernel_initializer=kernel, dtype="float32", name="hidden")(inputs)
    outputs = TorchBatchNormalization(torch_statistics, dtype="float32", name="bn")(outputs)
    return layers.LeakyReLU(0.2, dtype="float32", name="leaky_relu")(outputs)


def _classifier(kind, feature_dim, num_classes, initializer, seed):
    """Layer "classifier", float32 whatever the policy."""
    if kind == "weight_norm":
        direction = TorchUniform(seed=seed)
        return WeightNormDense(num_classes, direction_initializer=direction, dtype="float32", name="classifier")
    kernel, bias = _initializers(initializer, feature_dim, seed)
    return layers.Dense(
        num_classes, kernel_initializer=kernel, bias_initializer=bias, dtype="float32", name="classifier"
    )


def _initializers(option, fan_in, seed):
    """(kernel, bias) initialisers of a Dense layer."""
    if option is None:
        return GlorotNormal(seed=seed), "zeros"
    if option == "torch":
        return TorchUniform(seed=seed), TorchUniform(fan_in=fan_in, seed=seed + 1)
    if isinstance(option, (tuple, list)) and len(option) == 2:
        return tuple(keras.initializers.get(part) for part in option)
    raise UserError(f"Expected initialiser None, 'torch' or a pair (kernel, bias); received {option!r}.")


def _narrow(seed):
    """N(0, 0.01^2) for kernel and bias, as AFN starts its head."""
    return tuple(keras.initializers.RandomNormal(0.0, 0.01, seed=seed + i) for i in range(2))


def _check(name, valid, what):
    if name not in valid:
        raise UserError(f"Expected a {what} of {', '.join(valid)}; received '{name}'.")


def _check_shape(name, shape):
    """Refuses inputs that the backbone can't take."""
    if name == "features":
        if len(shape) != 1:
            raise UserError(f"Expected image_shape (p,) for backbone features; received {shape}.")
    elif len(shape) != 3 or shape[-1] != 3:
        raise UserError(f"Expected image_shape (height, width, 3) for backbone {name}; received {shape}.")
    elif name != "small_cnn" and min(shape[:2]) < 32:
        raise UserError(f"Expected images of at least 32 x 32 pixels for backbone {name}; received {shape}.")
