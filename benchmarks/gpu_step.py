"""The training step and the semantic step on a GPU under JAX and PyTorch; TensorFlow is not needed.

    python benchmarks/gpu_step.py            both backends (or the one in KERAS_BACKEND), under eight minutes
    python benchmarks/gpu_step.py --quick    tiny sizes, on whatever there is; prints and writes nothing

For each backend: (a) steps of ISRA on BA3US and of BA3US alone over ResNet-50, 36 + 36 + 9 images of 224 px that lie
on the device, in float32 (as the backend multiplies it: JAX with TensorFloat-32 where there is one), mixed_bfloat16 and
mixed_float16; (b) the semantic step alone against a PyTorch loop over topics (benchmarks/topic_loop.py) and against the
three batched products that it cannot do without; (c) what a large matrix product reaches. `ceiling_share`: how much of
that (a) with ISRA and (b) reach in the same precision; counted are convolutions and products, forward and twice backward.
Sides take turns in one process, medians count. Lines go to benchmarks/results/gpu_step.jsonl as they come, in the place of
those of the same device, backend and sizes; all others stay.
"""

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import measure

BACKENDS = ("jax", "torch")
KEYS = ("kind", "device", "backend", "precision", "backbone", "depth", "topics", "rows")
FULL = {"backbone": "resnet50", "side": 224, "rows": [36, 36, 9], "feature_dim": 512, "num_topics": 256, "width": 128,
        "classes": 65, "steps": 12, "sizes": [[512, 256], [256, 64], [2048, 64], [2048, 16]], "counts": [81, 512],
        "product": 8192}  # fmt: skip
QUICK = {"backbone": "small_cnn", "side": 32, "rows": [4, 4, 1], "feature_dim": 16, "num_topics": 4, "width": 8,
         "classes": 5, "steps": 2, "sizes": [[16, 4]], "counts": [9], "product": 128}  # fmt: skip
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes; writes only where --out says")
    parser.add_argument("--minutes", type=float, default=8.0, help="what has not begun by then is left out")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # one process's measurements, as JSON
    args = parser.parse_args()
    if args.one:
        for line in measured(**json.loads(args.one)):
            print("LINE " + json.dumps(line), flush=True)
        return
    missing = []
    for lines in collect(args, backends_here(), missing):
        if args.out or not args.quick:
            measure.renew("gpu_step", lines, KEYS, args.out)
    if missing:
        raise SystemExit("Not all was measured, for the reasons above: " + ", ".join(missing))


def backends_here():
    """The backend in KERAS_BACKEND, or those that are installed."""
    chosen = [os.environ["KERAS_BACKEND"]] if os.environ.get("KERAS_BACKEND") else BACKENDS
    found = [name for name in chosen if name in BACKENDS and importlib.util.find_spec(name)]
    if not found:
        raise SystemExit(f"Expected {' or '.join(BACKENDS)} to be installed; received {', '.join(chosen)}, which can't be "
                         "measured here. Install one of the two, and set KERAS_BACKEND to it or to nothing.")  # fmt: skip
    return found


def collect(args, backends, missing):
    """Yields the lines of each process, a kind of measurement under a backend; `missing` gets the names of what fell short."""
    jobs = [{"kind": "product"}, {"kind": "semantic"}, *({"kind": "step", "precision": p} for p in PRECISIONS)]
    deadline, ceilings = time.monotonic() + 60 * args.minutes, {}
    for job in jobs:
        for backend in backends:
            left, name = deadline - time.monotonic(), " ".join([backend, *job.values()])
            found, trouble = alone(backend, job | {"quick": args.quick}, left) if left >= 20 else ([], "no time is left")
            if trouble:
                print(f"{name}: {trouble}", flush=True)
                missing.append(name)
            ceilings |= {(backend, line["precision"]): line["tflops"] for line in found if line["kind"] == "product"}
            yield [line | share_of(line, ceilings) for line in found]


