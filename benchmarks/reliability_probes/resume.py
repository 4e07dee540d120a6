"""Probes of training that is killed, resumed, disturbed or started twice."""

import json

from benchmarks.reliability_probes.running import finish, how_it_ended, said_or_nothing, start, train
from benchmarks.reliability_probes.training import BATCH, EPOCH, EPOCHS, ROWS, SEED, STEPS

KILL_AT = 2 * EPOCH + EPOCH // 2
NAN_AT = EPOCH + EPOCH // 2
SAVE_EVERY = 3
LONG, LONG_SAVES, SAMPLES = 20_000, 1_000, 100


def difference(one, two):
    """(largest |difference|, largest |weight|) of the weights of two runs."""
    import numpy as np

    with np.load(one / "final.npz") as first, np.load(two / "final.npz") as second:
        pairs = [(first[name], second[name]) for name in first.files]
    apart = max(float(np.abs(a.astype("float64") - b).max()) for a, b in pairs)
    return apart, max(float(np.abs(a).max()) for a, _ in pairs)


def killed(side, folder, **options):
    """A run that was killed; checks that it was."""
    ended = train(side, folder, **options, fault="kill", at=KILL_AT)
    assert ended.code == -9, ended
    return folder


def kill(side, folder, **options):
    """Difference of a killed and resumed run to the one that nobody disturbed, which is repeated for comparison."""
    whole, repeated = (train(side, folder / name, **options) for name in ("whole", "repeated"))
    again = train(side, killed(side, folder / "killed", **options), **options)
    assert whole.code == repeated.code == again.code == 0, (whole, repeated, again)
    apart, largest = difference(folder / "whole", folder / "killed")
    repetition, _ = difference(folder / "whole", folder / "repeated")
    figures = {"difference": apart, "largest_weight": largest, "repetition": repetition,
               "steps": again.values["iterations"], "parameters": again.values["parameters"],
               "killed_after": KILL_AT}  # fmt: skip
    same = "**0**, bit for bit" if apart == 0 else f"**{apart:.2g}** (weights up to {largest:.2g})"
    cell = f"{same}; killed after step {KILL_AT}, {figures['steps']} optimiser steps of {STEPS}"
    return figures | {"cell": f"{cell}; undisturbed and repeated: {repetition:.2g}"}


def shuffle(side, folder):
    """`kill` for each way to shuffle, and how many of the epochs' orders differ."""
    names = {"fit": "`fit(shuffle=True)` on arrays", "dataset": "`Dataset.shuffle(seed=…)`"}
    ways = names if side == "stock" else {"fit": ""}
    figures = {way: kill(side, folder / way, shuffle=way) | {"orders": orders(side, way)} for way in ways}
    parts = []
    for way, found in figures.items():
        title = f"{names[way]}: " if side == "stock" else ""
        parts.append(f"{title}{found.pop('cell')}; different orders in {EPOCHS} epochs: {found['orders']}")
    return figures | {"cell": ". ".join(parts)}


