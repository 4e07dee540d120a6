"""Probes of model files and checkpoints that are written or read badly."""

import json
import random
import resource
import shutil

from benchmarks.reliability_probes.resume import killed
from benchmarks.reliability_probes.running import error_text, how_it_ended, quote, said_or_nothing, train
from benchmarks.reliability_probes.training import DEFAULTS, stock_model

FLIPS = 20
LIMIT = 100_000


def equal(first, second):
    """Whether two lists of arrays are the same."""
    import numpy as np

    return len(first) == len(second) and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second))


def overwrite(side, folder):
    """One compiled Keras model, saved twice; the second time the file may not grow beyond `LIMIT` bytes."""
    import keras

    from isra_keras.training.results import save_network

    path, model = folder / "model.keras", stock_model(DEFAULTS)
    save = model.save if side == "stock" else lambda target: save_network(model, target)
    save(path)
    before, weights = path.stat().st_size, model.get_weights()
    model.set_weights([value + 1 for value in weights])
    limits, words = resource.getrlimit(resource.RLIMIT_FSIZE), "no error"
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, limits[1]))
    try:
        save(path)
    except Exception as error:
        words = error_text(error, folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    after = path.stat().st_size if path.exists() else 0
    try:
        old = equal(keras.models.load_model(path, compile=False).get_weights(), weights)
        loads = "the old model loads" if old else "another model loads"
    except Exception as error:
        loads = f"nothing loads: “{error_text(error, folder)}”"
    left = sorted(item.name for item in folder.iterdir() if item != path)
    others = f"; left beside it: {', '.join(left)}" if left else ""
    cell = f"**{before:,} → {after:,} bytes**; {loads}{others}; said: “{words}”"
    return {"before": before, "after": after, "loads": loads, "said": words, "cell": cell}


def outcomes(content, path, load, expected):
    """{"noticed", "same", "other weights"}: counts over `FLIPS` seeded flips of one bit in a file's content."""
    counts, draw = {"noticed": 0, "same": 0, "other weights": 0}, random.Random(0)
    for place in sorted(draw.randrange(len(content)) for _ in range(FLIPS)):
        changed = bytearray(content)
        changed[place] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            found = load()
        except Exception:
            counts["noticed"] += 1
            continue
        counts["same" if equal(found, expected) else "other weights"] += 1
    path.write_bytes(content)
    return counts


def told(counts):
    """Words for `outcomes`."""
    return (f"of {FLIPS} flipped bits {counts['noticed']} are noticed, {counts['same']} change nothing, "
            f"**{counts['other weights']}** load other weights in silence")  # fmt: skip


def damaged_model(side, folder):
    """model.keras of a run: cut in half, then with flipped bits."""
    import keras

    from isra_keras.run_folder import load_run

    out = folder / "run"
    ended = train(side, out)
    assert ended.code == 0, ended
    path = out / "model.keras"

    def load():
        network = keras.models.load_model(path, compile=False) if side == "stock" else load_run(out)[0]
        return network.get_weights()

    content, expected, words = path.read_bytes(), load(), "loads"
    path.write_bytes(content[: len(content) // 2])
    try:
        load()
    except Exception as error:
        words = error_text(error, out)
    counts = outcomes(content, path, load, expected)
    return {"said": words, "flips": counts, "cell": f"truncated: “{words}”; {told(counts)}"}


def code(side, folder):
    """A model file with a Lambda layer that makes a folder when it is called."""
    import keras

    path = folder / "model.keras"
    inputs, made = keras.Input((4,)), str(folder / "made")
    outputs = keras.layers.Lambda(lambda x: (__import__("os").makedirs(made, exist_ok=True), x)[1], output_shape=(4,))
    keras.Model(inputs, {"logits": outputs(inputs)}).save(path)
    shutil.rmtree(made, ignore_errors=True)
    (folder / "model.json").write_text(json.dumps({"class_names": ["a", "b", "c", "d"]}))
    from isra_keras.run_folder import load_run

    try:
        keras.models.load_model(path) if side == "stock" else load_run(folder)
        words = "loads"
    except Exception as error:
        words = f"refused: “{error_text(error, folder)}”"
    ran = (folder / "made").exists()
    return {"ran": ran, "said": words, "cell": f"**{'executed' if ran else 'not executed'}**; {words}"}


def damaged_checkpoint(side, folder):
    """The newest checkpoint of a killed run: cut in half and resumed, then with flipped bits."""
    return (checkpoint_stock if side == "stock" else checkpoint_ours)(folder)


def checkpoint_stock(folder):
    figures, parts = {}, []
    for name, options in (("default", {}), ("`double_checkpoint=True`", {"double": True})):
        out = killed("stock", folder / f"run{len(figures)}", **options)
        path = out / "backup" / "latest.weights.h5"
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        again = train("stock", out, **options)
        steps = again.values.get("steps_here")
        what = f"goes back to the one before and does {steps} steps" if again.code == 0 else how_it_ended(again.code)
        figures[name] = {"code": again.code, "said": again.said, "steps_here": steps}
        parts.append(f"truncated, {name}: {what}, {said_or_nothing(again.said)}")
    model = stock_model(DEFAULTS)
    model.optimizer.build(model.trainable_variables)
    path = folder / "flipped.weights.h5"
    path.write_bytes(content)

    def load():
        model.load_weights(path)
        return [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]

    figures["flips"] = outcomes(content, path, load, load())
    return figures | {"cell": "; ".join([*parts, told(figures["flips"])])}


def checkpoint_ours(folder):
    from isra_keras.training.checkpoint import CheckpointFolder

    out = killed("ours", folder / "run")
    shutil.copytree(out, folder / "flipped")
    checkpoints = CheckpointFolder(folder / "flipped" / "checkpoints")
    path = sorted(checkpoints.folder.glob("step_*.npz"))[-1]
    content, newest, warnings = path.read_bytes(), checkpoints.load_newest(), []

    def load():
        warnings.clear()
        step, arrays, _ = checkpoints.load_newest(warnings.append)
        if warnings and step < newest[0]:
            raise ValueError(warnings[0])
        return list(arrays.values())

    counts = outcomes(content, path, load, list(newest[1].values()))
    broken = out / "checkpoints" / path.name
    broken.write_bytes(content[: len(content) // 2])
    again = train("ours", out)
    steps = again.values.get("steps_here")
    what = f"goes back to the one before and does {steps} steps" if again.code == 0 else how_it_ended(again.code)
    cell = f"truncated: {what}, {said_or_nothing(quote(again.said, out))}; {told(counts)}"
    return {"code": again.code, "said": again.said, "steps_here": steps, "flips": counts, "cell": cell}
