"""Pictures of maps: overlays, bars for backbones without a map."""

import numpy as np

SHOWN = 448  # side in pixels of a shown image


def overlay(image, heat, opacity=0.5, size=SHOWN):
    """An image with a heat map over it: transparent where cold.

    Args:
        image: uint8 (h, w, 3).
        heat: (h', w') >= 0, or None for the image alone.
        opacity: of the hottest place, in [0, 1].
        size: longer side of the result in pixels.

    Returns:
        uint8 (height, width, 3).
    """
    from PIL import Image

    from isra_keras.analysis.attention_maps import upsample

    scale = size / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    sampling = Image.Resampling.NEAREST if scale > 4 else Image.Resampling.BICUBIC
    large = np.asarray(Image.fromarray(image).resize((width, height), sampling), "float32")
    if heat is None or not np.any(heat):
        return large.astype("uint8")
    warm = upsample(heat, (height, width))
    alpha = float(np.clip(opacity, 0, 1)) * warm[..., None]
    return np.clip((1 - alpha) * large + alpha * colours(warm), 0, 255).astype("uint8")


def colours(values):
    """Values in 0..1 -> float32 (..., 3) in 0..255 of a palette that colour-blind people can read."""
    from matplotlib import colormaps

    return (255 * colormaps["plasma"](values)[..., :3]).astype("float32")


def feature_bars(attention, count=24):
    """The features that a topic attends to, as bars: for backbones without a convolutional map.

    Args:
        attention: (d,) >= 0.
        count: bars.

    Returns:
        uint8 (height, width, 3).
    """
    from isra_keras.analysis import style

    attention = np.asarray(attention, "float32")
    best = np.argsort(-attention, kind="stable")[:count]
    with style.figure(4.5, 4.5) as (made, axis):
        axis.barh(np.arange(len(best))[::-1], attention[best], color=style.BLUE, height=0.75)
        axis.set_yticks(np.arange(len(best))[::-1], [str(index) for index in best], fontsize=7)
        axis.set_xlabel("attention |dg/dx|")
        axis.set_ylabel("bottleneck feature")
        axis.grid(False, axis="y")
        made.canvas.draw()
        return np.asarray(made.canvas.buffer_rgba())[..., :3].copy()


def side_by_side(pictures, gap=8):
    """uint8 pictures of one height in a row, with white between them."""
    height = max(picture.shape[0] for picture in pictures)
    space = np.full((height, gap, 3), 255, "uint8")
    parts = []
    for picture in pictures:
        padded = np.full((height, picture.shape[1], 3), 255, "uint8")
        padded[: picture.shape[0]] = picture
        parts += [padded, space]
    return np.concatenate(parts[:-1], axis=1)
