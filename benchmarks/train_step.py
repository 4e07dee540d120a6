"""What ISRA adds to a training step of BA3US, what XLA gains, and the step's memory.

    python benchmarks/train_step.py --backbone resnet50           224 px, 36 + 36 + 9 images, d = 512, J = 256
    python benchmarks/train_step.py --backbone small_cnn --jit    32 px, d = 128, J = 32; XLA's step beside the others
    python benchmarks/train_step.py --backbone features --jit     1,280 features, d = 256, J = 64

The models take turns, step by step, on the same random inputs in one process, so that a noisy machine slows all
alike; the share is the ratio of the medians. Prints a table and puts a line in the place of the earlier one of the same
backbone and variant in benchmarks/results/train_step.jsonl.
"""

import argparse
import statistics
import time

from measure import peak_memory, renew

SETTINGS = {
    "resnet50": {"side": 224, "feature_dim": 512, "num_topics": 256, "receptor_width": 128, "classes": 65},
    "mobilenet_v2": {"side": 224, "feature_dim": 256, "num_topics": 64, "receptor_width": 128, "classes": 31},
    "small_cnn": {"side": 32, "feature_dim": 128, "num_topics": 32, "receptor_width": 64, "classes": 36},
    "features": {"side": None, "feature_dim": 256, "num_topics": 64, "receptor_width": 128, "classes": 31},
}
STEPS = {"resnet50": 5, "mobilenet_v2": 5, "small_cnn": 60, "features": 60}
ROWS = {"source": 36, "target": 36, "middle": 9}
INPUTS = 1280
"""Features of an image where there is no backbone (`side` None)."""
PLAIN, ISRA, XLA = "BA3US", "ISRA + BA3US", "with jit_compile"
KEYS = ("backbone", "variant")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", choices=tuple(SETTINGS), default="resnet50")
    parser.add_argument("--steps", type=int, help=f"by default {STEPS}")
    parser.add_argument("--variant", default="reference")
    parser.add_argument("--jit", action="store_true", help="ISRA's step with jit_compile=True as well")
    parser.add_argument("--out", help="write the line there instead")
    args = parser.parse_args()
    line = measure(args.backbone, args.variant, args.steps or STEPS[args.backbone], args.jit)
    renew("train_step", [line], KEYS, args.out)
    for name, value in line["seconds"].items():
        print(f"{name:>16}: {1000 * value:9.1f} ms a step")
    print(f"ISRA adds {100 * line['isra_adds']:.1f} %; peak memory of all models together {line['peak_memory_mb']:,} MB")
    if args.jit:
        print(f"With jit_compile ISRA's step is {line['jit_gain']:.2f} times as fast; it compiles for {line['jit_compile_seconds']} s.")


def measure(backbone, variant, steps, jit=False):
    """The line of a backbone: medians of the models' steps."""
    setting = SETTINGS[backbone]
    batch = make_batch(setting)
    models = {PLAIN: make_model(backbone, variant, False), ISRA: make_model(backbone, variant, True)}
    if jit:
        models[XLA] = make_model(backbone, variant, True, jit=True)
    seconds, first = {name: [] for name in models}, {}
    for step in range(-1, steps):  # the first one compiles
        for name, model in models.items():
            started = time.perf_counter()
            float(model.train_on(batch)["loss"])
            taken = time.perf_counter() - started
            if step >= 0:
                seconds[name].append(taken)
            else:
                first[name] = taken
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    line = {
        "backbone": backbone, "variant": variant, **setting, "rows": ROWS, "steps": steps,
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "isra_adds": round(medians[ISRA] / medians[PLAIN] - 1, 4), "peak_memory_mb": round(peak_memory()),
    }  # fmt: skip
    if jit:
        line |= {"jit_gain": round(medians[ISRA] / medians[XLA], 3), "jit_compile_seconds": round(first[XLA], 1)}
    return line


def command_of(line):
    """The arguments that made a line."""
    steps = f" --steps {line['steps']}" if line["steps"] != STEPS.get(line["backbone"]) else ""
    variant = f" --variant {line['variant']}" if line["variant"] != "reference" else ""
    return f" --backbone {line['backbone']}{steps}{variant}{' --jit' if 'jit_gain' in line else ''}"


def shape_of(setting):
    """Of one input."""
    return (setting["side"], setting["side"], 3) if setting["side"] else (INPUTS,)


def make_batch(setting):
    """Random images or features, and labels, the same for all models."""
    import numpy as np

    draw = np.random.default_rng(0)
    shape = shape_of(setting)
    return {
        part: {
            "images": draw.integers(0, 256, (rows, *shape)).astype("float32"),
            "labels": draw.integers(0, setting["classes"], rows).astype("int32"),
            "indices": np.arange(rows, dtype="int32"),
        }
        for part, rows in ROWS.items()
    }


def make_model(backbone, variant, semantic, jit=False):
    """A compiled `AdaptationModel` from random weights: the time of a step does not depend on them."""
    from isra_keras.backbones import build_network
    from isra_keras.methods import get_method
    from isra_keras.model import AdaptationModel
    from isra_keras.semantic import SemanticAlignment

    setting = SETTINGS[backbone]
    network = build_network(backbone, setting["classes"], setting["feature_dim"], shape_of(setting), "none")
    plugin = SemanticAlignment(setting["num_topics"], receptor_width=setting["receptor_width"], variant=variant)
    model = AdaptationModel(network, get_method("ba3us")(), plugin if semantic else None, max_iterations=1000)
    model.compile(jit_compile=jit)
    return model


if __name__ == "__main__":
    main()
