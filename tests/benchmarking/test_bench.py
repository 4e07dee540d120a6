"""benchmarks/bench.py: a page of whatever lines there are, with figures, full results before quick ones."""

import json
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import bench  # noqa: E402
import evaluation_share  # noqa: E402
import gpu_step  # noqa: E402
import measure  # noqa: E402
import method_costs  # noqa: E402
import readings  # noqa: E402
import semantic_step  # noqa: E402
import train_step  # noqa: E402


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, path in (("RESULTS", tmp_path), ("FIGURES", tmp_path / "figures"), ("PAGE", tmp_path / "README.md")):
        monkeypatch.setattr(bench, name, path)
    return tmp_path


def write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_page_of_any_lines(folder):
    write(folder / "semantic_step.jsonl", {"what": "receptors", "speed_up": 12.5, "parts": {"a": 1, "b": 0.25}})
    write(folder / "onednn.jsonl", {"step": "dann", "off_ms": 2.0, "on_ms": 1.0, "off_over_on": 2.0, "commit": "abc", "cores": 2})
    write(folder / "onednn_quick.jsonl", {"step": "dann", "off_ms": 9.0, "on_ms": 1.0, "off_over_on": 9.0})
    bench.write_page()
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "| receptors | 12.5 | a 1, b 0.25 |" in page
    assert "| dann | 2 | 1 | 2 |" in page and "| 9 |" not in page
    assert "commit abc; cores 2." in page
    assert "![oneDNN](figures/onednn.png)" in page and (folder / "figures" / "onednn.png").is_file()


def test_turns_take_the_median_of_each():
    calls = []
    found = measure.turns({"one": lambda: calls.append(1), "two": lambda: calls.append(2)}, rounds=2)
    assert calls == [1, 2, 1, 2, 1, 2] and set(found) == {"one", "two"}


RATIO = {"probe": "ratio", "depth": 512, "topics": 256, "rows": 81, "ours_ms": 2.0, "loop_ms": 6.0, "floor_ms": 1.0,
         "loop_over_ours": 3.0, "ours_over_floor": 2.0}  # fmt: skip


def many(depth, topics, rows):
    """A line whose time grows as J^1 d^2 n^0.5 and whose memory does not grow."""
    size = {"depth": depth, "topics": topics, "rows": rows}
    return {"probe": "many", **size, "ms": topics * depth**2 * rows**0.5, "extra_mb": 100}


def test_the_semantic_table_says_aims_growth_and_its_own_command(folder):
    write(folder / "semantic_step.jsonl", RATIO, *(many(**size) for size in semantic_step.MANY))
    bench.write_page()
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "| 3 | 2 | yes | 2 | 1.5 | no |" in page
    assert "`python benchmarks/semantic_step.py --rows 81`, `python benchmarks/semantic_step.py --many`" in page
    assert "time grows as J^1.00, d^2.00, n^0.50" in page and "memory as J^0.00" in page
    assert (folder / "figures" / "semantic_step_many.png").is_file()


def test_without_pytorch_there_is_a_line_without_the_loop():
    line = semantic_step.ratio_of({"ours": 3.0, "tensorflow_floor": 2.0})
    assert line == {"ours_ms": 3.0, "floor_ms": 2.0, "ours_over_floor": 1.5, "floor_target": 1.5, "floor_met": True}


def test_a_new_line_takes_the_place_of_the_old_one_and_the_others_stay_as_they_were(tmp_path):
    path = tmp_path / "lines.jsonl"
    old = [{"case": "a", "value": 1}, {"case": "b", "value": 1, "commit": "abc"}, {"case": "a", "value": 2}]
    write(path, *old)
    measure.renew("any", [{"case": "a", "value": 3}, {"case": "c", "value": 3}], ("case",), path)
    first, second, third = measure.read("any", path)
    assert (first["case"], first["value"]) == ("a", 3) and {"commit", "keras"} <= set(first)
    assert second == old[1] and third["case"] == "c"


def test_one_case_leaves_the_lines_of_the_others(tmp_path, monkeypatch):
    path = tmp_path / "lines.jsonl"
    write(path, {"case": "afn", "share": 0.5}, {"case": "shot", "share": 0.5})
    monkeypatch.setattr(evaluation_share, "measure", lambda name, values: {"case": name, "method": name, "share": 0.1})
    evaluation_share.main(["--only", "shot", "--out", str(path)])
    assert [(line["case"], line["share"]) for line in measure.read("any", path)] == [("afn", 0.5), ("shot", 0.1)]


def test_a_commit_that_is_none_is_refused(monkeypatch):
    with pytest.raises(SystemExit, match="Expected a commit of this repository; received 'nonsense'"):
        evaluation_share.compare("nonsense", ["glyphs"])


def test_the_command_of_a_step_is_the_one_that_made_it():
    line = {"backbone": "resnet50", "variant": "reference", "steps": 4}
    assert train_step.command_of(line) == " --backbone resnet50 --steps 4"
    line = {"backbone": "small_cnn", "variant": "paper", "steps": train_step.STEPS["small_cnn"], "jit_gain": 1.5}
    assert train_step.command_of(line) == " --backbone small_cnn --variant paper --jit"


