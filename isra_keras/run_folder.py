"""Reading a finished run: its folder, its description, its network."""

import json
import os
import zipfile
from itertools import islice
from pathlib import Path

from isra_keras.errors import UserError


def load_run(run_dir):
    """Network and description of a finished run.

    Args:
        run_dir: run folder, or its model.keras.

    Returns:
        (keras.Model: images -> {"pooled", "features", "logits"}, dict of model.json).

    Raises:
        UserError: if the folder is missing, unfinished, holds several runs, or its model can't be read.
    """
    info, path = read_info(run_dir), run_folder(run_dir) / "model.keras"
    network = _load(path)
    classes = network.get_layer("classifier").output.shape[-1]
    if classes != len(info["class_names"]):
        raise UserError(
            f"Expected {classes} class names in '{path.with_suffix('.json')}', as many as the model has outputs; "
            f"received {len(info['class_names'])}."
        )
    return network, info


def load_semantic(run_dir):
    """Topics and receptors of a run with the semantic plug-in.

    Args:
        run_dir: run folder, or its model.keras.

    Returns:
        keras.Model, see `isra_keras.semantic.topic_network`; None for a run without the plug-in, or one that was
        trained before semantic.keras was kept.

    Raises:
        UserError: as `load_run`.
    """
    path = run_folder(run_dir) / "semantic.keras"
    return _load(path) if path.is_file() else None


def load_source_model(run_dir):
    """The network of a run as its warm-up left it, or a method's own stage on source labels alone.

    Args:
        run_dir: run folder, or its model.keras.

    Returns:
        keras.Model as that of `load_run`; None for a run without such a stage.

    Raises:
        UserError: as `load_run`.
    """
    path = run_folder(run_dir) / "source_model.keras"
    return _load(path) if path.is_file() else None


def _load(path):
    """A .keras file in safe mode: nothing in it is executed."""
    import keras

    import isra_keras.backbones
    import isra_keras.semantic  # noqa: F401  these register the layers

    if not zipfile.is_zipfile(path):  # of such a file Keras says that it is not there
        raise UserError(
            f"Expected a whole model file; '{path}' ({path.stat().st_size:,} bytes) can't be loaded: it was cut off or "
            "is something else. Copy it again; or remove result.json beside it and call `train --resume`, which writes "
            "both anew from the run's checkpoints."
        )
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # keras raises whatever the broken part raised
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"Expected a model saved by isra_keras; '{path}' can't be loaded: {reason}") from error


def run_folder(run_dir):
    """The folder of a run that has a model.

    Raises:
        UserError: if there is none.
    """
    folder = Path(os.path.expanduser(run_dir))
    if folder.name == "model.keras" and folder.is_file():
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"Expected a run folder; received '{run_dir}', which is not there. `train` makes one.")
    if not (folder / "model.keras").is_file():
        inside = sorted(path.parent.name for path in islice(folder.glob("*/model.keras"), 20))
        if inside:
            raise UserError(
                f"Expected one run; '{run_dir}' holds {len(inside)}: {', '.join(inside)}. Name one of them."
            )
        hint = "finish it with `train --resume`" if (folder / "config.json").is_file() else "name a folder of `train`"
        raise UserError(f"Expected model.keras in the run folder '{run_dir}'; it is not there: {hint}.")
    return folder


def read_info(run_dir):
    """dict of model.json, with at least "class_names".

    Raises:
        UserError: if it is missing or broken.
    """
    path = run_folder(run_dir) / "model.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        info["class_names"] = [str(name) for name in info["class_names"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"Expected '{path}' with the class names of the run; it is missing or broken ({error})."
        ) from error
    return {"image_size": None, "crop_size": None, "kind": "images", "class_weights": None} | info


def resized_to(info, shape):
    """Side of the square that a file is resized to before the centre crop.

    Args:
        info: dict of model.json. Where it holds no size, as in runs from before it always did, nothing tells whether
            more was cropped than is known: the crop's size, or the network's, is taken.
        shape: (height, width) that the network takes.
    """
    return info["image_size"] or info["crop_size"] or shape[0]
