"""What 8, 64 and 512 GPUs would give on ImageNet-Caltech, and what breaks first: a calculation, no measurement.

    python benchmarks/scaling.py                        writes benchmarks/SCALING.md
    python benchmarks/scaling.py --images-per-second 900 --interconnect 50

Weak scaling: each replica keeps the recipe's rows. The step is the network's forward and backward pass of a replica's
rows, the objectives on the rows of ALL replicas (every replica computes them whole), the sum of gradients and the
exchange of views; nothing overlaps. How much ISRA's objectives cost beside the network is read from a GPU's lines in
benchmarks/results/gpu_step.jsonl, or else from train_step.jsonl and semantic_step.jsonl; how fast a core decodes, from
input_pipeline.jsonl. What these files do not hold is an assumption with a name.
"""

import argparse
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results", HERE / "SCALING.md"
REPLICAS = (1, 8, 64, 512)
BACKBONE_WEIGHTS = 23_534_592
"""Trainable, of `keras.applications.ResNet50` without its top; tests/benchmarking/test_scaling.py counts them."""
POOLED = 2048
FLOAT = 4
TOPIC_COPIES = 4
"""Arrays (J, n, h) alive at once: the receptors' hidden units, their gradient, the attention's slopes and the mask. The
attention itself exists in blocks of topics."""


def lines_of(name):
    """Lines of results, none where there is no file."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def decoding():
    """Images a second that one thread read, decoded, resized and cropped when input_pipeline.py measured it."""
    for line in lines_of("input_pipeline"):
        if line.get("probe") == "rate" and line["from"] == "files":
            return round(line["images_per_second"] / line["threads"], 1)
    raise SystemExit("Expected the rate from files in benchmarks/results/input_pipeline.jsonl; received no such line. "
                     "`python benchmarks/input_pipeline.py` measures it.")  # fmt: skip


@dataclass
class Assumptions:
    """What is not measured on such machines.

    Attributes:
        images_per_second: images through ResNet-50 at 224 px, forward and backward, on one GPU.
        gpus: of a machine.
        inside: GB/s of a GPU's links inside of a machine.
        interconnect: GB/s of a machine's network, all its GPUs together.
        latency: microseconds of a hop of a collective.
        decoding: images that one core decodes, resizes and crops in a second; measured, of a thread here.
        cores: of a machine.
        memory: GB of a GPU.
        free: share of that memory which network and activations leave.
    """

    images_per_second: float = 700.0
    gpus: int = 8
    inside: float = 200.0
    interconnect: float = 25.0
    latency: float = 20.0
    decoding: float = field(default_factory=decoding)
    cores: int = 64
    memory: float = 80.0
    free: float = 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given = asdict(Assumptions())
    for item in fields(Assumptions):
        parser.add_argument("--" + item.name.replace("_", "-"), type=item.type, default=given[item.name])
    parser.add_argument("--out", default=str(PAGE))
    args = vars(parser.parse_args())
    out = Path(args.pop("out"))
    out.write_text(page(Assumptions(**args)), encoding="utf-8")
    print(f"{out} written")


def recipe():
    """`TrainConfig` of ImageNet -> Caltech."""
    from isra_keras.training.recipes import resolve

    return resolve(dataset="imagenet_caltech", source="imagenet", target="caltech256")


def target_images():
    """Images of Caltech-256 in the shared classes."""
    from isra_keras.data.protocols import facts

    counts = facts()["caltech256"]["counts"]
    return sum(counts[own] for _, own in facts()["imagenet_caltech"]["pairs"])


def measured():
    """(line of a ResNet-50 step as train_step.py writes it, whether it is of a GPU): the fastest GPU's if there is any."""
    on_gpu = [line for line in lines_of("gpu_step")
              if line["kind"] == "step" and line["device"] != "cpu" and line["backbone"] == "resnet50"]  # fmt: skip
    if on_gpu:
        return as_train_step(min(on_gpu, key=lambda line: line["ba3us_ms"])), True
    lines = lines_of("train_step")
    return with_own_step([line for line in lines if line["backbone"] == "resnet50" and line["variant"] == "reference"][-1]), False


