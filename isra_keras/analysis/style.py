"""One look for all figures: colours that colour-blind people can tell apart, no display needed, atomic saving."""

import os
from contextlib import contextmanager
from pathlib import Path

# Okabe & Ito, "Color Universal Design"
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY, DARK = "#CC79A7", "#56B4E9", "#B5B5B5", "#333333"
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
SEQUENTIAL = "Blues"
MOST_PIXELS = 25_000_000  # of a picture: drawing takes some 45 bytes for each

FURTHER_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "IPAexGothic", "NanumGothic",
    "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai",
)  # fmt: skip
"""Whichever of them are installed are asked for letters that matplotlib's own font lacks."""

SETTINGS = {
    "text.parse_math": False,  # a class may be called "$$"
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@contextmanager
def figure(width, height, rows=1, columns=1, **kwargs):
    """A figure in the house style, closed afterwards.

    Args:
        width, height: inches.
        rows, columns: of axes.
        **kwargs: for `plt.subplots`.

    Yields:
        (figure, axes): axes is one `Axes` or an array of them, as `plt.subplots` gives.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from cycler import cycler
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    fonts = ["DejaVu Sans", *(name for name in FURTHER_FONTS if name in installed)]
    with matplotlib.rc_context({**SETTINGS, "axes.prop_cycle": cycler(color=CYCLE), "font.family": fonts}):
        made, axes = plt.subplots(rows, columns, figsize=(width, height), **kwargs)
        try:
            yield made, axes
        finally:
            plt.close(made)


def save(made, path, dpi=150, tight=True):
    """Writes a figure beside its place and renames it, so that a reader never sees half a picture.

    Args:
        made: the figure.
        path: .png.
        dpi: of the picture; less where it would have more than `MOST_PIXELS`, as with a thousand classes.
        tight: cut to what is drawn, which draws it once more to measure it; False where the margins are known.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    width, height = made.get_size_inches()
    dpi = min(dpi, (MOST_PIXELS / (width * height)) ** 0.5)
    try:
        cut = {"bbox_inches": "tight", "pad_inches": 0.08} if tight else {}
        made.savefig(partial, dpi=dpi, format=path.suffix[1:], **cut)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path, text):
    """Writes a text file atomically (UTF-8; names of files that are none keep their bytes)."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def save_both(made, path):
    """`save` as .png and, beside it, as .svg."""
    path = Path(path)
    save(made, path)
    save(made, path.with_suffix(".svg"))


def short(name, limit=24):
    """A class name that fits beside an axis."""
    return name if len(name) <= limit else name[: limit - 1] + "…"
