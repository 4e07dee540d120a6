"""From a configuration to a model: options, optimisers, schedules, stages, shapes."""

import keras
import pytest

from isra_keras.errors import UserError
from isra_keras.objective import Stage
from isra_keras.training.build import (
    build_method,
    build_model,
    build_semantic,
    make_optimizer,
    make_schedule,
    sample_shape,
    stage_lengths,
)  # fmt: skip
from isra_keras.training.optimizer import PartwiseSGD
from isra_keras.training.part_momentum import PartMomentumSGD
from tests.training.small_task import features_config, features_task, images_config, images_task


def test_model_is_what_the_configuration_says():
    config = features_config(variant="paper", method_options={"mu": 2, "complement_weight": 5.0})
    model = build_model(config, features_task())
    assert model.num_classes == 5 and model.feature_dim == 8 and model.sizes == {"source": 60, "target": 40}
    assert model.method.mu == 2 and model.method.complement_weight == 5.0
    assert model.semantic.variant == "paper" and model.semantic.num_topics == 4
    assert isinstance(model.optimizer, PartwiseSGD) and model.optimizer.built
    factors = {part: model.optimizer.factors(v[0]) for part, v in model.parts().items() if v}
    assert factors["classifier"] == (10, 2) and factors["discriminator"] == (10, 2)
    assert factors["class2vec"] == (10, 2) and factors["receptors"] == (1, 10)


def test_without_semantic_there_is_none():
    assert build_semantic(features_config(semantic=False)) is None


def test_options_that_do_not_exist_or_are_refused():
    with pytest.raises(UserError, match="mu, .*received 'nu'"):
        build_method(features_config(method_options={"nu": 1}))
    with pytest.raises(UserError, match="iwan takes"):
        build_method(features_config(method="iwan", semantic=False, method_options={"variant": "mine"}))


def test_optimisers():
    assert isinstance(make_optimizer(features_config(optimizer="adam"), 5), keras.optimizers.Adam)
    part = make_optimizer(features_config(part_momentum={"backbone": 0.0}), 5)
    assert isinstance(part, PartMomentumSGD) and part.part_momentum == {"backbone": 0.0}


@pytest.mark.parametrize("method, option, value, said", [
    ("mwpda", "separation", "half", "separation as a number; received 'half'. Its default is 0.5"),
    ("shot", "threshold", "ten", "threshold as a number"),
    ("shot", "diversity", "no", "diversity as true or false"),
    ("dann", "adversarial_weight", True, "adversarial_weight as a number"),
    ("shot", "source_share", 2, r"stage 'source' to take a share of the steps in \[0, 1\]; received 2"),
    ("slm", "warm_share", -0.5, r"'warm_start' to take a share of the steps in \[0, 1\]; received -0.5"),
])  # fmt: skip
def test_option_values_of_another_kind_are_refused_before_training(method, option, value, said):
    """The first two would have failed at the first evaluation, shares beyond [0, 1] trained one stage alone."""
    with pytest.raises(UserError, match=said):
        build_method(features_config(method=method, semantic=False, method_options={option: value}))


@pytest.mark.parametrize("method, option, value, said", [
    ("pada", "temperature", 0, "temperature as a number above 0; received 0. Its default is 1.0"),
    ("a2kt", "temperature", -1.0, "temperature as a number above 0"),
    ("dann", "ramp_iterations", -5, "ramp_iterations as a number above 0; received -5. Its default is None"),
    ("etn", "ramp_iterations", "soon", "ramp_iterations as a number above 0; received 'soon'"),
    ("ba3us", "discriminator_width", 0, "discriminator_width as a whole number above 0; received 0"),
    ("drcn", "residual_width", 2.5, "residual_width as a whole number above 0"),
    ("cdan", "dropout", 1, r"dropout as a share in \[0, 1\); received 1"),
    ("slm", "selector", "resnet50", "selector as a Keras model .*received 'resnet50'"),
])  # fmt: skip
def test_option_values_that_no_network_can_be_made_of_are_refused(method, option, value, said):
    """A temperature of 0 trained to NaN weights, a negative ramp to a reversal that never begins."""
    with pytest.raises(UserError, match=said):
        build_method(features_config(method=method, semantic=False, method_options={option: value}))


def test_no_ramp_iterations_are_those_of_the_run():
    assert build_method(features_config(method="dann", semantic=False, method_options={"ramp_iterations": None}))


def test_schedules():
    assert make_schedule(features_config(schedule={"name": "constant"}, learning_rate=0.5), 9) == 0.5
    cosine = make_schedule(features_config(schedule={"name": "cosine"}, learning_rate=0.5), 10)
    assert float(cosine(0)) == 0.5 and float(cosine(10)) == pytest.approx(0, abs=1e-7)
    whole = make_schedule(features_config(schedule={"name": "inverse", "gamma": 10.0, "period": None}), 40)
    assert float(whole(40)) == pytest.approx(1e-3 * 11**-0.75, rel=1e-5)


def test_stage_lengths():
    stages = (Stage("a", 6 / 7), Stage("b", 1 / 7))
    assert stage_lengths(3500, stages) == [3000, 500] and stage_lengths(2, stages) == [1, 1]
    assert stage_lengths(10, (Stage(),)) == [10]
    for steps in range(2, 60):
        assert sum(stage_lengths(steps, stages)) == steps and min(stage_lengths(steps, stages)) >= 1
    with pytest.raises(UserError, match="at least 2"):
        stage_lengths(1, stages)


def test_sample_shapes():
    assert sample_shape(features_config(), features_task()) == (12,)
    assert sample_shape(images_config(), images_task()) == (32, 32, 3)
    assert sample_shape(images_config(image_size=40, crop_size=24), images_task()) == (24, 24, 3)
    with pytest.raises(UserError, match="--backbone features"):
        sample_shape(images_config(), features_task())
    with pytest.raises(UserError, match="one for images"):
        sample_shape(features_config(), images_task())
