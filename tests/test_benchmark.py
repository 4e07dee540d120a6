"""The verb `benchmark`: a grid from the command line to tables; passes over what is done; goes on after a kill."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from isra_keras import benchmark, cli, predict
from isra_keras.benchmarking import own_data
from isra_keras.benchmarking.choosing import describe_choices
from isra_keras.benchmarking.votes import pack
from isra_keras.data.domain import Domain
from isra_keras.errors import UserError
from tests.benchmarking.lines import line
from tests.benchmarking.small_features import GIVEN, write_features

SET = [
    part for name, value in (GIVEN | {"deterministic": False}).items() if name != "iterations"
    for part in ("--set", f"{name}={json.dumps(value)}")
]  # fmt: skip
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def command(out, data, *more):
    return ["--dataset", "pacs_features", "--tasks", "A-C", "--out", str(out), "--data-dir", data, *SET, *more]


@pytest.fixture
def in_process(monkeypatch):
    """Cells run here, one after the other: nothing is said of the pool (tests/benchmarking/test_pool.py)."""
    from isra_keras.benchmarking import pool
    from isra_keras.benchmarking.cell import run_cell

    def run_cells(cells, jobs, settings, on_message, on_tick):
        for cell in cells:
            done = run_cell(cell, settings["data_dir"], settings["work"], folders=settings["folders"])
            on_message(SimpleNamespace(cell=cell, started=time.monotonic()), ("done", done))

    monkeypatch.setattr(pool, "run_cells", run_cells)


def test_from_grid_to_report(tmp_path, capfd, monkeypatch, in_process):
    data, out = write_features(tmp_path), tmp_path / "r.jsonl"
    few = command(out, data, "--methods", "source_only", "--semantic", "off", "--iterations", "12")
    assert cli.run(benchmark.main, few) == 0
    monkeypatch.undo()  # the pool again
    first = out.read_text()
    more = command(
        out, data, "--methods", "source_only,ba3us", "--semantic", "off,paper", "--iterations", "12", "--jobs", "2"
    )
    assert cli.run(benchmark.main, more) == 0
    assert out.read_text().startswith(first) and len(out.read_text().splitlines()) == 4, (
        "the finished cell did not run again"
    )
    assert "[3/3]" in capfd.readouterr().err
    assert (
        cli.run(
            benchmark.main, ["--report", str(out), "--out", str(tmp_path / "R.md"), "--csv", str(tmp_path / "R.csv")]
        )
        == 0
    )
    text = (tmp_path / "R.md").read_text()
    assert "| BA3US + ISRA (paper) |" in text and "Oracle selection" in text
    assert cli.run(benchmark.main, ["--choose", str(out)]) == 0
    assert "A-C, seed 0" in capfd.readouterr().out


def test_a_failed_cell_is_recorded_and_tried_again(tmp_path, capfd):
    data, out = write_features(tmp_path), tmp_path / "r.jsonl"
    args = command(out, data, "--methods", "source_only", "--semantic", "off", "--set", "batch_size=400", "--quiet")
    assert cli.run(benchmark.main, args) == 1
    (entry,) = [json.loads(row) for row in out.read_text().splitlines()]
    assert entry["status"] == "failed" and "UserError: Expected --batch-size" in entry["reason"]
    assert "FAILED" in capfd.readouterr().err
    assert cli.run(benchmark.main, [*args, "--skip-failed"]) == 0
    assert len(out.read_text().splitlines()) == 1
    assert cli.run(benchmark.main, ["--report", str(out), "--out", str(tmp_path / "R.md")]) == 2


def test_goes_on_after_a_kill(tmp_path, in_process):
    data, out = write_features(tmp_path), tmp_path / "r.jsonl"
    args = command(out, data, "--methods", "source_only", "--semantic", "off", "--iterations", "12", "--seeds", "3")
    environment = {**os.environ, "PYTHONPATH": ROOT, "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.Popen([sys.executable, "-m", "isra_keras.benchmark", *args], env=environment,
                               stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 90
    while not out.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(out.read_text().splitlines())
    with open(out, "a") as file:
        file.write('{"format": 1, "cell": {"data')  # as if the kill had cut a line off
    assert cli.run(benchmark.main, [*args, "--quiet"]) == 0
    seeds = [json.loads(row)["cell"]["seed"] for row in out.read_text().splitlines()]
    assert seeds == [0, 1, 2] and done >= 1


@pytest.fixture
def own_folders(tmp_path):
    """(three classes, photos of two of them), told apart by colour."""
    draw = np.random.default_rng(0)
    for folder, names in (("catalogue", ("blue", "green", "red")), ("photos", ("green", "red"))):
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
            for index in range(6):
                pixels = draw.integers(0, 120, (40, 40, 3), dtype="uint8")
                pixels[..., ("red", "green", "blue").index(name)] += 100
                Image.fromarray(pixels).save(tmp_path / folder / name / f"{index}.png")
    return ["--source-dir", str(tmp_path / "catalogue"), "--target-dir", str(tmp_path / "photos")]


SMALL = {"backbone": "small_cnn", "weights": "none", "image_size": 40, "crop_size": 32, "batch_size": 6, "feature_dim": 8,
         "num_topics": 4, "warmup": 0.0, "iterations": 4, "eval_interval": 2, "deterministic": False}  # fmt: skip


def test_all_on_my_own_folders_and_which_to_trust(own_folders, tmp_path, monkeypatch, capfd, in_process):
    monkeypatch.chdir(tmp_path)
    given = [part for name, value in SMALL.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    args = [*own_folders, "--methods", "source_only,ba3us", "--semantic", "off", *given]
    assert cli.run(benchmark.main, args) == 0
    said = capfd.readouterr().out
    (row,) = re.findall(r"Take (.*), seed 0: best of 2 sound candidates by ensemble", said)
    folder = re.search(r"predict (\S+) PHOTOS", said)[1]
    assert Path(folder).name.startswith({"Source only": "source_only", "BA3US": "ba3us"}[row])
    assert cli.run(predict.main, [folder, own_folders[3], "--out", "rows.csv"]) == 0
    assert len(Path("rows.csv").read_text().splitlines()) == 13
    assert sorted(path.name for path in Path(folder).iterdir() if path.suffix == ".keras")[0] == "model.keras"
    before = Path("runs/benchmark/catalogue-photos.jsonl").read_text()
    assert "catalogue" not in before.replace("catalogue-photos", ""), "lines name no path but the run's"
    assert len({json.loads(row)["target_files"] for row in before.splitlines()}) == 1
    assert cli.run(benchmark.main, args) == 0
    assert capfd.readouterr().out.endswith(said), "nothing runs twice"
    assert "folders changed" not in said
    (photo,) = Path("photos/red").glob("3.png")
    photo.rename("photos/red/9.png")
    assert cli.run(benchmark.main, args) == 0
    assert "2 of 2 models were trained before the folders changed (target: others, or other names)" in capfd.readouterr().out
    Path("photos/red/9.png").rename(photo)
    assert benchmark.main(["--choose", "runs/benchmark/catalogue-photos.jsonl"]) == 0
    assert f"Take {row}, seed 0" in capfd.readouterr().out
    assert benchmark.main(["--report", "runs/benchmark/catalogue-photos.jsonl", "--out", "R.md"]) == 0
    others = tmp_path / "others"
    others.mkdir()
    shutil.copytree("catalogue", others / "catalogue"), shutil.copytree("photos", others / "photos")
    with pytest.raises(UserError, match="those of others"):
        benchmark.main(["--source-dir", str(others / "catalogue"), "--target-dir", str(others / "photos")])


def test_workers_are_told_what_was_said_of_the_folders(own_folders, tmp_path, monkeypatch):
    from isra_keras.benchmarking import pool

    (tmp_path / "photos" / "red" / "notes.heic").touch()
    given = []
    monkeypatch.setattr(pool, "run_cells", lambda cells, jobs, settings, *rest: given.append(settings) or 1 / 0)
    with pytest.warns(UserWarning, match="1 file with another ending") as warned, pytest.raises(ZeroDivisionError):
        benchmark.main([*own_folders, "--methods", "source_only", "--set", "batch_size=6", "--out", str(tmp_path / "r.jsonl")])
    assert given[0]["said"] == [str(one.message) for one in warned]


def test_without_labels_no_accuracy_is_shown_and_a_collapsed_model_is_not_taken():
    rows = [line("a-b", "source_only", dataset="folders", accuracies=(None,), entropies=(0.5,), agreements=(1.0,)),
            line("a-b", "ba3us", dataset="folders", accuracies=(None,), entropies=(0.1,), agreements=(0.0,))]  # fmt: skip
    text = describe_choices(rows)
    assert "Take Source only, seed 0" in text and "accuracy" not in text


def test_with_three_sound_models_the_one_that_agrees_with_their_vote_is_taken():
    rows = [line("a-b", name, dataset="folders", entropies=(value,), accuracies=(None,), agreements=(agrees,))
            | {"run": f"runs/my {name}", "vote": pack(10, classes)}
            for name, value, agrees, classes in (("source_only", 0.5, 1.0, [0, 1, 2, 3]), ("afn", 0.3, 0.9, [0, 1, 2, 2]),
                                                 ("san", 0.1, 0.1, [9, 9, 9, 9]), ("drcn", 0.2, 0.9, [0, 0, 0, 2]))]  # fmt: skip
    said = describe_choices(rows)
    assert "Take AFN, seed 0: of 3 that vote it agrees most with their vote." in said and "| 100% |" in said
    assert "python -m isra_keras.predict 'runs/my afn' PHOTOS" in said
    assert "predict 'runs/my afn' --with 'runs/my source_only' --with 'runs/my drcn' PHOTOS" in said
    scratch = [row | {"config": row["config"] | {"backbone": "small_cnn", "weights": "none"}} for row in rows]
    assert "of 3 that vote" in describe_choices(scratch[1:]), "a backbone from scratch may leave its warm-up behind"
    beside = describe_choices(scratch)  # but hardly the finished source-only model
    assert beside.count("of the predictions agree with source labels alone") == 1 and "Take AFN, seed 0: of 3" in beside
    two = describe_choices(rows[:3])
    assert "--with" not in two and "Take AFN, seed 0: best of 2 sound" in two, "two can only agree or not"
    older = [{name: value for name, value in row.items() if name != "vote"} for row in rows]
    assert "Take DRCN, seed 0: best of 3 sound" in describe_choices(older) and "vote" not in describe_choices(older)


def test_of_many_sound_models_the_more_trusted_half_and_source_only_vote():
    rows = [line("a-b", name, dataset="folders", entropies=(value,), accuracies=(None,)) | {"run": f"runs/{name}", "vote": pack(10, [0, 1])}
            for name, value in (("source_only", 0.9), ("afn", 0.1), ("drcn", 0.2), ("etn", 0.3), ("san", 0.4), ("pada", 0.5),
                                ("iwan", 0.6), ("cdan", 0.7))]  # fmt: skip
    for row in rows:  # the entropy alone tells whom to trust
        row["evaluations"]["scores"] = {"mean_entropy": row["evaluations"]["scores"]["mean_entropy"]}
    said = describe_choices(rows)
    assert said.endswith("predict runs/afn --with runs/drcn --with runs/etn --with runs/san --with runs/pada --with runs/source_only PHOTOS")
    assert "Or let these 6 vote" in said and said.count("| 100% |") == 6 and said.count("| sound |") == 8


def test_collapsed_models_have_no_part_in_who_votes():
    """Beside one of them, which may not vote, another had the better mean rank."""
    values = {"shot": (0.01, 0.99), "afn": (0.02, 0.98), "drcn": (0.03, 0.97), "etn": (0.04, 0.96), "pada": (0.3, 0.8),
              "iwan": (0.1, 0.7), "san": (0.2, 0.1), "source_only": (0.9, 0.05)}  # fmt: skip
    rows = [line("a-b", name, dataset="folders", entropies=(entropy,), accuracies=(None,), agreements=(0.0 if name == "san" else 1.0,))
            | {"run": f"runs/{name}", "vote": pack(10, [0, 1])} for name, (entropy, _) in values.items()]  # fmt: skip
    for row, (entropy, bnm) in zip(rows, values.values()):
        row["evaluations"]["scores"] = {"mean_entropy": [entropy], "bnm": [bnm]}
    said = describe_choices(rows)
    assert said.count("| sound |") == 7 and "6 of 7 sound models vote, those that the scores trust more and source only" in said
    assert "--with runs/pada" in said and "--with runs/iwan" not in said


def voters(*votes):
    """Lines of sound models on own folders with these predictions, a method each."""
    return [line("a-b", name, dataset="folders", entropies=(0.2,), accuracies=(None,)) | {"vote": pack(10, classes)}
            for name, classes in zip(("source_only", "afn", "drcn", "etn"), votes)]  # fmt: skip


def test_models_that_agree_as_much_are_named():
    """Before, source only's hundred per cent beside the chosen model's were left for the table to tell."""
    said = describe_choices(voters([0, 1], [0, 0], [0, 1]))
    assert "agrees most with their vote; DRCN, seed 0 agrees as much, with no better scores." in said
    assert "DRCN, seed 0 and AFN, seed 0 agree as much" in describe_choices(voters([0, 1], [0, 1], [0, 1]))
    assert "as much" not in describe_choices(voters([0, 1, 1], [0, 1, 0], [0, 0, 1]))


@pytest.mark.parametrize("digests, left", [("aabb", 2), ("abbb", 1), ("bbbb", 0), ("--bb", 0), ("a--b", 1), ("----", 0)])
def test_only_models_on_the_photos_of_the_newest_vote(digests, left):
    """Before, photos added between two calls were a ValueError, and exchanged ones were compared with each other."""
    rows = [row | ({} if digest == "-" else {"target_files": digest})
            for row, digest in zip(voters([0, 1], [0, 1], [0, 1], [1, 1]), digests)]  # fmt: skip
    said = describe_choices(rows)
    assert (f"Left out: {left} of 4 models, whose target had other photos" in said) == bool(left)
    assert said.count(", seed 0 |") == 4 - left and ("let these" in said) == (left < 2)


def of_folders(task, folders, *names):
    """Lines of models on own folders, told apart by an id and by their photos."""
    return [line(task, name, dataset="folders", accuracies=(None,), entropies=(0.2,))
            | {"folders": folders, "target_files": folders, "data": {"classes": [2, folders]}} for name in names]  # fmt: skip


def test_a_choice_for_each_pair_of_folders():
    """The folders of the file that came last alone had one; the others' models were said to be of photos that had changed."""
    said = describe_choices(of_folders("a-b", "1", "source_only", "afn") + of_folders("c-d", "2", "san", "drcn"))
    assert said.count("best of 2 sound candidates") == 2 and "Left out" not in said
    assert said.index("**c-d**") < said.index("**a-b**"), "the newest first"
    changed = of_folders("c-d", "2", "etn")
    changed[0]["target_files"] = "before"
    said = describe_choices(changed + of_folders("a-b", "1", "afn") + of_folders("c-d", "2", "san", "drcn"))
    assert said.count("Take ") == 2 and said.count("Left out: 1 of 3 models") == 1


