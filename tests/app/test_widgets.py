"""Texts of anybody's in Markdown."""

import html

import pytest

from app.widgets import escaped


@pytest.mark.parametrize("text", ["a ~~b~~ c", "*a* _b_ `c`", "[a](b)", "![a](b)", "<b>a</b> &amp;", "# a | b", "a\\*b", "$$a$$", "é 猫 ~"])
def test_names_are_taken_literally(text):
    """"~~b~~" was crossed out."""
    reader = pytest.importorskip("markdown_it").MarkdownIt().enable("strikethrough").enable("table")
    shown = reader.renderInline(f"**{escaped(text)}**, 1 %")
    assert shown == f"<strong>{html.escape(text)}</strong>, 1 %"
