"""Does training wait for its images? And what do many files cost?

    python benchmarks/input_pipeline.py            all of it, three to five minutes on two cores
    python benchmarks/input_pipeline.py --quick    100,000 instead of 1,300,000 files, fewer images and steps

rate     images a second of `DomainPairs` over files (256 px, random crops of 224 px, mirrored), uncached and from the
         decoded cache, against the bare work in as many threads: read, decode the JPEG, resize, crop. They take turns.
waiting  share of MobileNetV2's training steps (224 px, 36 + 36 images) spent waiting for the next batch.
start    a folder of 1,000 classes and so many files (hard links) until the first batch, in a process of its own, without
         the import of TensorFlow; and that process's peak memory, with it. The same with 10,000 files: the difference
         is what a file costs. And with a list of these files instead of their folder.

Images are those of Office-Caltech10 in ISRA_TEST_DATA, or made on the spot. Writes benchmarks/results/input_pipeline.jsonl (input_pipeline_quick.jsonl).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import data_folder, peak_memory, private_memory, read, short, table, turns, write

BATCH, SIZE, CROP, CLASSES = 36, 256, 224, 1000
TARGETS = {"rate": 0.85, "waiting": 0.05, "start_seconds": 10.0, "start_memory_mb": 1024}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only-start", action="store_true", help="the others' lines stay as they are")
    parser.add_argument("--trees", help="keep the folders of hard links here and take them again")
    parser.add_argument("--start", nargs=2, help=argparse.SUPPRESS)  # child: time the start on a source and a target
    parser.add_argument("--out", help="write the lines there instead")
    args = parser.parse_args(argv)
    if args.start:
        print(json.dumps(start(*args.start)))
        return
    name = "input_pipeline" + "_quick" * args.quick
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        many = 100_000 if args.quick else 1_300_000
        lines = [start_line(count, form, Path(args.trees or folder)) for count, form in
                 ((10_000, "folder"), (many, "folder"), (many, "list"))]  # fmt: skip
        if args.only_start:
            lines = [*(line for line in read(name, args.out) if line["probe"] != "start"), *lines]
        else:
            task = small_task(Path(folder))
            lines = [*rates(task, 3 if args.quick else 7), waiting(task, 2 if args.quick else 5), *lines]
    write(name, lines, args.out)
    for probe in ("rate", "waiting", "start"):
        print(
            table([{k: v for k, v in line.items() if k != "probe"} for line in lines if line["probe"] == probe]), "\n"
        )


def rates(task, rounds):
    """Lines of images a second."""
    from isra_keras.data.pairs import DomainPairs, own_threads

    threads = os.cpu_count() or 1
    steps = 12
    count = 2 * BATCH * steps
    pool = ThreadPoolExecutor(threads)
    cached = DomainPairs(task, BATCH, 0, SIZE, CROP, cache=True)
    pairs = {"files": DomainPairs(stranger(task), BATCH, 0, SIZE, CROP, cache=False), "decoded cache": cached}
    for _ in own_threads(cached.dataset(0, 2 * max(cached.sizes.values()) // BATCH)):
        pass  # every image once
    # Read to its end at every turn: nothing may be prepared while the others work.
    data = {name: own_threads(one.dataset(0, steps), threads) for name, one in pairs.items()}

    def drawn(name):
        return lambda: sum(len(batch["source"]["labels"]) for batch in data[name])

    chosen = [getattr(task, role).paths[index] for batch in data["decoded cache"] for role in ("source", "target")
              for index in batch[role]["indices"].numpy()]  # fmt: skip
    seconds = turns({"bare": lambda: list(pool.map(bare, chosen)), **{name: drawn(name) for name in data}}, rounds)
    pool.shutdown()
    return [
        {"probe": "rate", "from": name, "images_per_second": short(count / seconds[name]),
         "bare_per_second": short(count / seconds["bare"]), "ratio": short(seconds["bare"] / seconds[name]),
         "target": TARGETS["rate"], "met": seconds["bare"] / seconds[name] >= TARGETS["rate"], "threads": threads}
        for name in pairs
    ]  # fmt: skip


def bare(path):
    """What no pipeline can leave out, in Pillow's C code."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        image.draft(None, (2 * SIZE, 2 * SIZE))
        upright = image if image.mode == "RGB" else image.convert("RGB")
        square = upright.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    edge = (SIZE - CROP) // 2
    return np.asarray(square)[edge : edge + CROP, edge : edge + CROP].copy()