@pytest.mark.parametrize("option", ["--report", "--choose"])
def test_two_pairs_of_folders_of_one_name_are_not_mixed(tmp_path, monkeypatch, option):
    """The cells of the first file were lost without a word."""
    monkeypatch.chdir(tmp_path)
    for name in ("1", "2"):
        rows = of_folders("a-b", name, "source_only", "afn")
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    files = [str(tmp_path / "1.jsonl"), str(tmp_path / "2.jsonl")]
    with pytest.raises(UserError, match="'a-b' .* files of one pair"):
        benchmark.main([option, *files])
    assert benchmark.main(["--choose", files[0]]) == 0


def test_models_of_other_classes_do_not_vote():
    """Votes are numbers of classes: with a class more in the catalogue they would mean other ones."""
    rows = [row | {"data": {"classes": classes}} for row, classes in zip(
        voters([0, 1], [0, 1], [0, 1], [1, 1]), ([2, "a"], [3, "b"], [3, "b"], [3, "b"]))]  # fmt: skip
    assert "Left out: 1 of 4 models" in describe_choices(rows) and "Source only" not in describe_choices(rows)


def test_what_changed_in_the_folders_is_told():
    def task(names=("a", "b"), labels=(0, 1)):
        domain = Domain("photos", list(names), np.array(labels), arrays=np.zeros((len(labels), 2), "float32"))
        return SimpleNamespace(class_names=names, source=domain, target=domain)

    before = {"data": own_data.folder_facts(task())}
    assert own_data.changed_since([before], task()) is None
    said = own_data.changed_since([before, {}], task(("a", "b", "c"), (0, 1, 2)))
    assert said.startswith("1 of 2 models") and "classes: 2 then, 3 now; source: 2 then, 3 now; target" in said
    assert "source: others, or other names" in own_data.changed_since([before], task(labels=(1, 0)))
    assert "target: other photos" in own_data.changed_since([{"target_files": "abc"}], task()), "an older line"


