"""Any image backbone of keras-hub: `hub:<preset>`, e.g. `hub:hf://timm/resnet50.tv_in1k` for the paper's weights."""

import warnings

import keras

from isra_keras.backbones import preprocessing
from isra_keras.errors import UserError


def create(preset, image_shape, pretrained):
    """(normalisation layer, backbone) of a preset.

    Args:
        preset: name, `hf://…`, `kaggle://…` or the folder of a saved preset.
        image_shape: (height, width, 3).
        pretrained: load the preset's weights; False keeps fresh ones.

    Raises:
        UserError: if keras-hub is missing or the preset can't be loaded.
    """
    try:
        import keras_hub
    except ImportError as error:
        raise UserError(
            f"Expected keras-hub for backbone 'hub:{preset}'; it is not installed. Do: pip install -e '.[hub]'"
        ) from error
    if not preset:
        raise UserError("Expected hub:<preset>, e.g. hub:hf://timm/resnet50.tv_in1k; received an empty preset.")
    try:
        base = keras_hub.models.Backbone.from_preset(preset, load_weights=pretrained, image_shape=image_shape)
    except Exception as error:  # keras-hub, huggingface_hub and kagglehub raise whatever they like
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise UserError(
            f"Expected a keras-hub preset of an image backbone; '{preset}' can't be loaded: {reason} "
            "Check the name and the network connection, or pass the folder of a downloaded preset."
        ) from error
    return _normalisation(keras_hub, preset), base


def _normalisation(keras_hub, preset):
    """The preset's own scale and offset; ImageNet's means and deviations if it brings none."""
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except Exception:  # a preset without preprocessing
        warnings.warn(f"The preset '{preset}' does not say how its images are scaled; they are by ImageNet's means and deviations, "
                      "as torchvision and timm scale theirs. Weights that were trained otherwise predict badly.",
                      stacklevel=2)  # fmt: skip
        return preprocessing.torch()
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return keras.layers.Rescaling(_plain(scale), offset=_plain(offset), dtype="float32", name="normalisation")


def _plain(value):
    """Numbers that go into a config: float, or list of floats over the channels."""
    return [float(v) for v in value] if hasattr(value, "__len__") else float(value)
