"""benchmarks/SCALING.md is what its script writes, and the script's numbers hang together."""

import dataclasses
import json
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
    slow = dataclasses.replace(GIVEN, interconnect=GIVEN.interconnect / 100)
    lost = scaling.outlook(64, slow)
    parts = {name: value for name, value in lost["parts"].items() if name != "network"}  # which is not lost
    assert f"most of it to {max(parts, key=parts.get)}" in scaling.troubles(lost, slow)[-1]
    assert scaling.troubles(scaling.outlook(512, GIVEN), GIVEN)[-1].endswith("most of it to views")
    poor = dataclasses.replace(GIVEN, cores=1, memory=1.0)
    said = " ".join(scaling.troubles(scaling.outlook(64, poor), poor))
    assert "hidden units" in said and "to decode" in said


def test_a_step_on_a_gpu_is_read_before_one_on_a_cpu(tmp_path, monkeypatch):
    line = {"kind": "step", "device": "Made GPU", "backend": "jax", "precision": "float32", "backbone": "resnet50",
            "rows": [36, 36, 9], "feature_dim": 512, "num_topics": 256, "receptor_width": 128, "ba3us_ms": 81.0,
            "isra_ms": 89.1}  # fmt: skip
    others = [line | {"device": "cpu", "ba3us_ms": 1.0}, line | {"backbone": "small_cnn", "ba3us_ms": 1.0}, {"kind": "product"},
              line | {"precision": "mixed_bfloat16", "ba3us_ms": 40.5, "isra_ms": 44.55}]  # fmt: skip
    for name in ("train_step", "semantic_step", "input_pipeline"):
        (tmp_path / f"{name}.jsonl").write_bytes((scaling.RESULTS / f"{name}.jsonl").read_bytes())
    (tmp_path / "gpu_step.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [line, *others]))
    monkeypatch.setattr(scaling, "RESULTS", tmp_path)
    found, on_gpu = scaling.measured()
    assert on_gpu and found["precision"] == "mixed_bfloat16" and found["isra_adds"] == pytest.approx(0.1)
    one = scaling.outlook(1, GIVEN)
    assert one["parts"]["network"] == pytest.approx(0.0405)  # 81 images at 2,000 a second
    page = scaling.page(GIVEN)
    assert "Made GPU" in page and "No step on a GPU" not in page and "|images_per_second|" not in page
    (tmp_path / "gpu_step.jsonl").unlink()
    found, on_gpu = scaling.measured()
    own = next(one for one in scaling.lines_of("semantic_step") if (one["depth"], one["topics"], one["rows"]) == (512, 256, 81))
    assert not on_gpu and found["isra_adds"] * found["seconds"]["BA3US"] == pytest.approx(own["ours_ms"] / 1e3)


def test_the_rate_of_a_core_is_the_measured_one(tmp_path, monkeypatch):
    lines = [{"probe": "rate", "from": source, "images_per_second": rate, "threads": 4}
             for source, rate in (("decoded cache", 9000.0), ("files", 500.0))]  # fmt: skip
    (tmp_path / "input_pipeline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(scaling, "RESULTS", tmp_path)
    assert scaling.Assumptions().decoding == 125.0
    (tmp_path / "input_pipeline.jsonl").unlink()
    with pytest.raises(SystemExit, match="input_pipeline.py"):
        scaling.Assumptions()


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
