"""Gains of `profiles.py` that are another way to run the same step or to bring its images.

No command of its own, but for the processes that it starts with another setting of oneDNN.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from gains import Pair
from measure import ROOT
from profiling import DECODING, IDLE, PRODUCTS, Profile, one_thread, profiled, traced, work_of


@contextmanager
def compiled():
    """BA3US + ISRA on features: a step run as it is written, operation by operation, against one graph."""
    import tensorflow as tf
    import train_step

    setting = train_step.SETTINGS["features"]
    batch = tf.nest.map_structure(tf.constant, train_step.make_batch(setting))
    model = train_step.make_model("features", "reference", True)

    def predict(profile):
        return {kind: 0.0 if kind == IDLE else ms for kind, ms in profile.parts.items()}

    yield Pair(lambda: float(model.train_step(batch)["loss"]), lambda: float(model.train_on(batch)["loss"]), predict)


@contextmanager
def open_middle(steps=50, largest=9):
    """Training with a middle batch that shrinks: a graph for each of its sizes against one for all of them."""
    import tensorflow as tf
    import train_step

    from isra_keras.training import steps as forms
    from isra_keras.training.steps import tensorflow_steps

    setting = train_step.SETTINGS["features"]
    whole = tf.nest.map_structure(tf.constant, train_step.make_batch(setting))
    batches = [whole | {"middle": {name: value[:rows] for name, value in whole["middle"].items()}}
               for rows in range(largest, 0, -1)]  # fmt: skip
    model = train_step.make_model("features", "reference", True)
    compile_step, spent = tensorflow_steps.compile_step, {}

    def run(form_of, compiler):
        spent.update(graphs=0, making=0.0)
        model._compiled_steps.clear()
        tensorflow_steps.form_of, tensorflow_steps.compile_step = form_of, compiler
        try:
            for batch in batches:
                for _ in range(steps):
                    known, started = len(model._compiled_steps), time.process_time()
                    float(model.train_on(batch)["loss"])
                    if len(model._compiled_steps) > known:
                        spent["graphs"] += 1
                        spent["making"] += time.process_time() - started
        finally:
            tensorflow_steps.form_of, tensorflow_steps.compile_step = form_of_now, compile_step

    def compile_any(model, network_training, form):
        return tf.function(lambda batch: model.train_step(batch, network_training), autograph=False)

    def profile(function):
        started = time.process_time()
        function()
        ms, making = 1e3 * (time.process_time() - started), 1e3 * spent["making"]
        return Profile(ms, {"making graphs": making, "steps": ms - making}, {"graphs": spent["graphs"]})

    def predict(found):
        return found.parts | {"making graphs": found.parts["making graphs"] / found.launches["graphs"]}

    form_of_now = tensorflow_steps.form_of
    yield Pair(lambda: run(forms.sizes_of, compile_any), lambda: run(form_of_now, compile_step), predict, profile=profile)


@contextmanager
def onednn(case="ba3us + ISRA, features"):
    """A step without oneDNN against one with it, in processes of their own."""
    sides = {value: Child(value, case) for value in ("0", "1")}

    def predict(profile):
        rate = bare_rate()
        return profile.parts | {PRODUCTS: min(profile.parts[PRODUCTS], sides["0"].ask("flop") / rate)}

    try:
        yield Pair(sides["0"], sides["1"], predict, profile=lambda side: Profile(**side.ask("profile")),
                   clock=lambda: sum(side.ask("clock") for side in sides.values()))  # fmt: skip
    finally:
        for side in sides.values():
            side.end()


def bare_rate(size=1024, times=9):
    """FLOP that NumPy's product of two large matrices has in a millisecond of one core."""
    from threadpoolctl import threadpool_limits

    one = np.random.default_rng(0).normal(size=(size, size)).astype("float32")
    with threadpool_limits(1):
        one @ one
        started = time.process_time()
        for _ in range(times):
            one @ one
        return times * 2 * size**3 / (1e3 * (time.process_time() - started))


