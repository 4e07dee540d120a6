"""doctor: what it finds, what it misses, exit codes."""

import json
import re
import sys
import types

import pytest

from isra_keras import cli, doctor
from isra_keras.errors import UserError
from tests.data.made import tree


@pytest.fixture
def tasks(monkeypatch):
    """A fake `isra_keras.data.tasks` with one dataset that is there, one that misses and one that is incomplete."""

    def load_task(name, source, target, data_dir=None):
        if name == "absent" or (name == "partial" and source == "b"):
            raise UserError(f"Expected {name} in '{data_dir}'; it is not there. Get it from its authors.")
        paths = tuple(f"/d/{name}/{source}/{label}/1.jpg" for label in ("bike", "mug"))
        domain = type("D", (), {"paths": paths, "bad_images": (), "__len__": lambda self: 7})()
        return types.SimpleNamespace(source=domain, target=domain)

    fake = types.SimpleNamespace(
        DATASETS={"whole": 0, "absent": 0, "partial": 0}, domain_names=lambda name: ["a", "b"], load_task=load_task
    )
    import isra_keras.data

    monkeypatch.setitem(sys.modules, "isra_keras.data.tasks", fake)
    monkeypatch.setattr(isra_keras.data, "tasks", fake, raising=False)
    return fake


def run_json(capsys, *arguments):
    code = cli.run(doctor.main, ["--json", "--no-devices", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_healthy(tasks, capsys):
    code, report = run_json(capsys, "--data-dir", "here")
    assert code == 0 and report["healthy"]
    assert {row["name"] for row in report["packages"]} >= {"keras", "tensorflow", "tensorboard"}
    assert {row["name"] for row in report["resources"]} >= {"processors", "free disk here"}
    rows = {row["name"]: row for row in report["datasets"]}
    assert (
        rows["whole"]["status"] == "ok"
        and "a 7, b 7" in rows["whole"]["detail"]
        and rows["whole"]["detail"].endswith(" · /d/whole")  # the dataset's folder, none of a class
    )
    assert rows["absent"]["status"] == "missing" and "in 'here'" in rows["absent"]["detail"]
    assert rows["partial"]["status"] == "note"


def test_missing_package_is_not_healthy(tasks, capsys, monkeypatch):
    original = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("rich", "gradio") else original(name))
    code, report = run_json(capsys, "--dataset", "whole")
    rows = {row["name"]: row for row in report["packages"]}
    assert code == 1 and not report["healthy"] and len(report["datasets"]) == 1
    assert rows["rich"]["status"] == "missing" and "pip install rich" in rows["rich"]["detail"]
    assert rows["gradio"]["status"] == "note" and ".[app]" in rows["gradio"]["detail"]


def test_a_dataset_that_was_asked_for_is_needed(tasks, capsys):
    """ "Ready to train." of a dataset that is not there; of all datasets nobody has each."""
    for name, code in (("whole", 0), ("partial", 0), ("absent", 1)):
        found, report = run_json(capsys, "--dataset", name)
        assert (found, report["healthy"]) == (code, not code)


def test_every_dependency_is_looked_for():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(doctor.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    names = {re.split("[>=<\\[]", wish)[0] for wish in project["dependencies"]}
    assert names - {"importlib_resources"} == set(doctor.CORE)


def test_unknown_dataset(tasks, capsys):
    assert cli.run(doctor.main, ["--no-devices", "--dataset", "mnist"]) == 2
    assert "whole, absent, partial; received 'mnist'" in capsys.readouterr().err


def test_a_dataset_is_named_as_train_takes_it(tasks, capsys):
    _, report = run_json(capsys, "--dataset", "Whole")
    assert [row["name"] for row in report["datasets"]] == ["whole"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_unreadable_images_are_no_matching_dataset(tmp_path, monkeypatch):
    """ "ok, counts match: Art 2,426", one image less than the protocol's 2,427: the rest of a copy that was cut off."""
    import dataclasses

    from isra_keras.data import protocols

    few = {"bike": 2, "mug": 2}
    counts = {"amazon": (2, 2), "webcam": (2, 2)}
    small = dataclasses.replace(protocols.protocols()["office31"], domains={"amazon": "A", "webcam": "W"},
                                classes=tuple(few), shared=tuple(few), counts=counts)  # fmt: skip
    monkeypatch.setattr(protocols, "protocols", lambda: {"office31": small})
    monkeypatch.setattr("isra_keras.data.tasks.protocols", lambda: {"office31": small})
    for name in counts:
        tree(tmp_path / name, few)
    (row,) = doctor.check_datasets(str(tmp_path), ["office31"])
    assert row["status"] == "ok" and row["detail"] == f"counts match: amazon 4, webcam 4 · {tmp_path}"
    (tmp_path / "webcam/mug/0000.png").unlink()
    (tmp_path / "webcam/mug/0000.png").write_bytes(b"")
    (row,) = doctor.check_datasets(str(tmp_path), ["office31"])
    assert row["status"] == "note" and "webcam 4" in row["detail"] and "mug/0000.png (empty file)" in row["detail"]


def test_tables_for_people(tasks, capsys):
    assert doctor.main(["--no-devices"]) == 0
    text = capsys.readouterr().out
    assert "Installation" in text and "Datasets" in text and "Ready to train." in text


def test_devices():
    rows = doctor.check_devices()
    assert any(row["name"].startswith(("CPU", "GPU")) and row["status"] == "ok" for row in rows)


def test_python_versions(monkeypatch):
    for version, status in (((3, 10), "missing"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "note")):
        monkeypatch.setattr(sys, "version_info", version)
        assert doctor.check_python()["status"] == status
        monkeypatch.undo()


def test_an_address_is_shown_whole(capsys):
    """At 80 columns it was cut, and with it what was to be downloaded; brackets are no markup."""
    address = "https://example.org/" + "a-long-path/" * 12 + "file[/x].zip"
    row = {"name": "set", "status": "missing", "detail": f"Get it from {address}"}
    doctor._show({"python": row, "packages": [], "resources": [], "devices": [], "datasets": [row], "healthy": False})
    cells = [line.split("│")[3].strip() for line in capsys.readouterr().out.splitlines() if line.count("│") == 4]
    assert "".join(cells).replace(" ", "").count(address) == 2
