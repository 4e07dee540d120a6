"""What is kept of the plug-in after training: topics and receptors as one functional Keras model."""

import keras
from keras import ops


def topic_network(plugin, width):
    """class2vec and receptors of a trained plug-in as a model that can be saved and loaded on its own.

    It shares the plug-in's layers and holds nothing but registered layers, so that it loads in safe mode. Its layers
    are found by name: `get_layer("class2vec")`, `get_layer("receptors")`.

    Args:
        plugin: `SemanticAlignment`, built.
        width: d, width of the features that it was trained on.

    Returns:
        keras.Model "semantic": float32 (n, d) -> dict of float32 "embeddings" (n, J), "reconstructions" (n, d) and
        "responses" (n, J), the receptors' estimates of the embeddings.

    Example:
        >>> topic_network(model.semantic, model.feature_dim).save("semantic.keras")
    """
    features = keras.Input((width,), dtype="float32", name="features")
    embeddings, reconstructions = plugin.class2vec(features)
    responses = ops.transpose(plugin.receptors(features))
    outputs = {"embeddings": embeddings, "reconstructions": reconstructions, "responses": responses}
    return keras.Model(features, outputs, name="semantic")
