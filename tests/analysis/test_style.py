"""Atomic writing of figures and text, and the fonts of names."""

import warnings

import pytest

from isra_keras.analysis import style


def test_failed_save_leaves_nothing(tmp_path):
    class Broken:
        def get_size_inches(self):
            return 4, 3

        def savefig(self, path, **kwargs):
            path.write_bytes(b"half")
            raise OSError("disk full")

    (tmp_path / "old.png").write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        style.save(Broken(), tmp_path / "old.png")
    assert (tmp_path / "old.png").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_huge_figures_have_fewer_pixels(tmp_path):
    """The confusion of a thousand classes took 3.7 GB at the end of a run."""
    from PIL import Image

    for size, expected in (((4, 3), (600, 450)), ((100, 36), (8333, 3000))):
        with style.figure(*size) as (made, _):
            style.save(made, tmp_path / "f.png", tight=False)
        with Image.open(tmp_path / "f.png") as image:
            assert image.size == expected


def test_figures_are_closed():
    import matplotlib.pyplot as plt

    with style.figure(2, 2) as (made, axis):
        axis.plot([1, 2])
        assert plt.get_fignums() == [made.number]
    assert plt.get_fignums() == []


def test_write_text(tmp_path):
    style.write_text(tmp_path / "a.md", "ü\n")
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == "ü\n" and len(list(tmp_path.iterdir())) == 1


def test_names_in_other_scripts_are_drawn_where_a_font_has_them(tmp_path):
    """All were the same box, whatever was installed."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib.font_manager import fontManager

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0)), pen.lineTo((0, 800)), pen.lineTo((900, 0)), pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "cat"]), font.setupCharacterMap({ord("猫"): "cat"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "cat": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "cat": (1000, 0)}), font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": style.FURTHER_FONTS[0], "styleName": "Regular"}), font.setupOS2(), font.setupPost()
    font.save(tmp_path / "font.ttf")
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "font.ttf")
    try:
        with warnings.catch_warnings(), style.figure(2, 2) as (made, axis):
            warnings.filterwarnings("error", "Glyph")
            axis.set_title("a 猫")
            style.save(made, tmp_path / "f.png")
    finally:
        fontManager.ttflist = before
