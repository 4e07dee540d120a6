"""The space: the recipe in its middle, nothing of what was given by hand, plain data."""

from dataclasses import replace

import pytest

from isra_keras.errors import UserError
from isra_keras.training.recipes import resolve
from tuning import space as spaces
from tuning.objectives import ORACLE, metrics_of, parse_objective


def test_default_space_has_the_recipe_in_its_middle():
    config = resolve(iterations=50)
    space = {item.name: item for item in spaces.make_space(config)}
    assert list(space) == list(spaces.SEMANTIC)
    weight = space["class2vec_weight"]
    assert weight.default == config.class2vec_weight
    assert (weight.low * weight.high) ** 0.5 == pytest.approx(weight.default)
    topics = space["num_topics"].values
    assert config.num_topics in topics and all(value & (value - 1) == 0 for value in topics)


def test_given_values_are_not_searched():
    assert "num_topics" not in [item.name for item in spaces.make_space(resolve(num_topics=64), fixed=("num_topics",))]
    with pytest.raises(UserError, match=r"given by hand \(class2vec_weight, alignment_weight, num_topics\)\."):
        spaces.make_space(resolve(), fixed=("select", *spaces.NAMES))


@pytest.mark.parametrize("asked", [{"names": ["num_topics", "learning_rate"]}, {"also": ["num_topics"]}])
def test_what_is_given_and_searched_is_refused(asked):
    """It was not searched, without a word."""
    with pytest.raises(UserError, match="'num_topics' to be searched or given by hand; received both"):
        spaces.make_space(resolve(num_topics=8), fixed=("num_topics",), **asked)


def test_without_the_plug_in_rate_and_multiplier_are_searched():
    config = resolve(semantic=False)
    assert [item.name for item in spaces.make_space(config)] == ["learning_rate", "backbone_multiplier"]
    frozen = resolve(dataset="pacs_features", semantic=False)
    assert [item.name for item in spaces.make_space(frozen)] == ["learning_rate"]
    with pytest.raises(UserError, match="--semantic"):
        spaces.make_space(config, also=["receptor_l1"])
    with pytest.raises(UserError, match="received 'topics'"):
        spaces.make_space(resolve(), also=["topics"])


@pytest.mark.parametrize("given, why", [
    ({"method": "a2kt"}, "Adam, with which a2kt trains"), ({"dataset": "pacs_features"}, "frozen features"),
    ({"dataset": "office31", "freeze_backbone": True}, "frozen features"),
])  # fmt: skip
def test_a_multiplier_without_effect_is_refused(given, why):
    for semantic in (True, False):
        config = resolve(**given, semantic=semantic)
        assert "backbone_multiplier" not in [item.name for item in spaces.make_space(config)]
        with pytest.raises(UserError, match=f"'backbone_multiplier' has none: {why}"):
            spaces.make_space(config, also=["backbone_multiplier"])
        with pytest.raises(UserError, match="Leave it out"):
            spaces.make_space(config, ["backbone_multiplier"])
    assert spaces.make_space(resolve(), also=["backbone_multiplier"])[-1].name == "backbone_multiplier"


def test_both_variants_widen_the_weights():
    config = resolve(variant="paper")
    narrow = spaces.make_space(config)[0]
    wide = spaces.make_space(config, also=["variant"])[0]
    assert wide.low == narrow.low
    assert wide.high == pytest.approx(narrow.high * 2 * config.feature_dim)


@pytest.mark.parametrize("variant, other", [("paper", "reference"), ("reference", "paper")])
def test_both_variants_ranges_hold_what_weighs_alike_in_the_other(variant, other):
    """Eta's range was widened to the wrong side."""
    config, twin = (resolve(dataset="office_home", variant=one) for one in (variant, other))
    for item in spaces.make_space(config, also=["variant"])[:2]:
        weighs_alike = getattr(twin, item.name)
        assert weighs_alike != getattr(config, item.name)
        assert item.low == pytest.approx(min(weighs_alike, getattr(config, item.name)) / spaces.REACH)
        assert item.high == pytest.approx(max(weighs_alike, getattr(config, item.name)) * spaces.REACH)