def share_of(line, ceilings):
    """{"ceiling_share": ...} of a line that counts its work, {} of others.

    Args:
        line: with "gflop", the work of one step, whose time is "ours_ms" or "isra_ms".
        ceilings: {(backend, precision): TFLOP/s of a large matrix product}.
    """
    ceiling = ceilings.get((line["backend"], line["precision"].removeprefix("mixed_")))
    if "gflop" not in line or not ceiling:
        return {}
    reached = line["gflop"] / line.get("ours_ms", line.get("isra_ms"))  # GFLOP a millisecond: TFLOP/s
    return {"ceiling_share": round(reached / ceiling, 4)}


def alone(backend, job, seconds):
    """(lines of a job under a backend, "" or what ended it before it was through)."""
    environment = os.environ | {"KERAS_BACKEND": backend, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps(job)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
        output, trouble = done.stdout, done.stderr[-1500:] if done.returncode else ""
    except subprocess.TimeoutExpired as error:
        output, trouble = (error.stdout or b"").decode(), "time is over"
    lines = [json.loads(row.removeprefix("LINE ")) for row in output.splitlines() if row.startswith("LINE ")]
    for line in lines:
        print(" ".join(f"{name}={value}" for name, value in line.items()), flush=True)
    return lines, trouble


def measured(kind, quick, **options):
    """Yields the lines of a kind of measurement on this process's backend."""
    import keras

    setting = QUICK if quick else FULL
    of = {"step": step_lines, "semantic": semantic_lines, "product": product_lines}[kind]
    backend = keras.backend.backend()
    common = {"kind": kind, "device": device_name(), "backend": backend, "backend_version": version(backend)}
    for line in of(setting, **options):
        yield common | line


# ---------------------------------------------------------------- the device


def device_name():
    """Of the GPU that Keras's backend computes on, or "cpu"."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        device = jax.local_devices()[0]
        return "cpu" if device.platform == "cpu" else device.device_kind
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def wait(value):
    """Until every tensor in `value` is computed."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.block_until_ready(value)
    else:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()


def peak_memory():
    """MB on the device since the process began; of the process where there is no GPU."""
    import keras

    if device_name() == "cpu":
        return round(measure.peak_memory())
    if keras.backend.backend() == "jax":
        import jax

        return round(jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20)
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**20)


def turns(functions, rounds):
    """{name: median milliseconds}; the functions take turns, so that what slows the machine slows all alike."""
    awaited = {name: lambda function=function: wait(function()) for name, function in functions.items()}
    return {name: 1e3 * seconds for name, seconds in measure.turns(awaited, rounds, warm=2).items()}


# ---------------------------------------------------------------- (a) a training step


def step_lines(setting, precision):
    """One line: images a second of both models, what ISRA adds, the memory of ISRA's step."""
    import keras

    keras.config.set_dtype_policy(precision)
    batch, isra = make_batch(setting), make_model(setting, semantic=True)
    wait([isra.train_on(batch) for _ in range(2)])
    memory = peak_memory()
    models = {"isra": isra, "ba3us": make_model(setting, semantic=False)}
    found = turns({name: lambda m=model: m.train_on(batch)["loss"] for name, model in models.items()}, setting["steps"])
    images = sum(setting["rows"])
    work = semantic_gflop(setting["feature_dim"], setting["num_topics"], images, setting["width"])
    work += 3 * images * forward_gflop(isra.network)
    yield {
        "precision": precision, **{name: setting[name] for name in ("backbone", "side", "rows", "feature_dim", "num_topics")},
        "receptor_width": setting["width"], "gflop": round(work, 6),
        **{f"{name}_ms": round(value, 3) for name, value in found.items()},
        **{f"{name}_images_per_second": round(1e3 * images / value, 1) for name, value in found.items()},
        "isra_share": round(1.0 - found["ba3us"] / found["isra"], 4), "isra_peak_memory_mb": memory,
    }  # fmt: skip


