"""semantic.keras: the same answers as the plug-in after saving and loading, in safe mode."""

import keras
import numpy as np

from isra_keras.run_folder import load_semantic
from isra_keras.semantic import SemanticAlignment
from isra_keras.semantic.topic_network import topic_network
from tests.small_run import make_run


def trained_plugin(topics=4, width=6):
    keras.utils.set_random_seed(3)
    plugin = SemanticAlignment(num_topics=topics, receptor_width=5)
    plugin.build_parts(width, 3, 8, {})
    return plugin


def test_answers_are_those_of_the_plugin():
    plugin = trained_plugin()
    features = np.random.default_rng(0).normal(size=(7, 6)).astype("float32")
    outputs = topic_network(plugin, 6)(features)
    embeddings, reconstructions = plugin.class2vec(features)
    np.testing.assert_allclose(outputs["embeddings"], embeddings)
    np.testing.assert_allclose(outputs["reconstructions"], reconstructions)
    np.testing.assert_allclose(outputs["responses"], np.transpose(plugin.receptors(features)), atol=1e-6)
    assert outputs["responses"].shape == (7, 4)


def test_survives_saving_beside_a_run(tmp_path):
    run = make_run(tmp_path / "run")
    assert load_semantic(run) is None
    plugin = trained_plugin()
    topic_network(plugin, 6).save(run / "semantic.keras")
    loaded = load_semantic(run)
    features = np.random.default_rng(1).normal(size=(3, 6)).astype("float32")
    np.testing.assert_allclose(loaded(features)["responses"], np.transpose(plugin.receptors(features)), atol=1e-6)
    assert loaded.get_layer("receptors").width == 5 and loaded.get_layer("class2vec").num_topics == 4