@pytest.mark.parametrize("digests", ["----", "--bb", "bbbb"])
def test_models_on_another_number_of_photos_do_not_vote(digests):
    rows = [row | ({} if digest == "-" else {"target_files": digest})
            for row, digest in zip(voters([0, 1], [0, 1, 1], [0, 1, 1], [1, 1, 1]), digests)]  # fmt: skip
    said = describe_choices(rows)
    assert "Left out: 1 of 4" in said and "Source only" not in said and "let these 3 vote" in said


@pytest.mark.parametrize(
    "args, said",
    [
        ([], "--dataset, --source-dir"),
        (["--source-dir", "a"], "--source-dir with --target-dir"),
        (["--source-dir", "a", "--target-dir", "b", "--tasks", "A-C"], "no --dataset and --tasks"),
        (["--source-dir", "a", "--target-dir", "b"], "Expected a folder of images as source"),
        (["--dataset", "pacs_features", "--jobs", "0"], "--jobs of at least 1"),
        (["--dataset", "pacs_features", "--out", "r.md"], "end with .jsonl, or to be a folder"),
        (["grid.toml", "--dataset", "pacs_features"], "a file or the grid's options"),
        (["--dataset", "pacs_features", "--set", "batch_size"], "--set as NAME=VALUE"),
        (["--report", "missing.jsonl"], "can't be read"),
        (["--report", "a", "--choose", "b"], "--report or --choose; received both"),
        (["--report", "a", "--seeds", "3", "--jobs", "2"], "--report without --jobs, --seeds"),
        (["--choose", "a", "--out", "R.md"], "--choose without --out"),
        (["--dataset", "pacs_features", "--csv", "a.csv"], "--csv and --latex beside --report"),
        (["--dataset", "pacs_features", "--data-dir", "nowhere"], "Expected the dataset pacs_features"),
    ],
)
def test_refuses(args, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        benchmark.main(args)
    assert not list(tmp_path.iterdir())


def test_dry_run_lists_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "r.jsonl"
    out.write_text(json.dumps(line()) + "\n")
    assert benchmark.main(["--dataset", "pacs_features", "--methods", "ba3us", "--tasks", "A-C,A-P", "--semantic", "off",
                           "--out", str(out), "--dry-run"]) == 0  # fmt: skip
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["done", "to"] and len(list(tmp_path.iterdir())) == 1


def test_help_and_refusals_are_light():
    code = "import sys; from isra_keras import benchmark\n" \
           "try: benchmark.main(['--dataset', 'pacs_features', '--methods', 'x'])\n" \
           "except Exception: pass\nsys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'scipy')))"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_help_fits_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = benchmark.build_parser().format_help()
    assert max(map(len, text.splitlines())) <= 80, max(text.splitlines(), key=len)
