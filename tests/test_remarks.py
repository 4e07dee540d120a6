"""predict --remarks: images unlike the source, answers less certain than usual; the default columns stay."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from isra_keras import cli, predict
from isra_keras.remarks import UNLIKE, UNSURE, Border, remarks
from tests.small_run import NAMES, make_run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run on colours whose target's answers are certain, with its data."""
    folder = tmp_path_factory.mktemp("remarks")
    for channel, name in enumerate(reversed(NAMES)):  # red, green, blue
        (folder / "data" / name).mkdir(parents=True)
        for index, others in enumerate(((10, 50), (50, 10), (30, 30))):
            colour = [*others[:channel], 220, *others[channel:]]
            Image.new("RGB", (40, 40), tuple(colour)).save(folder / "data" / name / f"{index}.png")
    run = make_run(folder / "run", image_size=32, entropy_quantiles=[0.0] * 19 + [0.5, 0.6])
    run.joinpath("config.json").write_text(json.dumps({"source_dir": str(folder / "data"), "target_dir": str(folder / "data")}))
    (folder / "new").mkdir()
    for name, colour in (("red", (220, 30, 30)), ("grey", (120, 120, 120))):  # the mean of its class, and of none
        Image.new("RGB", (40, 40), colour).save(folder / "new" / f"{name}.png")
    (folder / "new" / "broken.png").write_bytes(b"")
    return run


def test_what_is_said_of_a_row():
    border = Border(np.eye(2).repeat(3, axis=0), np.repeat([0, 1], 3), np.eye(2))
    info = {"entropy_quantiles": [0.0] * 19 + [0.5, 0.6]}
    features = np.array([[7.0, 0], [1, 1], [0, 1], [-1, 0]])
    assert remarks(info, np.array([0.1, 0.1, 0.55, 0.6]), features, border) == ["", UNLIKE, UNSURE, f"{UNLIKE}; {UNSURE}"]
    assert remarks(info, np.array([0.1, 0.55])) == ["", UNSURE] and remarks({}, np.array([9.0])) == [""]


@pytest.mark.parametrize("top_k", [1, 2])
def test_a_further_column(run_dir, tmp_path, capsys, top_k):
    command = [str(run_dir), str(run_dir.parent / "new"), "--top-k", str(top_k), "--quiet"]
    found = {}
    for more in ([], ["--remarks"]):
        assert cli.run(predict.main, [*command, "--out", str(tmp_path / "p.csv"), *more]) == 0
        with open(tmp_path / "p.csv", newline="") as file:
            found[bool(more)] = list(csv.reader(file))
    assert [row[:-1] for row in found[True]] == found[False] and "remarks" not in found[False][0]
    assert [row[-1] for row in found[True]] == ["remarks", "", f"{UNLIKE}; {UNSURE}", ""]  # broken, grey, red
    assert cli.run(predict.main, [*command, "--out", str(tmp_path / "p.jsonl"), "--remarks"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [row["remarks"] for row in rows] == ["", f"{UNLIKE}; {UNSURE}", ""]
    for name in ("p.csv", "p.jsonl"):
        assert cli.run(predict.main, [*command, "--out", str(tmp_path / name), "--resume"]) == 2
        assert "Use the options of the first call" in capsys.readouterr().err
        assert cli.run(predict.main, [*command, "--out", str(tmp_path / name), "--resume", "--remarks"]) == 0


def test_without_the_dataset_they_tell_less(run_dir, tmp_path, capsys):
    run = make_run(tmp_path / "run", image_size=32, entropy_quantiles=[0.0] * 19 + [0.5, 0.6])
    config = {"source_dir": str(tmp_path / "gone"), "target_dir": str(tmp_path / "gone")}
    (run / "config.json").write_text(json.dumps(config))
    grey = run_dir.parent / "new" / "grey.png"
    assert cli.run(predict.main, [str(run), str(grey), "--remarks", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1].endswith(f",{UNSURE}") and "nothing is said of images unlike the source" in said.err


@pytest.mark.parametrize(
    "more, said", [(["--remarks", "--with", "x"], "--remarks of one run"), (["--data-dir", "x"], "with --remarks")]
)
def test_options_that_do_not_fit(run_dir, capsys, more, said):
    assert cli.run(predict.main, [str(run_dir), str(run_dir.parent / "new"), *more]) == 2
    assert said in capsys.readouterr().err
