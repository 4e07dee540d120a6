"""Probes of image files that are not what they seem."""

import resource
import struct
import warnings
import zlib

from benchmarks.reliability_probes.running import error_text, quote

CLASSES, EACH, SIZE, BATCH, STEPS = ("ant", "bee", "cat"), 16, 32, 8, 12
PAGE = b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n"
SIDE = 20_000


def png(path, width, height, bits, colour, rows):
    """Writes a PNG row by row; `rows` yields the bytes of each, colour 0 is grey and 2 RGB."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(b"\0" + row) for row in rows) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", body), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def photos(folder):
    """`EACH` JPEG files of noise for each class; returns the folder."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(EACH):
            pixels = draw.integers(0, 80, (SIZE, SIZE, 3)) + 60 * number
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{index:02d}.jpg")
    return folder


def dataset(folder, size=SIZE):
    """`keras.utils.image_dataset_from_directory`, as its documentation shows it."""
    import keras

    return keras.utils.image_dataset_from_directory(
        folder, image_size=(size, size), batch_size=BATCH, seed=0, verbose=False
    )  # fmt: skip


def html(side, folder):
    """Whether training goes on past a web page named .jpg, and whether the file is named."""
    source = photos(folder / "source")
    bad = source / CLASSES[1] / "07.jpg"
    bad.write_bytes(PAGE)
    return (past_stock if side == "stock" else past_ours)(folder, source, bad)


def vanish(side, folder):
    """The same with a good file that is removed after the folder was listed."""
    source = photos(folder / "source")
    bad = source / CLASSES[1] / "07.jpg"
    return (past_stock if side == "stock" else past_ours)(folder, source, bad, bad.unlink)