def with_own_step(line):
    """A line of train_step.jsonl with the time of ISRA's receptors and alignment alone (semantic_step.jsonl) as its share.

    The difference of two steps of many seconds each, which train_step.py has, is smaller than what a step varies by. What
    is left out: the auto-encoder and the optimiser's update.
    """
    size = {"probe": "ratio", "depth": line["feature_dim"], "topics": line["num_topics"], "rows": sum(line["rows"].values()),
            "cores": line["cores"], "instructions": line["instructions"]}  # fmt: skip
    own = next((one for one in lines_of("semantic_step") if size.items() <= one.items()), None)
    if own is None:
        raise SystemExit(f"Expected a line of results/semantic_step.jsonl with {size}, as train_step.jsonl's ResNet-50 has; "
                         "received none. Run `python benchmarks/semantic_step.py` and `python benchmarks/train_step.py` on one "
                         "machine.")  # fmt: skip
    return line | {"isra_adds": own["ours_ms"] / 1e3 / line["seconds"]["BA3US"]}


def as_train_step(line):
    """A line of gpu_step.jsonl in the words of train_step.jsonl."""
    seconds = {"BA3US": line["ba3us_ms"] / 1e3, "ISRA + BA3US": line["isra_ms"] / 1e3}
    adds = max(seconds["ISRA + BA3US"] / seconds["BA3US"] - 1, 0.0)  # less than nothing is noise
    rows = dict(zip(("source", "target", "middle"), line["rows"]))
    return line | {"seconds": seconds, "isra_adds": adds, "rows": rows}


def row_cost(config, line):
    """ISRA's seconds for a row beside the network's for an image: the measured share, scaled to the recipe's J and d."""
    size = config.num_topics * config.feature_dim * config.receptor_width
    return line["isra_adds"] * size / (line["num_topics"] * line["feature_dim"] * line["receptor_width"])


def weights(config, classes):
    """Trainable weights of the network, the topics and receptors, and BA3US's discriminator."""
    d, topics, width, hidden = config.feature_dim, config.num_topics, config.receptor_width, 1024
    network = BACKBONE_WEIGHTS + POOLED * d + d + d * classes + classes
    plugin = 2 * d * topics + d + topics + topics * (d * width + 2 * width + 1)
    return network + plugin + d * hidden + hidden * hidden + 3 * hidden + 1


def seconds_of_sum(megabytes, replicas, given):
    """A ring's sum over all replicas: 2 (R - 1) / R of the bytes over the slowest link, 2 (R - 1) hops."""
    if replicas == 1:
        return 0.0
    link = given.inside if replicas <= given.gpus else given.interconnect
    return 2 * (replicas - 1) * (megabytes / replicas / link / 1e3 + given.latency / 1e6)


