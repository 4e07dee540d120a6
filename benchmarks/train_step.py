"""What ISRA adds to a training step of BA3US, and the step's memory.

    python benchmarks/train_step.py --backbone resnet50              224 px, 36 + 36 + 9 images, d = 512, J = 256
    python benchmarks/train_step.py --backbone small_cnn --steps 60  32 px, d = 128, J = 32

Both models take turns, step by step, on the same random images in one process, so that a noisy machine slows both
alike; the share is the ratio of the medians. Prints a table and appends a line to benchmarks/results/train_step.jsonl.
"""

import argparse
import json
import os
import resource
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
RESULTS = Path(__file__).parent / "results" / "train_step.jsonl"
SETTINGS = {
    "resnet50": {"side": 224, "feature_dim": 512, "num_topics": 256, "receptor_width": 128, "classes": 65},
    "mobilenet_v2": {"side": 224, "feature_dim": 256, "num_topics": 64, "receptor_width": 128, "classes": 31},
    "small_cnn": {"side": 32, "feature_dim": 128, "num_topics": 32, "receptor_width": 64, "classes": 36},
}
ROWS = {"source": 36, "target": 36, "middle": 9}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", choices=tuple(SETTINGS), default="resnet50")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--variant", default="reference")
    args = parser.parse_args()
    setting = SETTINGS[args.backbone]
    batch = make_batch(setting)
    models = {"BA3US": make_model(args, setting, False), "ISRA + BA3US": make_model(args, setting, True)}
    seconds = {name: [] for name in models}
    for step in range(-1, args.steps):  # the first one compiles
        for name, model in models.items():
            started = time.perf_counter()
            float(model.train_on(batch)["loss"])
            if step >= 0:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    share = medians["ISRA + BA3US"] / medians["BA3US"] - 1
    line = {
        "backbone": args.backbone, "variant": args.variant, **setting, "rows": ROWS, "steps": args.steps,
        "seconds": {name: round(value, 4) for name, value in medians.items()}, "isra_adds": round(share, 4),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), "cores": os.cpu_count(),
    }  # fmt: skip
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    for name, value in medians.items():
        print(f"{name:>14}: {1000 * value:9.1f} ms a step")
    print(f"ISRA adds {100 * share:.1f} %; peak memory of both models together {line['peak_memory_mb']:,} MB")


def make_batch(setting):
    """Random images and labels, the same for both models."""
    import numpy as np

    draw = np.random.default_rng(0)
    shape = (setting["side"], setting["side"], 3)
    return {
        part: {
            "images": draw.integers(0, 256, (rows, *shape)).astype("float32"),
            "labels": draw.integers(0, setting["classes"], rows).astype("int32"),
            "indices": np.arange(rows, dtype="int32"),
        }
        for part, rows in ROWS.items()
    }


def make_model(args, setting, semantic):
    """A compiled `AdaptationModel` from random weights: the time of a step does not depend on them."""
    from isra_keras.backbones import build_network
    from isra_keras.methods import get_method
    from isra_keras.model import AdaptationModel
    from isra_keras.semantic import SemanticAlignment

    shape = (setting["side"], setting["side"], 3)
    network = build_network(args.backbone, setting["classes"], setting["feature_dim"], shape, "none")
    plugin = SemanticAlignment(setting["num_topics"], receptor_width=setting["receptor_width"], variant=args.variant)
    model = AdaptationModel(network, get_method("ba3us")(), plugin if semantic else None, max_iterations=1000)
    model.compile()
    return model


if __name__ == "__main__":
    main()