def test_emulation_is_said_of_processors_that_emulate():
    line = {"mixed_bfloat16_ratio": 3.0, "mixed_float16_ratio": 2.0, "instructions": "avx2 fma"}
    assert "mixed_bfloat16 and mixed_float16: slower" in readings.emulated([line])
    assert "mixed_float16: slower" in readings.emulated([line | {"instructions": "avx512_bf16"}])
    assert "mixed_bfloat16:" not in readings.emulated([line | {"instructions": "avx512_bf16"}])
    assert readings.emulated([line | {"mixed_bfloat16_ratio": 0.5, "mixed_float16_ratio": 0.5}]) == ""
    both = readings.emulated([line, line | {"instructions": "avx2 avx512_bf16"}])
    assert "mixed_bfloat16 and mixed_float16: slower on a processor with avx2 fma," in both
    assert "mixed_float16: slower on a processor with avx2 avx512_bf16," in both


def test_reasons_are_made_from_the_lines():
    low = {"method": "dann", "ratio": 1.9, "target": 2.0, "bare_ratio": 1.5, "products_share": 0.5}
    assert "dann 50 %, a bare_ratio of 3.00 at most" in readings.limits([low, low | {"ratio": 2.1, "method": "cdan"}])
    assert "cdan" not in readings.limits([low, low | {"ratio": 2.1, "method": "cdan"}])
    often = {"case": "shot", "share": 0.7, "eval_interval": 9, "step_ms": 14.3, "evaluation_ms": 400.0,
             "parts_ms": {"scores": 100.0}}  # fmt: skip
    said = readings.frequent([often, often | {"case": "office", "share": 0.1, "eval_interval": 60}])
    assert "shot. Their recipes evaluate every 9 steps (the others: 60), a step takes 14 ms" in said and "25 % of it" in said
    assert readings.frequent([often | {"share": 0.1}]) == ""


def test_the_page_names_the_command_for_a_gpu(folder):
    bench.write_page()
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "`python benchmarks/gpu_step.py`" in page and "not yet run on a GPU" in page


def test_shares_of_the_ceiling_are_of_the_same_precision():
    ceilings = {("jax", "float32"): 50.0, ("jax", "bfloat16"): 400.0}
    line = {"backend": "jax", "precision": "mixed_bfloat16", "gflop": 2000.0, "isra_ms": 10.0}
    assert gpu_step.share_of(line, ceilings) == {"ceiling_share": 0.5}  # 2 TFLOP in 10 ms
    assert gpu_step.share_of(line | {"precision": "float32", "ours_ms": 400.0}, ceilings) == {"ceiling_share": 0.1}
    assert gpu_step.share_of({"backend": "jax", "precision": "float32", "tflops": 50.0}, ceilings) == {}
    assert gpu_step.share_of(line | {"precision": "mixed_float16"}, ceilings) == {}


def gpu_line(backend, **more):
    return {"kind": "step", "device": "Made GPU", "backend": backend, "precision": "float32", "rows": [36, 36, 9]} | more