def outlook(replicas, given):
    """{name: number} for so many GPUs."""
    config, classes, (line, on_gpu) = recipe(), 1000, measured()
    rows = {"source": config.batch_size, "target": config.batch_size, "middle": config.batch_size // 4}
    own = sum(rows.values())
    every = own * replicas
    rate = sum(line["rows"].values()) / line["seconds"]["BA3US"] if on_gpu else given.images_per_second
    gradients = weights(config, classes) * FLOAT / 1e6
    views = every * (POOLED + 2 * (config.feature_dim + classes) + 2) * FLOAT / 1e6  # twice: the gradient comes back
    parts = {
        "network": own / rate,
        "objectives": every * row_cost(config, line) / rate,
        "gradients": seconds_of_sum(gradients, replicas, given),
        "views": seconds_of_sum(views, replicas, given),
    }
    step, machine = sum(parts.values()), min(replicas, given.gpus)
    return {
        "replicas": replicas, "source_rows": rows["source"] * replicas, "rows": every, "parts": parts, "step": step,
        "images_per_second": every / step, "efficiency": (parts["network"] + parts["objectives"] / replicas) / step,
        "gradient_mb": gradients, "views_mb": views,
        "topics_gb": TOPIC_COPIES * config.num_topics * every * config.receptor_width * FLOAT / 1e9,
        "input": machine * own / step, "input_limit": given.decoding * given.cores,
        "minutes": config.iterations / replicas * step / 60, "steps": config.iterations / replicas,
    }  # fmt: skip


def troubles(found, given):
    """What does not work or wastes more than half, in words; the hard limits first."""
    said, images = [], target_images()
    if found["source_rows"] > images:
        said.append(f"the target has {images:,} images, fewer than a batch of {found['source_rows']:,}: refused")
    if found["topics_gb"] > given.memory * given.free:
        said.append(f"{found['topics_gb']:,.0f} GB of hidden units on every GPU")
    if found["input"] > found["input_limit"]:
        said.append(f"{found['input']:,.0f} images/s to decode on a machine that decodes {found['input_limit']:,.0f}")
    if found["efficiency"] < 0.5:
        slowest = max(found["parts"].keys() - {"network"}, key=lambda name: found["parts"][name])
        said.append(f"half the time or more is lost, most of it to {slowest}")
    return said


def page(given):
    """Text of SCALING.md."""
    config, (line, on_gpu) = recipe(), measured()
    found = [outlook(replicas, given) for replicas in REPLICAS]
    name, images = ("gpu_step" if on_gpu else "train_step") + ".jsonl", sum(line["rows"].values())
    of = f"`results/{name}`" if on_gpu else f"receptors and alignment alone, `results/semantic_step.jsonl` over `results/{name}`"
    if on_gpu:
        note = (f"The rate of a GPU is that of {line['device']} under {line['backend']} in {line['precision']}: "
                f"{line['seconds']['BA3US']:.4f} s for {images} images. ")  # fmt: skip
    else:
        note = (f"**No step on a GPU is measured**: `results/{name}` has {line['seconds']['BA3US']} s for {images} images on "
                f"{line['cores']} CPU cores. The rate of a GPU is therefore an assumption below, and so is that ISRA costs "
                "the same share there. ")  # fmt: skip
    first = next((f"{one['replicas']} GPUs: {'; '.join(troubles(one, given))}" for one in found if troubles(one, given)),
                 "nothing up to 512 GPUs")  # fmt: skip
    table = ["|GPUs|rows a step|network|objectives|sum of gradients|views|step|images/s|of linear|hidden units|decoding a machine|",
             "|" + "---:|" * 11]  # fmt: skip
    for one in found:
        parts = "|".join(f"{1000 * value:,.1f} ms" for value in one["parts"].values())
        table.append(f"|{one['replicas']}|{one['rows']:,}|{parts}|{1000 * one['step']:,.0f} ms|"
                     f"{one['images_per_second']:,.0f}|{100 * one['efficiency']:.0f} %|{one['topics_gb']:,.2f} GB|"
                     f"{one['input']:,.0f}/s|")  # fmt: skip
    length = ["|GPUs|steps|minutes|what breaks|", "|---:|---:|---:|---|"]
    for one in found:
        length.append(
            f"|{one['replicas']}|{one['steps']:,.0f}|{one['minutes']:.1f}|{'; '.join(troubles(one, given)) or 'nothing'}|"
        )
    assumed = "\n".join(f"|{key}|{value:g}|{_meaning(key)}|" for key, value in asdict(given).items()
                        if not (on_gpu and key == "images_per_second"))  # fmt: skip
    return f"""# What more GPUs would give on ImageNet-Caltech

Written by `python benchmarks/scaling.py`: a calculation for `--distribute multi_worker`, not a measurement. {note}ISRA adds
{100 * line["isra_adds"]:.2f} % to a step of BA3US ({of}, J {line["num_topics"]}, d {line["feature_dim"]});
scaled to this task's J {config.num_topics} and d {config.feature_dim}: {100 * row_cost(config, line):.2f} %.

The recipe's rows for each GPU ({config.batch_size} source, {config.batch_size} target, {config.batch_size // 4} middle at the
start), {weights(config, 1000) / 1e6:.1f} million weights, {found[0]["gradient_mb"]:.0f} MB of gradients to sum; of {found[1]["replicas"]} GPUs
{found[1]["views_mb"]:.1f} MB of views (pooled, features, logits, labels; gradients of features and logits) go round. Nothing overlaps.

{chr(10).join(table)}

As many images as the recipe's {config.iterations:,} steps see on one GPU:

{chr(10).join(length)}

First to break: {first}.

- Every replica computes the objectives on the rows of all, so that methods need not know of replicas and the gradient is
  exactly that of one GPU. Their time and the receptors' hidden units, (J, n, h) floats, {TOPIC_COPIES} at once, grow with the number of GPUs. The
  remedy would be J / R topics a replica: topics don't meet before their losses are added.
- Views are summed where a gather would do: twice the bytes of that column, for equal bits everywhere and a plain gradient.
- A batch larger than the target can't be drawn without repetition, and the class weights of BA3US, renewed every
  {config.eval_interval:,} steps, would have to be renewed R times as often to follow as many images.
- Methods that forward images of the whole batch (SLM's mixtures, IWAN's frozen copy) repeat that on every replica and
  do not scale in this form at all.

## Assumed

`decoding` is `results/input_pipeline.jsonl`'s rate from files by its threads; that more cores decode as many times as much is
the assumption.

|name|value|meaning|
|---|---:|---|
{assumed}
"""


def _meaning(name):
    """The words of an attribute of `Assumptions`."""
    text = Assumptions.__doc__.split("Attributes:")[1]
    return next(line.split(":", 1)[1].strip(" .") for line in text.splitlines() if line.strip().startswith(name + ":"))


if __name__ == "__main__":
    main()
