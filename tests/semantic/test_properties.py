"""Properties of the plug-in: closed-form attention, permuted topics, repeated batches, safety at zero."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from isra_keras.objective import View, Views
from isra_keras.semantic import SemanticAlignment, TopicReceptors
from isra_keras.semantic.attention import normalise_attention, topic_attention
from isra_keras.semantic.kernels import shared_product
from isra_keras.semantic.plugin import equivalent_weights
from tests.gradients import values_and_gradients


def random_features(seed, n, d):
    return np.random.default_rng(seed).normal(size=(n, d)).astype("float32")


def make(variant, topics=4, depth=6, width=5, **options):
    semantic = SemanticAlignment(topics, receptor_width=width, variant=variant, **options)
    semantic.build_parts(depth, 3, depth, {})
    return semantic


def views_of(source, target, middle=None):
    view = [None if x is None else View(None, None, ops.convert_to_tensor(x), None) for x in (source, target, middle)]
    return Views(*view)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), n=st.integers(1, 9), d=st.integers(1, 8), topics=st.integers(1, 5))
def test_attention_equals_closed_form(seed, n, d, topics):
    """|d g_j / d x| = |W_j (mask * v_j)|, mask = hidden unit is on."""
    receptors = TopicReceptors(topics, width=7)
    receptors.build((None, d))
    x = random_features(seed, n, d)
    _, attention = topic_attention(receptors, ops.convert_to_tensor(x), topics)
    kernel, bias = receptors.hidden_kernel.numpy(), receptors.hidden_bias.numpy()
    mask = (np.einsum("nd,jdh->jnh", x, kernel) + bias[:, None]) > 0
    closed = np.abs(np.einsum("jdh,jnh,jh->jnd", kernel, mask, receptors.output_kernel.numpy()[..., 0]))
    np.testing.assert_allclose(attention, closed, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), variant=st.sampled_from(["paper", "reference"]))
def test_permuting_topics_permutes_everything(seed, variant):
    semantic = make(variant)
    x = ops.convert_to_tensor(random_features(seed, 10, 6))
    views = views_of(x[:6], x[6:])
    before = semantic.loss_terms(views, None)
    _, attention = semantic.receive(x, semantic.class2vec(x)[0])
    order = np.random.default_rng(seed).permutation(4)
    semantic.class2vec.encoder.kernel.assign(semantic.class2vec.encoder.kernel.numpy()[:, order])
    semantic.class2vec.encoder.bias.assign(semantic.class2vec.encoder.bias.numpy()[order])
    semantic.class2vec.decoder.kernel.assign(semantic.class2vec.decoder.kernel.numpy()[order])
    for weight in semantic.receptors.weights:
        weight.assign(weight.numpy()[order])
    after = semantic.loss_terms(views, None)
    _, permuted = semantic.receive(x, semantic.class2vec(x)[0])
    np.testing.assert_allclose(permuted, attention.numpy()[order], rtol=1e-4, atol=1e-7)
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4)


def test_repeating_the_batch_leaves_the_means_alone():
    semantic = make("reference", receptor_l1=0.0)
    source, target = random_features(0, 5, 6), random_features(1, 7, 6)
    once = semantic.loss_terms(views_of(source, target), None)
    twice = semantic.loss_terms(views_of(np.tile(source, (2, 1)), np.tile(target, (2, 1))), None)
    for name in ("class2vec", "receptors"):
        np.testing.assert_allclose(twice[name], once[name], rtol=1e-5)
    # n'/||A|| grows by 2/sqrt(2), so that the alignment doubles; Eq. 1 is a mean, too.
    np.testing.assert_allclose(twice["alignment"], 2 * once["alignment"], rtol=1e-5)


def test_paper_and_reference_differ_by_the_documented_scale():
    paper, reference = make("paper"), make("reference")
    for a, b in zip(paper.weights, reference.weights):
        a.assign(b)
    x = views_of(random_features(0, 8, 6), random_features(1, 8, 6))
    literal, script = paper.loss_terms(x, None), reference.loss_terms(x, None)
    class2vec, alignment = equivalent_weights(6)
    np.testing.assert_allclose(class2vec * literal["class2vec"], script["class2vec"], rtol=1e-5)
    # Same attention on both sides: the factor is 4/d for n' = n and means against sums.
    attention = np.abs(random_features(5, 4 * 16, 6)).reshape(4, 16, 6)
    from isra_keras.semantic.alignment import topic_alignment

    features = x.concatenate("features")
    sums = topic_alignment(normalise_attention(ops.convert_to_tensor(attention)), features, paper.row_weights(x))
    means = topic_alignment(normalise_attention(ops.convert_to_tensor(attention), count=16.0), features, reference.row_weights(x))
    np.testing.assert_allclose(alignment * sums, means / 6, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1.0, 1e15])
def test_normalisation_is_safe(scale):
    attention = np.abs(random_features(0, 12, 4)).reshape(3, 4, 4) * np.float32(scale)
    attention[1] = 0.0
    normalised = normalise_attention(ops.convert_to_tensor(attention)).numpy()
    assert np.isfinite(normalised).all() and (normalised[1] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(normalised[0]), 1.0, rtol=1e-4)


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_gradients_reach_what_they_must_and_nothing_else(variant):
    semantic = make(variant)
    inputs = {name: random_features(seed, 5, 6) for seed, name in enumerate(("source", "target"))}
    for part in ("class2vec", "receptors"):
        inputs |= {f"{part}/{n}": v for n, v in enumerate(getattr(semantic, part).trainable_variables)}

    def terms(tensors):
        views = (View(None, None, tensors[name], None) for name in ("source", "target"))
        return semantic.loss_terms(Views(*views), None)

    _, gradients = values_and_gradients(terms, inputs)
    groups = {"features": ("source", "target"), "class2vec": ("class2vec/",), "receptors": ("receptors/",)}
    expected = {"class2vec": {"features", "class2vec"}, "receptors": {"receptors"}, "alignment": {"features"}}
    for term, parts in expected.items():
        for part, prefixes in groups.items():
            reached = any(np.any(g) for name, g in gradients[term].items() if name.startswith(prefixes))
            assert reached == (part in parts), (term, part)


def test_the_shared_product_has_the_plain_ones_gradients():
    """Of a weighted sum of its values (J, n, h), to features and kernel."""
    rng = np.random.default_rng(0)
    features, kernel, factors = (rng.normal(size=shape).astype("float32") for shape in ((5, 7), (3, 7, 4), (3, 5, 4)))
    values, gradients = values_and_gradients(
        lambda given: {"sum": ops.sum(ops.multiply(shared_product(given["features"], given["kernel"]), factors))},
        {"features": features, "kernel": kernel},
    )
    assert values["sum"] == pytest.approx(np.einsum("nd,jdh,jnh->", features, kernel, factors), abs=1e-4)
    of = gradients["sum"]
    np.testing.assert_allclose(of["features"], np.einsum("jnh,jdh->nd", factors, kernel), rtol=0, atol=1e-5)
    np.testing.assert_allclose(of["kernel"], np.einsum("nd,jnh->jdh", features, factors), rtol=0, atol=1e-5)