def orders(side, way):
    """Number of different orders that the rows come in, over all epochs."""
    from tests.training import small_task

    if side == "ours":
        from isra_keras.data.pairs import DomainPairs

        batches = DomainPairs(small_task.features_task(rows=ROWS), BATCH, SEED).dataset(0, STEPS)
        seen = [batch["source"]["indices"].numpy().tolist() for batch in batches]
        return len({str(seen[first : first + EPOCH]) for first in range(0, STEPS, EPOCH)})
    import keras
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(SEED)
    rows, seen = np.arange(ROWS, dtype="float32"), []

    class Watched(keras.layers.Layer):
        def call(self, inputs):
            tf.py_function(lambda values: seen.extend(values.numpy().ravel().tolist()), [inputs], [])
            return inputs

    model = keras.Sequential([keras.Input((1,)), Watched(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    if way == "fit":
        model.fit(rows[:, None], rows, BATCH, EPOCHS, verbose=0)
    else:
        data = tf.data.Dataset.from_tensor_slices((rows[:, None], rows)).shuffle(ROWS, seed=SEED).batch(BATCH)
        model.fit(data, epochs=EPOCHS, verbose=0)
    return len({tuple(seen[first : first + ROWS]) for first in range(0, EPOCHS * ROWS, ROWS)})


def asked(side, folder):
    """What SIGTERM in the middle of an epoch costs: steps that are done again."""
    train(side, folder / "whole")
    ended = train(side, folder / "asked", fault="ask", at=KILL_AT)
    again = train(side, folder / "asked")
    assert again.code == 0, again
    lost, (apart, _) = again.values["steps_here"] - (STEPS - KILL_AT), difference(folder / "whole", folder / "asked")
    cell = (f"{how_it_ended(ended.code)}, {said_or_nothing(ended.said)}; resumed: **{lost}** steps done again, "
            f"difference to the undisturbed run {apart:.2g}")  # fmt: skip
    return {"code": ended.code, "said": ended.said, "again": lost, "difference": apart, "cell": cell}


def long(side, folder):
    """Memory, processor time and open files over many steps, the first quarter left out."""
    import numpy as np
    from scipy.stats import linregress

    every = LONG // SAMPLES
    ended = train(side, folder, timeout=1200, epochs=LONG // EPOCH, save_freq=LONG_SAVES, fault="watch", at=every)
    assert ended.code == 0, ended
    step, memory, seconds, handles = np.asarray(ended.values["samples"])[SAMPLES // 4 :].T
    line, half = linregress(step / 1000, memory), len(step) // 2
    ratio = (seconds[-1] - seconds[half]) / (seconds[half] - seconds[0]) * half / (len(step) - 1 - half)
    figures = {"steps": LONG, "mb_per_1000_steps": round(line.slope, 3), "error": round(line.stderr, 3),
               "time_second_half_to_first": round(ratio, 3), "handles": [int(handles[0]), int(handles[-1])]}  # fmt: skip
    cell = (f"memory **{line.slope:+.2f} ± {line.stderr:.2f} MB** per 1,000 steps, processor time of the second half "
            f"to the first {ratio:.2f}, open files {handles[0]:.0f} → {handles[-1]:.0f}")  # fmt: skip
    return figures | {"cell": cell}


def save_freq(side, folder):
    """Optimiser steps of a killed and resumed run whose checkpoints do not fall on the ends of epochs."""
    options = {"save_freq": SAVE_EVERY}
    again = train(side, killed(side, folder / "killed", **options), **options)
    assert again.code == 0, again
    steps = again.values["iterations"]
    how = f"`BackupAndRestore(save_freq={SAVE_EVERY})`" if side == "stock" else f"`eval_interval={SAVE_EVERY}`"
    return {"steps": steps, "wanted": STEPS, "cell": f"{how}: **{steps}** where {STEPS} are wanted"}


def learning_rate(side, folder):
    """Whether a changed learning rate is noticed."""
    old, new = 0.01, 0.05
    ended = train(side, killed(side, folder / "run", learning_rate=old), learning_rate=new)
    used = ended.values.get("learning_rate")
    what = f"refused, {how_it_ended(ended.code)}" if ended.code else f"trained on with {used:g}, {new:g} was asked for"
    cell = f"{what}: {said_or_nothing(ended.said)}"
    return {"old": old, "new": new, "used": used, "code": ended.code, "said": ended.said, "cell": cell}


def two_runs(side, folder):
    """The same run started a second time while the first is in its second epoch."""
    out = folder / "run"
    first = start(side, out, {"fault": "wait", "at": EPOCH + EPOCH // 2})
    try:
        assert any("waiting" in line for line in first.stdout)
        second = train(side, out)
        (folder / "go").touch()
        ended = finish(first, out)
    finally:
        first.kill()
    here = second.values.get("steps_here", 0)
    figures = {"first_code": ended.code, "second_code": second.code, "second_steps": here, "wanted": STEPS,
               "second_said": second.said, "first_said": ended.said}  # fmt: skip
    if second.code:
        text = f"the second is refused, {how_it_ended(second.code)}: {said_or_nothing(second.said)}"
    else:
        text = (f"the second takes over the checkpoint of the first, does {here} of {STEPS} steps and writes the same "
                f"files: {said_or_nothing(second.said)}")  # fmt: skip
    return figures | {"cell": f"{text}; the first ends with {how_it_ended(ended.code)}"}


def not_a_number(side, folder):
    """What is kept and what is named when the loss becomes NaN."""
    return (nan_stock if side == "stock" else nan_ours)(folder)


def nan_stock(folder):
    """Three ways that stock Keras has: nothing, `TerminateOnNaN()`, `TerminateOnNaN(raise_error=True)`."""
    names = {None: "alone", "stop": "`TerminateOnNaN()`", "raise": "`TerminateOnNaN(raise_error=True)`"}
    figures, parts = {}, []
    for way, name in names.items():
        out = folder / str(way)
        ended = train("stock", out, fault="nan", at=NAN_AT, on_nan=way)
        backup = finite_h5(out / "backup" / "latest.weights.h5")
        kept = {"backup": backup, "model.keras": finite_model(out / "model.keras")}
        figures[str(way)] = {"code": ended.code, "said": ended.said, "kept": kept}
        state = ", ".join(f"{part} {what}" for part, what in kept.items())
        parts.append(f"{name}: {how_it_ended(ended.code)}, {said_or_nothing(ended.said)}, {state}")
    return figures | {"cell": f"NaN at step {NAN_AT}. " + "; ".join(parts)}


def nan_ours(folder):
    """The run's own message, checkpoints and description of the batch."""
    import numpy as np

    ended = train("ours", folder / "run", fault="nan", at=NAN_AT)
    newest = sorted((folder / "run" / "checkpoints").glob("step_*.npz"))[-1]
    with np.load(newest) as arrays:
        values = [arrays[name] for name in arrays.files if arrays[name].dtype.kind == "f"]
    state = "finite" if all(np.isfinite(value).all() for value in values) else "NaN"
    batch = json.loads((folder / "run" / "bad_batch.json").read_text())
    cell = (f"NaN at step {NAN_AT}. The run: {how_it_ended(ended.code)}, {said_or_nothing(ended.said)}; newest "
            f"checkpoint {newest.name} {state}; bad_batch.json names step {batch['step']}, "
            f"{', '.join(batch['terms'])} and {len(batch['source'])} source samples")  # fmt: skip
    return {"code": ended.code, "said": ended.said, "kept": {newest.name: state}, "step": batch["step"], "cell": cell}


def finite_h5(path):
    """ "missing", "finite" or "NaN" of a weights file."""
    import h5py
    import numpy as np

    if not path.is_file():
        return "missing"
    values = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: values.append(item[()]) if hasattr(item, "dtype") else None)
    return "finite" if all(np.isfinite(value).all() for value in values if value.dtype.kind == "f") else "NaN"


def finite_model(path):
    """The same of a .keras file."""
    import keras
    import numpy as np

    if not path.is_file():
        return "missing"
    weights = keras.models.load_model(path, compile=False).get_weights()
    return "finite" if all(np.isfinite(value).all() for value in weights) else "NaN"


def disk_full(side, folder):
    """What a full disk during a checkpoint leaves, and what resuming comes to."""
    train(side, folder / "whole")
    ways = {"default": {}, "`double_checkpoint=True`": {"double": True}} if side == "stock" else {"": {}}
    figures, parts = {}, []
    for name, options in ways.items():
        out = folder / f"run{len(figures)}"
        ended = train(side, out, **options, fault="full", at=EPOCH + 1)
        model = f", model.keras {finite_model(out / 'model.keras')}" if side == "stock" else ""
        again = train(side, out, **options)
        if again.code:
            after = f"resume fails, {how_it_ended(again.code)}: {said_or_nothing(again.said)}"
        else:
            apart, _ = difference(folder / "whole", out)
            steps = again.values["iterations"]
            after = f"resume ends after {steps} steps of {STEPS}, difference to the whole run {apart:.2g}"
        figures[name] = {"code": ended.code, "said": ended.said, "resume": again.code, "after": after}
        title = f"{name}: " if name else ""
        parts.append(f"{title}{how_it_ended(ended.code)}, {said_or_nothing(ended.said)}{model}; {after}")
    return figures | {"cell": ". ".join(parts)}
