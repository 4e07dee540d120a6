"""benchmarks/profiles.py: what is read from a profile, counted in a graph, predicted, and said."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import gains  # noqa: E402
import gains_running  # noqa: E402
import profiles  # noqa: E402
import profiling  # noqa: E402
import readings  # noqa: E402
from profiling import IDLE, PRODUCTS  # noqa: E402

MS = 10**9  # picoseconds


def test_instants_are_shared_and_the_rest_is_idle():
    first = [(1 * MS, 5 * MS, "outer", "a:Outer"), (2 * MS, 3 * MS, "inner", "b:Inner")]
    second = [(4 * MS, 8 * MS, "other", "c:Other"), (8 * MS, 8 * MS, "other", "d:Nothing")]
    call = profiling.split([first, second], 0, 10 * MS)
    assert call["a:Outer", 0] == ("outer", pytest.approx(2.5), pytest.approx(1.0))  # without inner, half of 4 to 5
    assert call["b:Inner", 0] == ("inner", pytest.approx(1.0), 0.0)
    assert call["c:Other", 0] == ("other", pytest.approx(3.5), 0.0)
    assert call["", 0] == (IDLE, 0.0, pytest.approx(2.0))
    found = profiling.profile_of(call)
    assert found.ms == pytest.approx(10.0) and found.parts[IDLE] == pytest.approx(3.0)
    assert found.launches == {"outer": 1, "inner": 1, "other": 1}


def test_the_shortest_of_each_operation_counts_and_strays_do_not():
    one = {("a", 0): ("x", 1.0, 5.0), ("b", 0): ("x", 9.0, 0.0)}
    two = {("a", 0): ("x", 3.0, 1.0), ("b", 0): ("x", 2.0, 0.5)}
    three = two | {("stray", 0): ("x", 100.0, 0.0)}
    assert profiling.quickest([one, two, three]) == {("a", 0): ("x", 1.0, 1.0), ("b", 0): ("x", 2.0, 0.0)}


def test_eager_kernels_have_the_kind_of_their_operation_and_functions_none():
    kernel = profiling.EAGER_KERNEL
    thread = [(0, 9, "EagerLocalExecute: MatMul"), (1, 8, kernel), (10, 30, "EagerLocalExecute: __inference_step_7"),
              (11, 29, kernel), (12, 20, "while/einsum:_MklEinsum"), (21, 22, "add:AddV2"), (23, 24, "Pool::Record")]  # fmt: skip
    assert [one[:3] for one in profiling.operations_of(thread)] == [(1, 8, PRODUCTS), (12, 20, PRODUCTS), (21, 22, "elementwise")]
    assert profiling.kind_of("_MklTranspose") == "copies" and profiling.kind_of("Sum") == "reductions"
    assert profiling.kind_of("_MklNativeConv2D") == PRODUCTS and profiling.kind_of("DepthwiseConv2dNative") == "reductions"


def test_work_of_a_graph_counts_flop_bytes_and_turns_of_a_loop():
    kernel = tf.ones((3, 5, 7))

    @tf.function(autograph=False)
    def step(x):
        tf.exp(x)  # nobody needs it
        y = tf.matmul(tf.broadcast_to(x[None], (3, 4, 5)), kernel)
        return tf.while_loop(lambda i, _: i < 6, lambda i, z: (i + 1, z * 2.0), (0, y))[1]

    work = profiling.work_of(step, tf.ones((4, 5)), trips=6)
    assert work.launches[True] == 1 and work.amount[True] == 2 * 3 * 4 * 5 * 7
    once = profiling.work_of(step, tf.ones((4, 5)), trips=1)
    product_bytes = 4 * 3 * 4 * 7
    turn = 2 * product_bytes + 4 + 2 * 3 * 4  # z * 2.0; i + 1 and the loop's own counter
    assert work.amount[False] - once.amount[False] == 5 * turn


def test_a_prediction_scales_each_part_by_its_count():
    before, after = profiling.Work(), profiling.Work()
    before.add(True, 100.0, 10), before.add(False, 50.0, 40)
    after.add(True, 1000.0), after.add(False, 400.0)
    profile = profiling.Profile(40.0, {PRODUCTS: 20.0, "elementwise": 10.0, "copies": 5.0, IDLE: 5.0},
                                {PRODUCTS: 10, "elementwise": 30, "copies": 10}, 0.1)  # fmt: skip
    expected = gains.scaled(profile, before, after)
    assert expected[PRODUCTS] == pytest.approx(0.1 + 19.0)  # ten starts become one, as many FLOP
    assert expected["other operations"] == pytest.approx(4.0 / 40 + 11.0 * 400 / 2000)
    assert expected[IDLE] == pytest.approx(5.0 * 2 / 50)


def test_what_is_alive_at_the_peak():
    plane = FakePlane([("MemoryAllocation", 1, 10, 100), ("MemoryAllocation", 2, 11, 50), ("MemoryDeallocation", 3, 10, 100),
                       ("MemoryDeallocation", 3, 77, 5), ("MemoryAllocation", 4, 12, 60)])  # fmt: skip
    assert profiling.alive_at_peak(plane) == {10: 100, 11: 50}


def test_both_ways_compute_the_same():
    for context in (gains.topic_loop(8, 3), gains.tape(8, 3), gains.turned(8, 3), gains.class_loop(3, 8, 4)):
        with context as pair:
            assert pair.more["difference"] < 1e-5
            assert np.isclose(pair.before(), pair.after(), rtol=1e-5)
    assert gains.difference([tf.ones(2)], [tf.constant([1.0, 2.0])]) == pytest.approx(1.0)


def test_a_profile_of_a_real_call_has_its_products():
    x = tf.ones((300, 300))
    step = tf.function(lambda: tf.reduce_sum(tf.matmul(x, x) + tf.random.uniform(())))
    found = profiling.profiled(lambda: step().numpy(), calls=2)
    assert found.launches[PRODUCTS] == 1 and 0 < found.parts[PRODUCTS] <= found.ms


class Said:
    """A `Pair` whose profiles are made up."""

    clock = staticmethod(iter(range(1000)).__next__)
    more = {}

    def __init__(self):
        self.asked = []

    def before(self):
        self.asked.append("before")

    def after(self):
        self.asked.append("after")

    def profile(self, function):
        self.asked.append(f"profile {function.__name__}")
        return profiling.Profile(8.0, {PRODUCTS: 6.0, IDLE: 2.0}, {PRODUCTS: 3})

    def predict(self, profile):
        self.asked.append("predict")
        return {PRODUCTS: 4.0}


def test_the_prediction_stands_before_the_gain_is_timed():
    pair = Said()
    line = profiles.times(pair, 1)
    assert pair.asked[:2] == ["profile before", "predict"] and pair.asked[-1] == "profile after"
    assert line["predicted_gain"] == 2.0 and line["gain"] == 1.0 and not line["met"]
    assert line["predicted_ms"] == line["before_ms"] / 2


LINE = {"probe": "time", "gain_of": "one, d 2", "before_ms": 8.0, "predicted_ms": 4.0, "after_ms": 10.0, "predicted_gain": 2.0,
        "gain": 0.8, "met": False, "before": {PRODUCTS: 8.0}, "expected": {PRODUCTS: 3.0, "other operations": 1.0},
        "after": {PRODUCTS: 4.0, "copies": 5.0, "elementwise": 1.0}, "reason": "R.", "formula": "F."}  # fmt: skip


def test_a_miss_is_said_with_the_part_that_missed():
    said = readings.missed([LINE, LINE | {"gain_of": "two", "met": True, "gain": 2.0}])
    assert "one, d 2 (predicted 2, found 0.8; other operations: 1 ms expected, 6 found)" in said
    assert "No gain in time: one, d 2." in said and "two" not in said
    assert "copies: 0 ms expected, 5 found" in readings.where(LINE | {"expected": {PRODUCTS: 3.0, IDLE: 0.0}})
    assert readings.missed([LINE | {"met": True}]) == "All predictions are met."
    assert profiles.near(1.0, 1.2) and not profiles.near(1.0, 1.3) and not profiles.near(1.3, 1.0)


def test_the_figure_takes_time_and_memory(tmp_path):
    memory = {"probe": "memory", "gain_of": "m", "before_mb": 9.0, "predicted_mb": 3.0, "after_mb": 3.0, "gain": 3.0,
              "predicted_gain": 3.0}  # fmt: skip
    profiles.draw([LINE, memory], tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


class FakePlane:
    """A plane of one thread's memory events: (name, when, address, bytes)."""

    def __init__(self, rows):
        class Of:
            def __init__(self, **values):
                self.__dict__ |= values

        names = {name: number for number, name in enumerate(dict.fromkeys(row[0] for row in rows))}
        self.event_metadata = {number: Of(name=name) for name, number in names.items()}
        self.stat_metadata = {0: Of(name="addr"), 1: Of(name="requested_bytes")}
        stat = lambda key, value: Of(metadata_id=key, int64_value=value, uint64_value=0)  # noqa: E731
        events = [Of(metadata_id=names[name], offset_ps=when, duration_ps=0, stats=[stat(0, address), stat(1, size)])
                  for name, when, address, size in rows]  # fmt: skip
        self.lines = [Of(timestamp_ns=0, events=events)]


def test_ways_with_a_middle_batch_make_a_graph_for_each_size_and_one_for_all():
    with gains_running.open_middle(steps=1, largest=2) as pair:
        before, after = pair.profile(pair.before), pair.profile(pair.after)
    assert (before.launches, after.launches) == ({"graphs": 2}, {"graphs": 1})
    assert pair.predict(before)["making graphs"] == before.parts["making graphs"] / 2


def test_a_child_counts_its_steps_products_though_its_graph_leaves_the_middle_batch_open():
    child = gains_running.Child("1", "ba3us + ISRA, features")
    try:
        assert child.ask("flop") > 1e8
    finally:
        child.end()
