"""Pictures of maps: overlays, bars for backbones without a map."""

import functools
import os

import numpy as np

SHOWN = 448  # side in pixels of a shown image
FONT_SIZE = 20  # pixels


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


def feature_bars(attention, label="attention |dg/dx|", count=24):
    """The features that a topic attends to, as bars: for backbones without a convolutional map.

    Args:
        attention: (d,) >= 0.
        label: of the axis.
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
        axis.set_xlabel(label)
        axis.set_ylabel("bottleneck feature")
        axis.grid(False, axis="y")
        made.canvas.draw()
        return np.asarray(made.canvas.buffer_rgba())[..., :3].copy()


def side_by_side(pictures, captions, gap=8):
    """uint8 pictures in a row, each with a line of text below it, with white between them.

    Args:
        pictures: uint8 (h, w, 3) each.
        captions: a text for each; one that is wider than its picture ends in "…".
        gap: pixels between two pictures.
    """
    from PIL import Image, ImageDraw

    height, font = max(picture.shape[0] for picture in pictures), _font()
    width = sum(picture.shape[1] for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, height + 2 * FONT_SIZE), "white")
    draw, left = ImageDraw.Draw(sheet), 0
    for picture, caption in zip(pictures, captions):
        sheet.paste(Image.fromarray(picture), (left, 0))
        wide = picture.shape[1]
        middle = (left + wide // 2, height + FONT_SIZE)
        draw.text(middle, _fitting(caption, font, wide), fill="black", font=font, anchor="mm")
        left += wide + gap
    return np.asarray(sheet)


@functools.cache
def _font():
    """DejaVu Sans of matplotlib: Pillow's own font knows fewer letters, and class names come in any language."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), FONT_SIZE)


def _fitting(text, font, width):
    """The text in one line, shortened to so many pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