def waiting(task, steps):
    """The line of the share of training that is waiting."""
    import keras

    from isra_keras.backbones import build_network
    from isra_keras.data.pairs import DomainPairs, own_threads
    from isra_keras.methods import get_method
    from isra_keras.model import AdaptationModel

    keras.utils.set_random_seed(0)
    network = build_network("mobilenet_v2", len(task.class_names), 256, (CROP, CROP, 3), "none", batch_norm="fixed")
    model = AdaptationModel(network, get_method("dann")(), max_iterations=1000)
    model.compile()
    pairs = DomainPairs(stranger(task), BATCH, 0, SIZE, CROP, cache=False)
    waited = worked = 0.0
    batches = iter(own_threads(pairs.dataset(0, steps + 1)))
    for number in range(steps + 1):
        started = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        float(model.train_on(batch)["loss"])
        if number:  # the first step is compiled
            waited, worked = waited + ready - started, worked + time.perf_counter() - ready
    share = waited / (waited + worked)
    return {"probe": "waiting", "step_seconds": short(worked / steps), "waiting_ms": short(1000 * waited / steps),
            "share": short(share), "target": TARGETS["waiting"], "met": share <= TARGETS["waiting"],
            "steps": steps}  # fmt: skip


def start_line(count, form, folder):
    """The line of the start on `count` files: their "folder", or a "list" of them."""
    place = folder / str(count)
    if not place.exists():
        make_tree(place, count)
    source = place / "source"
    if form == "list":
        source = place / "source.txt"
        with open(source, "w") as lines:
            for home in sorted((place / "source").iterdir()):
                lines.writelines(f"source/{home.name}/{name} {home.name}\n" for name in sorted(os.listdir(home)))
    command = [sys.executable, __file__, "--start", str(source), str(place / "target")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    values = json.loads(found.stdout.splitlines()[-1])
    met = values["seconds"] < TARGETS["start_seconds"] and values["peak_memory_mb"] < TARGETS["start_memory_mb"]
    limits = {"target_seconds": TARGETS["start_seconds"], "target_memory_mb": TARGETS["start_memory_mb"]}
    return {"probe": "start", "files": count, "from": form} | values | limits | {"met": met}


def start(source, target):
    """From files on disk to the first batch, in this process."""
    began = time.perf_counter()
    from isra_keras.data.pairs import DomainPairs, own_threads
    from isra_keras.data.tasks import folder_task

    imported = time.perf_counter()
    before = peak_memory()
    task = folder_task(source, target)
    loaded = time.perf_counter()
    pairs = DomainPairs(task, BATCH, 0, SIZE, CROP, cache=False)
    for number, _ in enumerate(own_threads(pairs.dataset(0, 8))):
        if not number:
            first = time.perf_counter()
    return {"seconds": short(first - imported), "listing_seconds": short(loaded - imported),
            "import_seconds": short(imported - began), "peak_memory_mb": round(peak_memory()),
            "imports_mb": round(before), "private_mb": round(private_memory())}  # fmt: skip


def make_tree(place, count):
    """source/0000 ... source/0999 of hard links to a few images, and a small target."""
    images = some_images(place)
    for name, files in (("target", 360), ("source", count)):
        for label in range(CLASSES if name == "source" else 1):
            home = place / name / f"{label:04d}"
            home.mkdir(parents=True)
            for number in (
                range(files * label // CLASSES, files * (label + 1) // CLASSES) if name == "source" else range(360)
            ):
                os.link(images[number % len(images)], home / f"image_{number:07d}.jpg")


def small_task(folder):
    """Source and target of a few hundred images."""
    from isra_keras.data.tasks import folder_task, load_task

    if data_folder():
        return load_task("office_caltech10", "amazon", "webcam")
    place = folder / "small"
    images = some_images(place, 40)
    for index, image in enumerate(images * 8):
        for home in (place / "source" / f"{index % 10}", place / "target" / f"{index % 10}"):
            home.mkdir(parents=True, exist_ok=True)
            os.link(image, home / f"{index}.jpg")
    return folder_task(place / "source", place / "target")


def stranger(task):
    """The same task whose files share no cache with it."""
    from dataclasses import replace

    other = [replace(domain, paths=(*domain.paths[:-1], os.path.join(os.path.dirname(domain.paths[-1]), ".",
             os.path.basename(domain.paths[-1])))) for domain in (task.source, task.target)]  # fmt: skip
    return replace(task, source=other[0], target=other[1])


def some_images(place, count=40):
    """Copies of real images, or made ones, in a folder of their own."""
    import shutil

    place = place / "images"
    place.mkdir(parents=True)
    if data_folder():
        found = sorted((data_folder() / "office_caltech10" / "amazon").glob("*/*.jpg"))
        return [
            Path(shutil.copy(path, place / f"{i}.jpg")) for i, path in enumerate(found[:: len(found) // count][:count])
        ]
    import numpy as np
    from PIL import Image

    draw, paths = np.random.default_rng(0), []
    for index in range(count):
        small = Image.fromarray(draw.integers(0, 256, (30, 30, 3)).astype("uint8"))
        small.resize((300, 300)).save(place / f"{index}.jpg", quality=90)
        paths.append(place / f"{index}.jpg")
    return paths


if __name__ == "__main__":
    main()
