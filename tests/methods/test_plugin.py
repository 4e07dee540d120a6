"""ISRA on every method: finite, its gradients reach what they must and nothing else, and it leaves the method alone."""

import inspect

import numpy as np
import pytest

from isra_keras.methods import METHODS, get_method
from isra_keras.model import NETWORK_PARTS, AdaptationModel
from isra_keras.semantic import SemanticAlignment
from tests.gradients import values_and_gradients
from tests.methods.objective_test import ROWS, assert_pairwise_sums, evaluate, make_batch, make_model, optimizer

SMALL = {"discriminator_width": 8, "threshold": 0, "hidden": (8, 6)}
PLUGIN_TERMS = ("class2vec", "receptors", "alignment")
every_method = pytest.mark.parametrize("name", METHODS)


def adapting_model(name, variant=None):
    """A model in its stage "adapt", evaluated once, with the plug-in if a variant is given."""
    cls = get_method(name)
    known = inspect.signature(cls.__init__).parameters
    plugin = SemanticAlignment(3, receptor_width=4, variant=variant) if variant else None
    model = make_model(cls, semantic=plugin, **{k: v for k, v in SMALL.items() if k in known})
    model.compile(optimizer())
    stages = model.stages()
    for stage in stages:
        if len(stages) > 1:
            model.begin_stage(stage)
        model.update(evaluate(model))
    return model


def gradients(model, step=1):
    """({term: value}, {term: names of the parts that its gradient reaches})."""
    parts = model.parts()
    variables = {f"{part}/{number}": v for part, found in parts.items() for number, v in enumerate(found)}
    terms, found = values_and_gradients(
        lambda _: model.outcome(make_batch(model, step)).terms, variables
    )
    reached = {term: {name.split("/")[0] for name, g in rows.items() if np.any(g)} for term, rows in found.items()}
    return terms, reached


def assert_reach(model, terms, reached):
    """The plug-in's gradients reach what they must and nothing else."""
    assert all(np.isfinite(value) for value in terms.values()) and set(PLUGIN_TERMS) <= set(terms)
    assert reached["receptors"] == {"receptors"}
    features = {"backbone"} if model.method.aligned == "pooled" else {"backbone", "bottleneck"}
    learning = {part for part in features if model.network.get_layer(part).trainable_variables}
    assert reached["alignment"] == learning and learning  # there is something that can follow
    assert reached["class2vec"] == {"class2vec"} | learning
    for term in set(terms) - set(PLUGIN_TERMS):
        assert not reached[term] & {"class2vec", "receptors"}, term


@pytest.mark.parametrize("name", [
    name if name in ("ba3us", "shot", "slm", "a2kt") else pytest.param(name, marks=pytest.mark.slow) for name in METHODS
])  # fmt: skip
def test_gradients_of_the_papers_variant_reach_what_they_must(name):
    """Those of `reference` are in the next test, of methods of every kind: features, stages, images, heads of its own."""
    model = adapting_model(name, "paper")
    assert_reach(model, *gradients(model))


@every_method
def test_the_method_is_the_same_with_and_without(name):
    """Same terms, same gradients, bit for bit: the plug-in disturbs neither weights nor draws. Its own reach what they must."""
    plain, with_plugin = adapting_model(name), adapting_model(name, "reference")
    for part in NETWORK_PARTS:
        for a, b in zip(plain.network.get_layer(part).weights, with_plugin.network.get_layer(part).weights):
            np.testing.assert_array_equal(a, b)
    terms, reached = gradients(plain)
    both, both_reached = gradients(with_plugin)
    assert not set(PLUGIN_TERMS) & set(terms)
    for term, value in terms.items():
        assert both[term] == value and both_reached[term] == reached[term], term
    assert_reach(with_plugin, both, both_reached)


@every_method
def test_a_switch_with_no_weight_trains_as_the_plain_method(name):
    """Compiled steps with lambda = eta = 0: only the receptors learn, the rest moves as without the plug-in."""
    plain, with_plugin = adapting_model(name), adapting_model(name, "reference")
    with_plugin.semantic.class2vec_weight = with_plugin.semantic.alignment_weight = 0.0
    for step in range(2):
        plain.train_on(make_batch(plain, step)), with_plugin.train_on(make_batch(with_plugin, step))
    own = {part: rows for part, rows in plain.parts().items()}
    for part, variables in own.items():
        for a, b in zip(variables, with_plugin.parts()[part]):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7, err_msg=part)
    assert_pairwise_sums(with_plugin)


@pytest.mark.parametrize("name", ["a2kt", "shot"])
def test_a_label_for_each_sample_takes_their_number(name):
    """TensorFlow said which index of a tensor is out of range."""
    network = make_model(get_method(name)).network
    model = AdaptationModel(network, get_method(name)(), max_iterations=20, eval_interval=5)
    model.compile(optimizer())
    model.stage = model.stages()[-1]
    with pytest.raises(ValueError, match=r"number of target samples.*sizes="):
        model.train_on(make_batch(model, 0))


def test_features_of_source_samples_take_their_number():
    """ISRA on SHOT aligned with the features of one sample."""
    cls = get_method("shot")
    model = AdaptationModel(make_model(cls).network, cls(), SemanticAlignment(3, receptor_width=4), sizes={"target": ROWS})
    model.compile(optimizer())
    with pytest.raises(ValueError, match=r"number of source samples.*sizes="):
        model.update(evaluate(model))


@every_method
def test_every_argument_is_in_the_configuration(name):
    """Else a saved model comes back with another value, without a word."""
    method = get_method(name)
    arguments = [one.name for one in inspect.signature(method).parameters.values() if one.kind is not one.VAR_KEYWORD]
    assert set(arguments) <= set(method().get_config())