@pytest.mark.parametrize("variant, other", [("paper", "reference"), ("reference", "paper")])
def test_a_variant_that_is_searched_alone_has_weights_of_its_own_scale(variant, other):
    config, twin = (resolve(dataset="office_home", variant=one) for one in (variant, other))
    assert spaces.apply(config, {"variant": other}) == twin
    assert spaces.apply(config, {"variant": variant}) == config
    one = spaces.apply(config, {"variant": other, "alignment_weight": 0.3})
    assert (one.alignment_weight, one.class2vec_weight) == (0.3, twin.class2vec_weight)
    with pytest.raises(UserError, match="received alignment_weight by hand"):
        spaces.make_space(config, also=["variant"], fixed=("alignment_weight",))


@pytest.mark.parametrize("method", ["ba3us", "shot", "a2kt"])
def test_weights_are_converted_by_the_width_of_what_is_aligned(method):
    """SHOT aligns pooled features: by the bottleneck's width they were eight times off."""
    place = {"dataset": "office_home", "source": "Ar", "target": "Cl", "method": method}
    found = spaces.apply(resolve(variant="reference", **place), {"variant": "paper"})
    wanted = resolve(variant="paper", **place)
    for name in ("class2vec_weight", "alignment_weight"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name))


@pytest.mark.parametrize("name, given", [("class2vec_weight", {"class2vec_weight": 0.0}),
                                         ("backbone_multiplier", {"multipliers": {"backbone": [0.0, 1.0]}})])  # fmt: skip
def test_nothing_is_searched_around_zero(name, given):
    config = replace(resolve(), **given)
    with pytest.raises(UserError, match=f"Expected {name} above 0 .*received 0. Leave it out"):
        spaces.make_space(config, [name])
    assert spaces.make_space(config, ["num_topics"])


def test_apply_changes_only_what_is_named():
    config = resolve()
    values = {"alignment_weight": 0.5, "backbone_multiplier": 0.25, "tuner/epochs": 3}
    fresh = spaces.apply(config, values)
    assert fresh.alignment_weight == 0.5 and fresh.multipliers["backbone"][0] == 0.25
    assert fresh.multipliers["backbone"][1] == config.multipliers["backbone"][1]
    assert config.alignment_weight != 0.5
    assert spaces.apply(config, {}) == config


def test_grid_values_hold_the_default():
    item = spaces.make_space(resolve())[0]
    values = item.grid_values()
    assert len(values) == 5 and item.default in values and values == tuple(sorted(values))


@pytest.mark.parametrize("trials, still", [(30, ["class2vec_weight"]), (31, []), (3, spaces.WEIGHTS)])
def test_grid_says_what_it_does_not_vary(tmp_path, trials, still):
    """As KerasTuner goes through it."""
    keras_tuner = pytest.importorskip("keras_tuner")
    space = spaces.make_space(resolve())
    text = spaces.grid_text(space, trials)
    assert "150 combinations" in text and all((name in text) == (name in still) for name in spaces.SEMANTIC)
    hp = keras_tuner.HyperParameters()
    for item in space:
        item.declare(hp, grid=True)
    oracle = keras_tuner.oracles.GridSearchOracle(objective=keras_tuner.Objective("x", "min"), max_trials=trials, hyperparameters=hp)
    oracle._set_project_dir(str(tmp_path), "g")
    oracle.verbose, values = 0, []
    for _ in range(trials):
        trial = oracle.create_trial("w")
        values.append(trial.hyperparameters.values)
        oracle.update_trial(trial.trial_id, {"x": 1.0})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert [name for name in spaces.SEMANTIC if len({item[name] for item in values}) == 1] == list(still)
    assert spaces.grid_text(space, 150) == ""


def test_objectives_know_their_direction_and_mark_the_oracle():
    assert parse_objective("sel:mean_entropy").direction == "min"
    assert parse_objective("snd").direction == "max" and parse_objective("snd").select == "snd"
    oracle = parse_objective("oracle")
    assert oracle.is_oracle and oracle.select is None and "ORACLE" in oracle.title
    with pytest.raises(UserError, match="sel:snd"):
        parse_objective("accuracy")


def test_metrics_leave_out_an_unknown_accuracy():
    assert metrics_of({"snd": 1.0, "dev": None}, None) == {"sel:snd": 1.0}
    assert metrics_of({}, 0.5) == {ORACLE: 0.5}