def forward_gflop(network):
    """GFLOP of a network's convolutions and matrix products for one image."""
    total = 0
    for layer in network._flatten_layers():
        if getattr(layer, "kernel", None) is not None:
            places = math.prod(layer.output.shape[1:-1])  # channels last; 1 of a dense layer
            total += 2 * math.prod(layer.kernel.shape) * places
    return total / 1e9


def semantic_gflop(depth, topics, rows, width):
    """GFLOP of the three batched products that the semantic step cannot do without."""
    return 3 * 2 * topics * rows * depth * width / 1e9


def make_batch(setting):
    """Random images and labels as tensors of the backend."""
    import keras
    import numpy as np

    draw = np.random.default_rng(0)
    shape = (setting["side"], setting["side"], 3)
    batch = {
        part: {
            "images": draw.integers(0, 256, (rows, *shape)).astype("float32"),
            "labels": draw.integers(0, setting["classes"], rows).astype("int32"),
            "indices": np.arange(rows, dtype="int32"),
        }
        for part, rows in zip(("source", "target", "middle"), setting["rows"])
    }
    return keras.tree.map_structure(keras.ops.convert_to_tensor, batch)


def make_model(setting, semantic):
    """A compiled `AdaptationModel` from random weights: the time of a step does not depend on them."""
    from isra_keras import AdaptationModel, SemanticAlignment, build_network, get_method

    shape = (setting["side"], setting["side"], 3)
    network = build_network(setting["backbone"], setting["classes"], setting["feature_dim"], shape, "none")
    plugin = SemanticAlignment(setting["num_topics"], receptor_width=setting["width"]) if semantic else None
    model = AdaptationModel(network, get_method("ba3us")(), plugin, max_iterations=1000)
    model.compile()
    return model


# ---------------------------------------------------------------- (b) the semantic step