class Child:
    """A process with a setting of oneDNN that takes steps as asked.

    Args:
        value: of TF_ENABLE_ONEDNN_OPTS.
        case: of `onednn.CASES`.
    """

    def __init__(self, value, case):
        environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": value, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen([sys.executable, str(Path(__file__).resolve()), case], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)  # fmt: skip

    def __call__(self):
        return self.ask("step")

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def answer(case):
    """Child: "step", "clock", "profile" or "flop", until its input ends."""
    from onednn import CASES, make_model

    from isra_keras.training.steps import sizes_of
    from isra_keras.training.steps.tensorflow_steps import compile_step

    one_thread()
    out, sys.stdout = sys.stdout, sys.stderr  # nobody else may write between the answers
    model, batch = make_model(*CASES[case][:3])

    def step():
        return float(model.train_on(batch)["loss"])

    for row in sys.stdin:
        what = row.strip()
        if what == "step":
            found = step()
        elif what == "clock":
            found = time.process_time()
        elif what == "profile":
            found = profiled(step).__dict__
        else:
            found = work_of(compile_step(model, True, sizes_of(model, batch)), batch).amount[True]  # all sizes known
        print(json.dumps(found), file=out, flush=True)


@contextmanager
def cache(folder, steps):
    """Batches of images: every JPEG decoded anew against the decoded cache, filled before."""
    import input_pipeline

    from isra_keras.data import image_store
    from isra_keras.data.pairs import DomainPairs, own_threads

    task = input_pipeline.small_task(folder)
    options = (input_pipeline.BATCH, 0, input_pipeline.SIZE, input_pipeline.CROP)
    kept = DomainPairs(task, *options, cache=True)
    for _ in own_threads(kept.dataset(0, 2 * max(kept.sizes.values()) // input_pipeline.BATCH)):
        pass  # every image once
    anew = DomainPairs(input_pipeline.stranger(task), *options, cache=False)

    def drained(pairs):
        data = own_threads(pairs.dataset(0, steps), 1)
        return lambda: sum(1 for _ in data)

    def profile(function):
        with traced(image_store, "decode_resized", "Decode"):
            return profiled(function, calls=5)

    def predict(found):
        return {kind: ms for kind, ms in found.parts.items() if kind != DECODING}

    yield Pair(drained(anew), drained(kept), predict, profile=profile)


@contextmanager
def ahead(folder, steps, side=32):
    """Training on files: a batch is read when it is wanted, against batches read ahead in threads of their own."""
    import input_pipeline

    from isra_keras.backbones import build_network
    from isra_keras.data.pairs import DomainPairs, own_threads
    from isra_keras.methods import get_method
    from isra_keras.model import AdaptationModel

    task = input_pipeline.small_task(folder)
    pairs = DomainPairs(input_pipeline.stranger(task), input_pipeline.BATCH, 0, side + 8, side, cache=False)
    network = build_network("small_cnn", len(task.class_names), 128, (side, side, 3), "none")
    model = AdaptationModel(network, get_method("dann")(), max_iterations=1000)
    model.compile()
    spent = {"read": [0.0, 0.0], "step": [0.0, 0.0]}  # seconds, seconds of processors

    def before():
        for part in spent.values():
            part[:] = 0.0, 0.0
        for number in range(steps):
            batch = measured("read", lambda: pairs.batch(number))
            measured("step", lambda: float(model.train_on(batch)["loss"]))

    def measured(part, function):
        wall, processors = time.perf_counter(), time.process_time()
        result = function()
        spent[part][0] += time.perf_counter() - wall
        spent[part][1] += time.process_time() - processors
        return result

    data = own_threads(pairs.dataset(0, steps))

    def after():
        for batch in data:
            float(model.train_on(batch)["loss"])

    def predict(profile):
        (reading, busy_reading), (training, busy_training) = spent.values()
        whole, cores = reading + training, os.cpu_count() or 1
        hidden = max(reading / steps + training, (busy_reading + busy_training) / cores) / whole
        return {"the longer of both": profile.ms * min(hidden, 1.0)}

    yield Pair(before, after, predict, profile=lambda function: profiled(function, calls=2, threads=True), clock=time.perf_counter)


if __name__ == "__main__":
    answer(sys.argv[1])
