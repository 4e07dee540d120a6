"""Attention in blocks of topics: what it gives is what the whole (J, n, d) attention gives."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from isra_keras.semantic import SemanticAlignment
from isra_keras.semantic.alignment import topic_alignment
from isra_keras.semantic.attention import normalise_attention
from isra_keras.semantic.blocks import block_size
from tests.semantic.test_properties import random_features, views_of


def make(topic_block, variant="reference", normalisation="frobenius", topics=7, depth=6):
    semantic = SemanticAlignment(
        topics, receptor_width=5, variant=variant, normalisation=normalisation, topic_block=topic_block
    )
    semantic.build_parts(depth, 3, depth, {})
    for number, weight in enumerate(semantic.weights):
        weight.assign(random_features(number, *weight.shape).reshape(weight.shape) if len(weight.shape) == 2
                      else np.random.default_rng(number).normal(size=weight.shape) / 3)  # fmt: skip
    return semantic


def terms_and_gradient(semantic, source, target):
    x = tf.constant(np.concatenate([source, target]))
    with tf.GradientTape() as tape:
        tape.watch(x)
        terms = semantic.loss_terms(views_of(x[: len(source)], x[len(source) :]), None)
    return terms, tape.gradient(terms["alignment"], x), semantic.diagnostics(None, None)


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("normalisation", ["frobenius", "row"])
@pytest.mark.parametrize("topic_block", [1, 3, 7, 50, "auto"])
def test_blocks_change_nothing(variant, normalisation, topic_block):
    source, target = random_features(1, 9, 6), random_features(2, 8, 6)
    whole = terms_and_gradient(make(None, variant, normalisation), source, target)
    blocked = terms_and_gradient(make(topic_block, variant, normalisation), source, target)
    for name in whole[0]:
        np.testing.assert_allclose(blocked[0][name], whole[0][name], rtol=1e-6)
    np.testing.assert_allclose(blocked[1], whole[1], rtol=1e-5, atol=1e-6 * np.abs(whole[1]).max())
    for name in whole[2]:
        np.testing.assert_allclose(blocked[2][name], whole[2][name], rtol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("normalisation", ["frobenius", "row"])
def test_equals_the_attention_made_whole(variant, normalisation):
    """Eq. 3 written out: attention, normalised, multiplied by the features, summed over rows, squared."""
    semantic, source, target = make(2, variant, normalisation), random_features(3, 9, 6), random_features(4, 8, 6)
    terms, gradient, observed = terms_and_gradient(semantic, source, target)
    x = tf.constant(np.concatenate([source, target]))
    views = views_of(source, target)
    _, attention = semantic.receive(x, semantic.class2vec(x)[0])
    attention = normalise_attention(attention, normalisation, semantic.attention_count(views, x))
    with tf.GradientTape() as tape:
        tape.watch(x)
        shares = topic_alignment(attention, x, semantic.row_weights(views)) / (6 if variant == "reference" else 1)
        alignment = ops.sum(shares)
    np.testing.assert_allclose(terms["alignment"], alignment, rtol=1e-5)
    np.testing.assert_allclose(gradient, tape.gradient(alignment, x), rtol=1e-4, atol=1e-5 * np.abs(gradient).max())
    np.testing.assert_allclose(observed["alignment_largest_topic"], ops.max(shares), rtol=1e-5)
    flat = attention.numpy().reshape(7, -1).astype("float64")
    hoyer = (flat.shape[1] ** 0.5 - flat.sum(1) / np.sqrt((flat**2).sum(1))) / (flat.shape[1] ** 0.5 - 1)
    np.testing.assert_allclose(observed["attention_sparsity"], hoyer.mean(), rtol=1e-4)


def test_the_alignment_reaches_the_features_and_no_weight():
    semantic = make(3)
    x = tf.constant(random_features(5, 12, 6))
    with tf.GradientTape() as tape:
        tape.watch(x)
        alignment = semantic.loss_terms(views_of(x[:6], x[6:]), None)["alignment"]
    gradients = tape.gradient(alignment, [x, *semantic.trainable_variables])
    assert np.abs(gradients[0]).max() > 0
    assert all(gradient is None or not np.any(gradient) for gradient in gradients[1:])


@pytest.mark.parametrize("scale", [1e-12, 1e-18])
def test_attention_that_all_but_vanishes_aligns_as_before(scale):
    """Late in the reference's training residuals and V are tiny; the norm cancels them."""
    alignments = []
    for factor in (1.0, scale):
        semantic = make(3, "paper")
        semantic.receptors.output_kernel.assign(semantic.receptors.output_kernel * factor)
        alignments.append(terms_and_gradient(semantic, random_features(6, 9, 6), random_features(7, 8, 6))[0]["alignment"])
    np.testing.assert_allclose(alignments[1], alignments[0], rtol=1e-4)


def test_dead_topics_are_zero_not_nan():
    semantic = make(2)
    semantic.receptors.hidden_bias.assign(-1e3 * np.ones((7, 5), "float32"))  # no hidden unit is on
    terms, gradient, observed = terms_and_gradient(semantic, random_features(8, 9, 6), random_features(9, 8, 6))
    assert float(terms["alignment"]) == 0.0 and not np.any(gradient)
    assert float(observed["attention_sparsity"]) == 0.0


def test_block_sizes():
    assert block_size(None, 40, 10, 10) == 40
    assert block_size(64, 40, 10, 10) == 40
    assert block_size("auto", 1024, 512, 2048, "cpu") == 2  # one topic's attention has 4 MiB
    assert block_size("auto", 1024, 512, 2048, "gpu") == 64
    assert block_size("auto", 32, 72, 256, "cpu") >= 32
    for wrong in (0, -1, 1.5, True, "all"):
        with pytest.raises(ValueError, match="topic_block"):
            block_size(wrong, 40, 10, 10)


@pytest.mark.parametrize("name", ["l2", "Frobenius", None])
def test_unknown_normalisations_are_refused(name):
    with pytest.raises(ValueError, match="frobenius"):
        SemanticAlignment(3, normalisation=name)
    with pytest.raises(ValueError, match="frobenius"):
        normalise_attention(ops.ones((1, 2, 3)), name)


def test_numpy_integers_are_blocks_too():
    assert block_size(np.int64(2), 7, 9, 6) == 2
    with pytest.raises(ValueError, match="topic_block"):
        block_size(True, 7, 9, 6)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_hand_made_views_of_other_dtypes_are_taken_as_float32(dtype):
    source, target = (random_features(seed, 4, 6).astype(dtype) for seed in (1, 2))
    found = make(2).loss_terms(views_of(source, target), None)
    wanted = make(2).loss_terms(views_of(source.astype("float32"), target.astype("float32")), None)
    for name in wanted:
        assert found[name].dtype == "float32"
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)


def test_a_plug_in_by_itself_builds_on_first_use_and_can_be_called():
    semantic = SemanticAlignment(3)
    terms = semantic(views_of(random_features(1, 4, 6), random_features(2, 5, 6)), None)
    assert set(terms) == {"class2vec", "receptors", "alignment"} and semantic.receptors.hidden_kernel.shape[1] == 6
