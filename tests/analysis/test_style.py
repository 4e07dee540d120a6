"""Atomic writing of figures and text."""

import pytest

from isra_keras.analysis import style


def test_failed_save_leaves_nothing(tmp_path):
    class Broken:
        def savefig(self, path, **kwargs):
            path.write_bytes(b"half")
            raise OSError("disk full")

    (tmp_path / "old.png").write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        style.save(Broken(), tmp_path / "old.png")
    assert (tmp_path / "old.png").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_figures_are_closed():
    import matplotlib.pyplot as plt

    with style.figure(2, 2) as (made, axis):
        axis.plot([1, 2])
        assert plt.get_fignums() == [made.number]
    assert plt.get_fignums() == []


def test_write_text(tmp_path):
    style.write_text(tmp_path / "a.md", "ü\n")
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == "ü\n" and len(list(tmp_path.iterdir())) == 1