def semantic_lines(setting):
    """A line for each size: ours, the floor, and with PyTorch the loop over topics on the same weights."""
    import keras

    for depth, topics in setting["sizes"]:
        for rows in setting["counts"]:
            functions, check = semantic_sides(depth, topics, rows, setting["width"])
            found = turns(functions, max(setting["steps"] // 2, 2))
            line = {"precision": "float32", "depth": depth, "topics": topics, "rows": rows, "receptor_width": setting["width"],
                    "gflop": round(semantic_gflop(depth, topics, rows, setting["width"]), 6),
                    **{f"{k}_ms": round(v, 3) for k, v in found.items()},
                    "ours_over_floor": round(found["ours"] / found["floor"], 3)}  # fmt: skip
            if keras.backend.backend() == "torch":
                line |= {"loop_over_ours": round(found["loop"] / found["ours"], 3), "difference": check()}
            yield line


def semantic_sides(depth, topics, rows, width):
    """({"ours", "floor" and perhaps "loop": function}, relative difference of alignment and gradient from the loop)."""
    import keras
    import numpy as np

    from isra_keras import SemanticAlignment

    keras.utils.set_random_seed(0)
    semantic = SemanticAlignment(topics, receptor_width=width, variant="reference")
    semantic.build_parts(depth, 10, depth, {})
    features = np.random.default_rng(0).normal(size=(rows, depth)).astype("float32")
    middle = rows // 9
    bounds = [0, (rows - middle) // 2, rows - middle, rows]
    domains = [keras.ops.convert_to_tensor(features[a:b]) for a, b in zip(bounds, bounds[1:])]
    if keras.backend.backend() == "jax":
        return {"ours": jax_step(semantic, domains), "floor": jax_floor(depth, topics, rows, width)}, None
    ours = torch_step(semantic, domains)
    loop, features = torch_loop(semantic, features, bounds[1])

    def difference():
        (alignment, gradients), (_, expected) = ours(), loop()
        import torch

        apart = [(torch.cat(gradients[:3]) - features.grad).abs().max() / features.grad.abs().max(),
                 (alignment - expected).abs() / expected.abs()]  # fmt: skip
        return float(f"{max(map(float, apart)):.1e}")

    return {"ours": ours, "loop": loop, "floor": torch_floor(depth, topics, rows, width)}, difference


def semantic_terms(semantic, domains):
    """(receptor loss + alignment, (alignment, diagnostics)) of three domains' features."""
    from isra_keras import View, Views

    terms = semantic.loss_terms(Views(*(View(None, None, one, None) for one in domains)), None)
    return terms["receptors"] + terms["alignment"], (terms["alignment"], dict(semantic.diagnostics(None, None)))


def jax_step(semantic, domains):
    """Compiled: alignment and all gradients."""
    import jax
    import keras

    weights = semantic.receptors.trainable_variables

    def loss(domains, values):
        with keras.StatelessScope(state_mapping=list(zip(weights, values))):
            return semantic_terms(semantic, domains)

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    values = [weight.value for weight in weights]
    return lambda: step(domains, values)


def torch_step(semantic, domains):
    """() -> (alignment, gradients to the domains and to the receptors)."""
    import torch

    domains = [one.requires_grad_(True) for one in domains]
    inputs = [*domains, *(weight.value for weight in semantic.receptors.trainable_variables)]

    def step():
        total, (alignment, _) = semantic_terms(semantic, domains)
        return alignment.detach(), torch.autograd.grad(total, inputs)

    return step


def torch_loop(semantic, features, sources):
    """(step of the loop over topics with the same weights, its features)."""
    import torch

    from benchmarks.topic_loop import TopicLoop

    device = "cuda" if torch.cuda.is_available() else "cpu"
    bank = semantic.receptors
    loop = TopicLoop(features.shape[1], semantic.num_topics, bank.width, semantic.receptor_l1, device)
    names = ("hidden_kernel", "hidden_bias", "output_kernel", "output_bias")
    loop.load(*(getattr(bank, name).numpy() for name in names))
    features = torch.from_numpy(features).to(device).requires_grad_(True)
    embeddings = semantic.class2vec(features)[0].detach()
    return lambda: loop.step(features, embeddings, sources), features


def jax_floor(depth, topics, rows, width):
    """Three batched products: receptors forward, gradient of their kernels, attention."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0), 3)
    shapes = ((rows, depth), (topics, depth, width), (topics, rows, width))
    arrays = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes)]

    @jax.jit
    def products(features, kernel, slopes):
        return (jnp.einsum("nd,jdh->jnh", features, kernel), jnp.einsum("nd,jnh->jdh", features, slopes),
                jnp.einsum("jnh,jdh->jnd", slopes, kernel))  # fmt: skip

    return lambda: products(*arrays)


def torch_floor(depth, topics, rows, width):
    """As `jax_floor`."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    shapes = ((rows, depth), (topics, depth, width), (topics, rows, width))
    features, kernel, slopes = (torch.randn(shape, device=device) for shape in shapes)
    copies = features.expand(topics, rows, depth)
    return lambda: (torch.bmm(copies, kernel), torch.bmm(copies.mT, slopes), torch.bmm(slopes, kernel.mT))


# ---------------------------------------------------------------- (c) the ceiling


def product_lines(setting):
    """A line for each precision: TFLOP/s of a square matrix product."""
    import keras
    import numpy as np

    size = setting["product"]
    values = np.random.default_rng(0).normal(size=(size, size)).astype("float32")
    for dtype in ("float32", "bfloat16", "float16"):
        matrix = keras.ops.cast(keras.ops.convert_to_tensor(values), dtype)
        product = keras.ops.matmul
        if keras.backend.backend() == "jax":
            import jax

            product = jax.jit(product)
        found = turns({"product": lambda: product(matrix, matrix)}, setting["steps"])["product"]
        yield {"precision": dtype, "size": size, "ms": round(found, 4), "tflops": round(2e-9 * size**3 / found, 3)}


if __name__ == "__main__":
    main()