def test_measured_under_one_backend_the_lines_of_the_other_stay(tmp_path, monkeypatch):
    """All lines of the device went, those of the other backend and of what failed this time too."""
    out, other = tmp_path / "gpu_step.jsonl", gpu_line("jax", isra_ms=1.0)
    write(out, other, gpu_line("torch", isra_ms=2.0), gpu_line("torch", precision="mixed_float16", isra_ms=3.0))
    monkeypatch.setattr(gpu_step, "alone", lambda backend, job, left: ([gpu_line(backend, isra_ms=9.0)] if job["kind"] == "semantic" else [], ""))
    monkeypatch.setattr(gpu_step, "backends_here", lambda: ["torch"])
    monkeypatch.setattr(sys, "argv", ["gpu_step.py", "--out", str(out)])
    gpu_step.main()
    lines = [json.loads(row) for row in out.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == other and [line["isra_ms"] for line in lines] == [1.0, 9.0, 3.0]
    assert {"commit", "keras"} <= set(lines[1])


def test_what_was_measured_is_kept_when_the_rest_is_broken_off(tmp_path, monkeypatch):
    def alone(backend, job, left):
        if job["kind"] == "step":
            raise KeyboardInterrupt
        return [gpu_line(backend, kind=job["kind"], tflops=1.0)], ""

    monkeypatch.setattr(gpu_step, "alone", alone)
    monkeypatch.setattr(gpu_step, "backends_here", lambda: ["jax", "torch"])
    monkeypatch.setattr(sys, "argv", ["gpu_step.py", "--out", str(tmp_path / "lines.jsonl")])
    with pytest.raises(KeyboardInterrupt):
        gpu_step.main()
    assert [line["kind"] for line in measure.read("", tmp_path / "lines.jsonl")] == ["product"] * 2 + ["semantic"] * 2


def test_measurements_that_failed_end_the_script_with_their_names(tmp_path, monkeypatch):
    """It ended as if all had been measured; what was is kept."""
    monkeypatch.setattr(gpu_step, "alone", lambda backend, job, left: ([gpu_line(backend, kind=job["kind"], tflops=1.0)],
                                                                       "too big" * (job.get("precision") == "mixed_float16")))  # fmt: skip
    monkeypatch.setattr(gpu_step, "backends_here", lambda: ["torch"])
    monkeypatch.setattr(sys, "argv", ["gpu_step.py", "--out", str(tmp_path / "lines.jsonl")])
    with pytest.raises(SystemExit, match="Not all was measured.* torch step mixed_float16$"):
        gpu_step.main()
    assert {line["kind"] for line in measure.read("", tmp_path / "lines.jsonl")} == {"product", "semantic", "step"}


@pytest.mark.parametrize("chosen", [None, "tensorflow"])
def test_without_a_backend_it_can_measure_it_says_so(monkeypatch, chosen):
    """It ended without a word."""
    monkeypatch.setattr(gpu_step.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    if chosen:
        monkeypatch.setenv("KERAS_BACKEND", chosen)
    monkeypatch.setattr(sys, "argv", ["gpu_step.py", "--quick"])
    with pytest.raises(SystemExit, match="Expected jax or torch to be installed; received"):
        gpu_step.main()


def test_lines_are_kept_where_tensorflow_is_not_installed(tmp_path, monkeypatch):
    import importlib.metadata as metadata

    known = metadata.version

    def version(name):
        if name == "tensorflow":
            raise metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(metadata, "version", version)
    measure.renew("", [{"kind": "step"}], ("kind",), tmp_path / "lines.jsonl")
    (line,) = measure.read("", tmp_path / "lines.jsonl")
    assert "tensorflow" not in line and line["keras"]


def test_a_script_ends_at_the_deadline_with_all_that_it_started(folder, monkeypatch, capsys):
    script = folder / "slow.py"
    script.write_text("import subprocess, sys\nprint('begun', flush=True)\nsubprocess.run(['sleep', '60'])\n")
    monkeypatch.setattr(bench, "__file__", str(folder / "bench.py"))
    started = time.monotonic()
    assert bench.run("slow", [], started + 3) is False and time.monotonic() - started < 30
    assert bench.run("slow", [], started) is False
    said = capsys.readouterr().out
    assert "begun" in said and "stopped, no time is left" in said and "left out: no time is left" in said


def test_figures_show_what_bars_are_judged_by(folder, monkeypatch):
    """The semantic step's bars had no line at their aims, and before and after had one colour."""
    drawn = {}
    monkeypatch.setattr(bench, "bars", lambda name, *found: drawn.setdefault(name, found) and None)
    bench.draw("semantic_step", [RATIO, many(**semantic_step.MANY[0])])  # the second is of another table
    names, (loop, floor), _ = drawn["semantic_step"]
    assert names == ["d 512, J 256, n 81"] and loop[0] == [3.0] and floor[0] == [2.0]
    assert loop[2] == semantic_step.AIMS["loop"] and "the aim, at least" in loop[1]
    assert floor[2] == semantic_step.AIMS["floor"] and "the aim, at most" in floor[1]
    line = {"case": "shot", "method": "shot", "dataset": "pacs", "task": "A-S", "evaluation_ms": 9.0, "commit": "old"}
    bench.draw("evaluation_cheaper", [line, line | {"commit": "new"}])
    names, _, colours = drawn["evaluation_cheaper"]
    assert [name.split()[-1] for name in names] == ["before", "after"] and colours == [bench.PALE, bench.BLUE]


def cost(method, isra, seconds, dataset="pacs_features"):
    return {"dataset": dataset, "method": method, "isra": isra, "s_per_1000": seconds, "compile_s": 1.0, "peak_memory_mb": 900}


def test_costs_stand_side_by_side_and_the_figure_keeps_to_one_dataset(folder):
    lines = [cost("dann", "off", 2.0), cost("dann", "reference", 3.5), cost("shot", "off", 1.0), cost("dann", "off", 9.0, "glyphs")]
    write(folder / "method_costs.jsonl", *lines)
    bench.write_page()
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "| pacs_features | dann | 2 | 3.5 | 1.5 |" in page and "| glyphs | dann | 9 |" in page
    assert "`python benchmarks/method_costs.py --dataset pacs_features`, `python benchmarks/method_costs.py --dataset glyphs`" in page
    assert (folder / "figures" / "method_costs.png").is_file()


def test_the_clock_of_costs_counts_steps_by_stage_and_evaluations_apart(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr(method_costs.time, "perf_counter", lambda: next(now))
    clock = method_costs.make_clock()
    clock.on_step(1, {"loss": 0.0})
    clock.on_step(2, {"loss": 0.0})
    clock.on_evaluation({"stage": "source"}, None)
    clock.on_step(3, {"loss": 0.0})
    assert clock.stages == {"source": [1.0, 2.0]} and clock.evaluations == [7.0] and clock.steps == [0.5]
