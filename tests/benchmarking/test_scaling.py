"""benchmarks/SCALING.md is what its script writes, and the script's numbers hang together."""

import dataclasses
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import scaling  # noqa: E402

GIVEN = scaling.Assumptions()


def test_the_page_is_the_scripts():
    assert scaling.PAGE.read_text(encoding="utf-8") == scaling.page(GIVEN)


def test_one_gpu_is_the_measure_and_more_are_never_faster_than_linear():
    found = [scaling.outlook(replicas, GIVEN) for replicas in scaling.REPLICAS]
    assert found[0]["efficiency"] == pytest.approx(1.0) and found[0]["parts"]["gradients"] == 0.0
    for one, more in zip(found, found[1:]):
        assert more["efficiency"] < one["efficiency"] and more["images_per_second"] > one["images_per_second"]
        assert more["rows"] == 8 * one["rows"]
        assert more["images_per_second"] / found[0]["images_per_second"] == pytest.approx(
            more["efficiency"] * more["replicas"], rel=1e-6
        )


def test_what_breaks_is_said():
    assert scaling.troubles(scaling.outlook(1, GIVEN), GIVEN) == []
    assert "fewer than a batch of 18,432" in scaling.troubles(scaling.outlook(512, GIVEN), GIVEN)[0]
    poor = dataclasses.replace(GIVEN, cores=1, memory=1.0)
    said = " ".join(scaling.troubles(scaling.outlook(64, poor), poor))
    assert "hidden units" in said and "to decode" in said


def test_every_assumption_has_a_meaning():
    assert all(scaling._meaning(field.name) for field in dataclasses.fields(scaling.Assumptions))


@pytest.mark.slow
def test_weights_are_those_of_the_network():
    from isra_keras.backbones import build_network

    config = scaling.recipe()
    network = build_network("resnet50", 1000, config.feature_dim, weights="none")
    counted = {part: sum(v.shape.num_elements() for v in network.get_layer(part).trainable_variables)
               for part in ("backbone", "bottleneck", "classifier")}  # fmt: skip
    assert counted["backbone"] == scaling.BACKBONE_WEIGHTS
    d = config.feature_dim
    assert counted["bottleneck"] == scaling.POOLED * d + d and counted["classifier"] == d * 1000 + 1000
