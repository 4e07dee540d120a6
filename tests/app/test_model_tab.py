"""The Model tab's card, of what the run's files say."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from app.model_tab import card
from isra_keras.training.recipes import resolve


@pytest.mark.parametrize("semantic", [True, False])
def test_a_run_without_isra_was_not_made_with_its_values(tmp_path, semantic):
    """Topics, their weights and a variant were told of runs that had none."""
    (tmp_path / "config.json").write_text(json.dumps(asdict(resolve(semantic=semantic))))
    service = SimpleNamespace(folder=tmp_path, info={"class_names": ["a"]}, shared_classes=list, result=dict)
    text = card(service)
    assert "small\\_cnn" in text and "iterations 2000" in text
    for name in ("num_topics 32", "variant paper", "class2vec_weight", "alignment_weight"):
        assert (name in text) == semantic, name


@pytest.mark.parametrize("by, told", [("snd", "Chosen without target labels by snd at step 9."),
                                      ("last", "The last evaluation, at step 9; no score chose it.")])  # fmt: skip
def test_who_chose_the_model(tmp_path, by, told):
    """"Chosen without target labels by last"."""
    info = {"class_names": ["a"], "selected_by": by, "selected_step": 9}
    assert told in card(SimpleNamespace(folder=tmp_path, info=info, shared_classes=list, result=dict))
