"""Weights of a backbone: from a file, or fresh ones from a seed."""

import os
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np

from isra_keras.data.locate import ENVIRONMENT
from isra_keras.errors import UserError

SUFFIXES = (".weights.h5", ".h5", ".keras", ".npz")


def no_download(backbone, error):
    """The error for weights that can't be fetched, with the three ways out."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    return UserError(
        f"Expected to download the ImageNet weights of {backbone}; the download failed ({reason}). Do one of: "
        "(1) pass --weights FILE, a .weights.h5 or .keras file that you have; "
        "(2) pass --weights none and train from scratch; "
        "(3) pass --backbone hub:hf://timm/resnet50.tv_in1k (or another preset, or the folder of a downloaded one)."
    )


def load_file(base, path, backbone):
    """Loads a file into a backbone without top.

    Args:
        base: built keras.Model.
        path: relative to the working directory or to a folder of ISRA_DATA; .weights.h5 or .h5 of `base`'s structure;
            .keras of such a model, or of a whole network of this package, whose backbone is taken; .npz for
            `resnet50_torch` (a torchvision state dict).
        backbone: name for the error text.

    Raises:
        UserError: if the file is missing, of another kind, broken, or of another network.
    """
    path = find_file(path)
    expected = f"Expected weights of {backbone}: {describe(base.weights)}"
    try:
        with warnings.catch_warnings():  # a wrong file makes Keras warn once for each layer, then raise
            warnings.simplefilter("ignore")
            _load(base, path)
    except (ValueError, OSError, KeyError, TypeError, IndexError) as error:
        received = _describe_file(path) or _first_line(error)
        raise UserError(
            f"{expected}; received '{path.name}': {received}. Pass a file that was saved from this network "
            "without its top, or --weights none."
        ) from error


def find_file(path):
    """The `Path`, or the same below a data folder: a grid or a configuration can then go to another machine.

    Raises:
        UserError: if no file is there, or one of another ending.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_absolute() and not path.is_file():
        below = (Path(os.environ[name]) / path for name in ENVIRONMENT if os.environ.get(name))
        path = next((one for one in below if one.is_file()), path)
    if not path.is_file():
        raise UserError(
            f"Expected weights 'imagenet', 'none' or an existing file; received '{path}', which is "
            f"{'a folder' if path.is_dir() else 'not there'}."
        )
    if not str(path).endswith(SUFFIXES):
        raise UserError(f"Expected a weights file ending in {', '.join(SUFFIXES)}; received '{path.name}'.")
    return path


def _load(base, path):
    """Loads by suffix; raises whatever NumPy, h5py or Keras raise."""
    if path.suffix == ".npz":
        _load_state_dict(base, path)
    elif path.suffix == ".keras":
        saved = _backbone_of(keras.models.load_model(path, compile=False))
        if [tuple(v.shape) for v in saved.weights] != [tuple(v.shape) for v in base.weights]:
            raise ValueError(describe(saved.weights))
        base.set_weights(saved.get_weights())
    else:
        base.load_weights(path)


def describe(arrays):
    """ "260 arrays, 2,257,984 numbers, the first (3, 3, 3, 32)" of variables or arrays."""
    if not arrays:
        return "no arrays"
    numbers = sum(int(np.prod(a.shape)) for a in arrays)
    return f"{len(arrays)} arrays, {numbers:,} numbers, the first {tuple(arrays[0].shape)}"


def seed_kernels(model, seed):
    """Draws every kernel anew from its own initialiser with a seed, so that fresh weights depend on it alone."""
    for number, layer in enumerate(model._flatten_layers()):
        kernel = getattr(layer, "kernel", None)
        initializer = getattr(layer, "kernel_initializer", None) or getattr(layer, "depthwise_initializer", None)
        if initializer is None or not isinstance(kernel, keras.Variable):
            continue
        config = initializer.get_config()
        if "seed" in config:
            fresh = type(initializer).from_config({**config, "seed": (seed * 100_003 + number) % 2**31})
            kernel.assign(fresh(kernel.shape, kernel.dtype))


def _backbone_of(model):
    """The model itself, or the network inside its part named "backbone"."""
    if "backbone" not in [layer.name for layer in model.layers]:
        return model
    return next(layer for layer in model.get_layer("backbone").layers[::-1] if layer.weights)


def _load_state_dict(base, path):
    """Copies the arrays of a torchvision state dict (name -> array) into `resnet50_torch`."""
    from isra_keras.backbones.resnet50_torch import from_state_dict

    with np.load(path, allow_pickle=False) as arrays:
        from_state_dict(base, {name: arrays[name] for name in arrays.files})


def _describe_file(path):
    """What arrays an HDF5 or npz file holds; "" if it can't be read as one."""
    found = []
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = [arrays[name] for name in arrays.files]
        elif path.suffix == ".h5":
            import h5py

            def visit(name, item):
                if isinstance(item, h5py.Dataset) and item.shape != ():
                    found.append(np.broadcast_to(np.float32(0), item.shape))

            with h5py.File(path, "r") as file:
                file.visititems(visit)
        elif not zipfile.is_zipfile(path):
            return "a file that is no Keras archive"
    except Exception:
        return "a file that can't be read"
    return describe(found) if found else ""


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