def past_stock(folder, source, bad, then=lambda: None):
    """`fit`; `then` is called between listing and training."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    blocks = []
    for index, width in enumerate((32, 64, 128)):
        blocks += [layers.Conv2D(width, 3, strides=1 if index else 2, padding="same", activation="relu")]
        blocks += [layers.MaxPooling2D()] if index else []
    head = [layers.GlobalAveragePooling2D(), layers.Dense(8), layers.Dense(len(CLASSES))]
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Rescaling(1 / 255), *blocks, *head])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, skipped = dataset(source), dataset(source).ignore_errors()
    then()
    epochs, said = STEPS // len(images), "no error"
    try:
        model.fit(images, epochs=epochs, verbose=0)
    except Exception as error:
        said = error_text(error, folder)
    steps, named = int(model.optimizer.iterations.numpy()), bad.name in said
    skipping = sum(len(labels) for _, labels in skipped)
    good = len(CLASSES) * EACH - 1
    cell = (f"**{steps} of {STEPS} steps**, the file is {'' if named else 'not '}named: “{said}”. With "
            f"`.ignore_errors()`: {skipping} of the {good} good images arrive, no file is named")  # fmt: skip
    return {"steps": steps, "named": named, "said": said, "with_ignore_errors": skipping, "good": good, "cell": cell}


def past_ours(folder, source, bad, then=lambda: None):
    """`run`; `then` is called between listing and training."""
    from isra_keras.training.callbacks import RunCallback
    from isra_keras.training.prepare import load_data
    from isra_keras.training.recipes import resolve
    from isra_keras.training.runner import run

    steps, target = [], photos(folder / "target")

    class Hook(RunCallback):
        def on_step(self, step, logs):
            steps.append(step)

    config = resolve(
        source_dir=str(source), target_dir=str(target), method="source_only", semantic=False, backbone="small_cnn",
        weights="none", feature_dim=8, image_size=SIZE, crop_size=SIZE, batch_size=BATCH, iterations=STEPS,
        eval_interval=STEPS, seed=0,
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        task = load_data(config)
        then()
        run(config, folder / "run", callbacks=[Hook()], task=task, quiet=True)
    said = quote(next((str(item.message) for item in caught if bad.name in str(item.message)), ""), folder)
    tables = sorted(str(path.relative_to(folder / "run")) for path in (folder / "run").rglob("bad_images.csv"))
    named = bool(tables) and bad.name in (folder / "run" / tables[0]).read_text()
    cell = f"**{len(steps)} of {STEPS} steps**; in {', '.join(tables) or 'no file'}: {'' if named else 'not '}named"
    cell += f"; warning: “{said}”" if said else ""
    return {"steps": len(steps), "named": named, "said": said, "cell": cell}


def deep_png(side, folder):
    """Ramps over all 65,536 values, grey and RGB; the truth is value / 257."""
    import numpy as np

    ramp = np.arange(65536, dtype=">u2").reshape(256, 256)
    for name, values in (("grey", ramp), ("rgb", np.repeat(ramp[..., None], 3, axis=-1))):
        (folder / name).mkdir()
        colour = 0 if name == "grey" else 2
        png(folder / name / "a.png", 256, 256, 16, colour, (row.tobytes() for row in values))
    truth = ramp.astype("float64") / 257
    figures, parts = {"truth": float(truth.mean())}, []
    for reader, read in deep_readers(side).items():
        for name in ("grey", "rgb"):
            pixels = np.asarray(read(folder, name), "float64")
            mean, worst = float(pixels.mean()), float(np.abs(pixels - truth[..., None]).max())
            figures[f"{reader} {name}"] = {"mean": mean, "worst": worst}
            parts.append(f"{reader}, {name}: **{mean:.1f}** (true {truth.mean():.1f}), worst pixel off by {worst:.1f}")
    return figures | {"cell": "; ".join(parts)}


def deep_readers(side):
    """{name: function of (folder, class folder)} -> (256, 256, 3)."""
    if side == "ours":
        from isra_keras.data.decode import decode_image

        return {"`decode_image`": lambda folder, name: decode_image(folder / name / "a.png")}
    import keras

    def from_directory(folder, name):
        images = keras.utils.image_dataset_from_directory(
            folder, image_size=(256, 256), batch_size=2, shuffle=False, verbose=False
        )  # fmt: skip
        return next(iter(images))[0][["grey", "rgb"].index(name)]

    def load_img(folder, name):
        return keras.utils.img_to_array(keras.utils.load_img(folder / name / "a.png"))

    return {"`image_dataset_from_directory`": from_directory, "`load_img`": load_img}


def bomb(side, folder):
    """Growth of the process's largest resident size, and what is said."""
    source = photos(folder / "source")
    path = source / CLASSES[0] / "huge.png"
    png(path, SIDE, SIDE, 1, 0, (bytes(SIDE // 8) for _ in range(SIDE)))
    count = sum(1 for _ in source.rglob("*.*")) - 1
    read = bomb_stock if side == "stock" else bomb_ours
    read(photos(folder / "warm"))  # what any reading costs is no part of it
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        arrived, said = read(source)
    except Exception as error:
        arrived, said = 0, error_text(error, folder)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    said = quote(said, folder)
    size = path.stat().st_size
    figures = {"bytes": size, "grown_mb": round(grown, 1), "arrived": arrived, "said": said, "good": count}
    words = f"“{said}”" if said else "nothing is said"
    return figures | {"cell": f"{size:,} bytes of PNG take **{grown:,.0f} MiB**; {arrived} images arrive "
                              f"({count} others in the folder); {words}"}  # fmt: skip


def bomb_stock(folder):
    return sum(len(labels) for _, labels in dataset(folder)), ""


def bomb_ours(folder):
    from isra_keras.data.pairs import evaluation_dataset
    from isra_keras.data.tasks import folder_task

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        task = folder_task(str(folder), str(folder))
        arrived = sum(len(batch["indices"]) for batch in evaluation_dataset(task.source, BATCH, SIZE, None))
    return arrived, next((str(item.message) for item in caught), "")
