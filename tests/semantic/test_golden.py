"""The plug-in against the numbers of the authors' code (reference) and of the equations (paper)."""

import keras
import numpy as np
import pytest

from isra_keras.objective import View, Views
from isra_keras.semantic import SemanticAlignment
from isra_keras.semantic.attention import normalise_attention, topic_attention
from tests.golden_tools import golden_cases, load, relative_error, set_semantic
from tests.gradients import values_and_gradients

pytestmark = pytest.mark.golden
TOLERANCE = 1e-5


def build(golden, **options):
    topics, depth, width = golden["receptors/hidden_kernel"].shape
    semantic = SemanticAlignment(num_topics=topics, receptor_width=width, **options)
    semantic.build_parts(depth, 10, depth, {})
    set_semantic(semantic, golden)
    return semantic


def views_of(features):
    def view(x):
        return None if x is None or not len(x) else View(None, None, x, None)

    return Views(view(features["source"]), view(features["target"]), view(features.get("middle")))


def term_gradients(semantic, golden, domains):
    """Values and gradients of the three terms with respect to features and weights."""
    weights = {
        "encoder/kernel": semantic.class2vec.encoder.kernel, "encoder/bias": semantic.class2vec.encoder.bias,
        "decoder/kernel": semantic.class2vec.decoder.kernel, "decoder/bias": semantic.class2vec.decoder.bias,
    }  # fmt: skip
    for name in ("hidden_kernel", "hidden_bias", "output_kernel", "output_bias"):
        weights[f"receptors/{name}"] = getattr(semantic.receptors, name)
    inputs = {f"features_{d}": golden[f"features_{d}"] for d in domains} | weights
    values, gradients = values_and_gradients(
        lambda tensors: semantic.loss_terms(views_of({d: tensors[f"features_{d}"] for d in domains}), None), inputs
    )
    names = {"class2vec": "reconstruction_loss", "receptors": "receptor_loss", "alignment": "alignment_loss"}
    return {loss: (values[term], gradients[term]) for term, loss in names.items()}


def compare(results, golden, suffix=""):
    for loss, (value, gradients) in results.items():
        key = loss + (suffix if loss == "alignment_loss" else "")
        assert relative_error(value, golden[f"out/{key}"]) < TOLERANCE, loss
        for name, gradient in gradients.items():
            expected = golden.get(f"grad/{key}/{name}")
            if expected is None:
                assert np.abs(gradient).max() == 0.0, f"{loss} must not reach {name}"
            else:
                assert relative_error(gradient, expected) < TOLERANCE, (loss, name)


@pytest.mark.parametrize("topic_block", ["auto", 2])
@pytest.mark.parametrize("path", golden_cases("isra_reference"), ids=lambda p: p.stem)
def test_reference_variant(path, topic_block):
    golden = load(path)
    semantic = build(golden, receptor_l1=float(golden["l1_weight"]), variant="reference", topic_block=topic_block)
    domains = [d for d in ("source", "target", "middle") if f"features_{d}" in golden]
    compare(term_gradients(semantic, golden, domains), golden)
    features = np.concatenate([golden[f"features_{d}"] for d in domains])
    embeddings, reconstructions = semantic.class2vec(features)
    assert relative_error(embeddings, golden["out/embeddings"]) < TOLERANCE
    assert relative_error(reconstructions, golden["out/reconstructions"]) < TOLERANCE
    _, attention = semantic.receive(keras.ops.convert_to_tensor(features), embeddings)
    assert relative_error(attention, golden["out/attention_raw"]) < TOLERANCE
    normalised = normalise_attention(attention, "frobenius", len(features))
    assert relative_error(normalised, golden["out/attention_normalised"]) < TOLERANCE


@pytest.mark.parametrize("normalisation", ["frobenius", "row"])
@pytest.mark.parametrize("path", golden_cases("isra_paper"), ids=lambda p: p.stem)
def test_paper_variant(path, normalisation):
    golden = load(path)
    l1 = float(golden["lambda_reg"])
    semantic = build(golden, receptor_l1=l1, variant="paper", normalisation=normalisation)
    compare(term_gradients(semantic, golden, ["source", "target"]), golden, f"_{normalisation}")
    features = np.concatenate([golden["features_source"], golden["features_target"]])
    _, attention = topic_attention(semantic.receptors, keras.ops.convert_to_tensor(features), semantic.num_topics)
    assert relative_error(attention, golden["out/attention_raw"]) < TOLERANCE
    normalised = normalise_attention(attention, normalisation)
    assert relative_error(normalised, golden[f"out/attention_{normalisation}"]) < TOLERANCE
