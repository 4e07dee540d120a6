"""Networks for trajectories: one Dense as backbone, then the library's own bottleneck and classifier."""

import keras

from isra_keras.backbones import build_network


def dense_backbone_network(golden, names, prefix="init/", **options):
    """A network with a file's weights.

    Args:
        golden: {name: array}.
        names: golden names of all variables of bottleneck and classifier, in the order of the network's `weights`
            (kernel, bias, gamma, beta, moving mean, moving variance; classifier).
        prefix: in front of all names.
        **options: of `build_network`.

    Returns:
        (network, {golden name: variable}), the backbone's included.
    """
    kernel = golden[f"{prefix}backbone/kernel"]
    features, classes = golden[f"{prefix}{names[0]}"].shape[1], golden[f"{prefix}classifier/bias"].shape[0]
    parts = build_network("features", classes, features, image_shape=(kernel.shape[1],), weights="none", **options)
    inputs = keras.Input((kernel.shape[0],), name="images")
    backbone = keras.layers.Dense(kernel.shape[1], name="backbone")
    bottleneck, classifier = parts.get_layer("bottleneck"), parts.get_layer("classifier")
    pooled = backbone(inputs)
    hidden = bottleneck(pooled)
    outputs = {"pooled": pooled, "features": hidden, "logits": classifier(hidden)}
    network = keras.Model(inputs, outputs, name="network")
    names = ["backbone/kernel", "backbone/bias", *names]
    variables = dict(zip(names, [*backbone.weights, *bottleneck.weights, *classifier.weights], strict=True))
    for name, variable in variables.items():
        variable.assign(golden[f"{prefix}{name}"])
    return network, variables
