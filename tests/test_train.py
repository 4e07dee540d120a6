"""The command line of train: its help, its run folder, seeds, a user's own folders, and everything that is wrong."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from isra_keras import cli, train
from isra_keras.training.prepare import check_folder
from isra_keras.training.recipes import resolve
from isra_keras.training.results import Choice
from tests.figures import no_figures  # noqa: F401
from tests.training.small_task import features_task

SMALL = ["--iterations", "4", "--eval-interval", "2", "--batch-size", "6", "--feature-dim", "8", "--num-topics", "4",
         "--no-deterministic", "--quiet"]  # fmt: skip
FOLDERS = ["--backbone", "small_cnn", "--image-size", "36", "--crop-size", "32"]


def call(*arguments):
    return cli.run(train.main, [str(argument) for argument in arguments])


@pytest.fixture
def tables(monkeypatch):
    """The features of `small_task` in place of a dataset."""
    from isra_keras.data import tasks

    monkeypatch.setattr(tasks, "load_task", lambda *args, **kwargs: features_task())
    return ["--dataset", "pacs_features", *SMALL]


def write_images(folder, names, count=4, seed=0):
    rng = np.random.default_rng(seed)
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = rng.integers(0, 80, (40, 48, 3))
            pixels[..., number % 3] += 150
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{name or 'x'}{index}.png")
    return folder


@pytest.fixture
def folders(tmp_path):
    """(source with classes cup, mug, pot; target with cup, mug; run folder that is not there yet)."""
    source = write_images(tmp_path / "shop", ["cup", "mug", "pot"])
    return source, write_images(tmp_path / "street", ["cup", "mug"], seed=1), tmp_path / "run"


def own(source, target, out, *more):
    return ["--source-dir", source, "--target-dir", target, "--out", out, *FOLDERS, *SMALL, *more]


# ---------------------------------------------------------------- what it does


def test_help_is_quick_and_loads_nothing_heavy():
    code = "import sys; from isra_keras.train import build_parser; build_parser(); print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"'tensorflow'", "'keras'", "'numpy'"} & set(modules.strip("[]\n").split(", "))
    seconds = []
    for _ in range(3):  # the best of three: others may use the machine
        started = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "isra_keras.train", "--help"], capture_output=True, text=True)
        seconds.append(time.monotonic() - started)
        assert done.returncode == 0 and "--source-dir" in done.stdout and "--resume" in done.stdout
    assert min(seconds) < 1


def test_help_explains_every_option_and_names_what_there_is_to_name():
    from isra_keras.methods import METHODS
    from isra_keras.selection import SCORES
    from isra_keras.train import build_parser

    parser = build_parser()
    bare = [action.option_strings[0] for action in parser._actions if action.option_strings and not action.help]
    assert not bare, bare
    text = " ".join(parser.format_help().split())
    assert all(name in text for name in [*METHODS, *SCORES])


def test_dry_run_prints_the_configuration_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "run"
    assert call("--dataset", "office_home", "--task", "Ar-Cl", "--num-topics", 7, "--out", out, "--dry-run") == 0
    text = capsys.readouterr().out
    assert "office_home: Art-Clipart" in text and "num_topics" in text and " 7" in text and "8000" in text
    assert not out.exists()


def test_given_values_reach_the_configuration(capsys):
    values = train.given_values(train.build_parser().parse_args(
        ["--method", "shot", "--option", "threshold=3", "--option", "diversity=true", "--no-semantic", "--recipe", "paper",
         "--dataset", "office31", "--task", "A2W", "--precision", "mixed_bfloat16"]))  # fmt: skip
    config = train.configuration(values, None, False)
    assert config.method_options["threshold"] == 3 and config.method_options["diversity"] is True
    assert (config.source, config.target, config.semantic) == ("amazon", "webcam", False)
    assert config.precision == "mixed_bfloat16" and config.recipe == "paper"


def test_run_folder_and_what_is_said(tables, tmp_path, capsys):
    out = tmp_path / "run"
    assert call(*tables, "--out", out) == 0
    text = capsys.readouterr().out
    assert "chosen without target labels" in text and "Upper bound: " in text and "Judged shared" in text
    assert f"python -m isra_keras.predict {out}" in text
    for name in ("config.json", "metrics.jsonl", "model.keras", "model.json", "result.json", "report/report.md",
                 "report/confusion.png", "report/curves.png"):  # fmt: skip
        assert (out / name).stat().st_size > 0
    assert list((out / "checkpoints").iterdir()) and list((out / "tensorboard").iterdir())
    assert json.loads((out / "config.json").read_text())["num_topics"] == 4
    assert call(*tables, "--out", out) == 2  # a second run does not overwrite it
    assert call("--out", out, "--resume", "--quiet") == 0  # what is given up is taken from the run


@pytest.mark.usefixtures("no_figures")
def test_seeds(tables, tmp_path, capsys):
    assert call(*tables, "--seeds", 2, "--out", tmp_path / "runs") == 0
    summary = json.loads((tmp_path / "runs" / "summary.json").read_text())
    results = [json.loads((tmp_path / "runs" / f"seed{s}" / "result.json").read_text()) for s in (0, 1)]
    values = [result["selected"]["accuracy"] for result in results]
    assert summary["seeds"] == [0, 1] and summary["accuracy"]["selected"]["values"] == values
    assert summary["accuracy"]["selected"]["mean"] == pytest.approx(np.mean(values))
    assert summary["accuracy"]["selected"]["std"] == pytest.approx(np.std(values, ddof=1))
    assert "over 2 seeds" in capsys.readouterr().out
    weights = [json.loads((tmp_path / "runs" / f"seed{s}" / "model.json").read_text())["class_weights"] for s in (0, 1)]
    assert weights[0] != weights[1]


@pytest.mark.usefixtures("no_figures")
def test_own_folders_with_a_labelled_and_an_unlabelled_target(folders, tmp_path, capsys):
    source, target, out = folders
    assert call(*own(source, target, out)) == 0
    assert json.loads((out / "result.json").read_text())["oracle"]["accuracy"] is not None
    flat = write_images(tmp_path / "loose", [""], count=9)
    (flat / "page.jpg").write_text("<html>not found</html>")
    with pytest.warns(UserWarning, match="page.jpg"):
        assert call(*own(source, flat, tmp_path / "second")) == 0
    result = json.loads((tmp_path / "second" / "result.json").read_text())
    assert result["oracle"] is None and result["samples"] == 9
    assert "The target has no labels" in capsys.readouterr().out


@pytest.mark.parametrize("labelled", [True, False])
def test_names_in_square_brackets_are_shown_as_they_are(tmp_path, capsys, labelled):
    """rich would take "[/new]" for the end of a style, and fail after hours of training."""
    names = ["[/new] bus", "[red]cup", ":cat:"]
    rows = [{"name": name, "count": int(labelled)} for name in names]
    (tmp_path / "model.json").write_text(json.dumps({"classes": rows}))
    choice = Choice(2, 0.5 if labelled else None, {"mean_entropy": 0.25})
    result = SimpleNamespace(out=tmp_path, oracle=choice if labelled else None, selected=choice, last=choice, samples=4,
                             select="mean_entropy", shared_classes=names[:2], class_weights=dict.fromkeys(names, 1.0),
                             seconds=1.0, steps_per_second=2.0, data_wait_share=0.1)  # fmt: skip
    train.show_result(result, {})
    text = " ".join(capsys.readouterr().out.split())
    assert "Judged shared: 2 of 3 classes: [/new] bus, [red]cup" in text
    assert ("missed :cat:" in text) == labelled
    train.show_configuration(resolve(source_dir=tmp_path / "[b]shop", target_dir=tmp_path / "[red]"))
    text = capsys.readouterr().out
    folded = "".join(text.split())
    assert "folders: [b]shop-[red]" in text and folded.count("[b]shop") == folded.count("[red]") == 2
    assert str(tmp_path) in folded and "…" not in text  # a long path is folded, not cut


def test_stopped_runs_say_how_to_go_on(tables, tmp_path, monkeypatch, capsys):
    from isra_keras.training import runner
    from isra_keras.training.interrupt import Interrupted

    def stopped(config, out, *args, **kwargs):
        raise Interrupted(15, 3, out)

    monkeypatch.setattr(runner, "run", stopped)
    assert call(*tables, "--out", tmp_path / "run") == 143
    assert f"--out {tmp_path / 'run'} --resume" in capsys.readouterr().err
    assert call(*tables, "--out", tmp_path / "runs", "--seeds", 2) == 143
    assert f"--out {tmp_path / 'runs'} --seeds 2 --resume" in capsys.readouterr().err


@pytest.mark.usefixtures("no_figures")
def test_stopped_seeds_go_on_with_the_configuration_of_the_first(tables, tmp_path, monkeypatch, capsys):
    """The printed command says nothing of what was trained; seed 1 has no folder yet when seed 0 is stopped."""
    from isra_keras.training import runner
    from isra_keras.training.interrupt import Interrupted

    def stopped(config, out, *args, **kwargs):
        out.mkdir(parents=True)
        (out / "config.json").write_text(config.to_json())
        raise Interrupted(15, 3, out)

    base = tmp_path / "runs"
    with monkeypatch.context() as patched:
        patched.setattr(runner, "run", stopped)
        assert call(*tables, "--out", base, "--seeds", 2, "--method", "source_only") == 143
    command = capsys.readouterr().err.strip().splitlines()[-1].split()
    assert call(*command[3:]) == 0
    assert "pacs_features" in capsys.readouterr().out  # the table shows what is trained
    configs = [json.loads((base / f"seed{seed}" / "config.json").read_text()) for seed in (0, 1)]
    assert [config.pop("seed") for config in configs] == [0, 1] and configs[0] == configs[1]
    assert configs[0]["method"] == "source_only" and configs[0]["iterations"] == 4
    assert len(json.loads((base / "summary.json").read_text())["accuracy"]["selected"]["values"]) == 2


def test_runs_of_own_folders_go_on_from_another_directory(folders, tmp_path, monkeypatch):
    source, target, out = folders
    monkeypatch.chdir(tmp_path)
    given = train.given_values(train.build_parser().parse_args(["--source-dir", "shop", "--target-dir", "street"]))
    out.mkdir()
    (out / "config.json").write_text(train.configuration(given, None, False).to_json())
    monkeypatch.chdir(source)
    again = train.given_values(train.build_parser().parse_args(["--source-dir", "../shop/", "--target-dir", str(target)]))
    config = train.configuration(again, out, True)
    assert (config.source_dir, config.target_dir) == (str(source), str(target))
    check_folder(out, config, True)


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--backbone", "vgg"], ["resnet50", "small_cnn", "'vgg'"]),
        (["--backbone", "mobilenet_v2", "--weights", "no.weights.h5"], ["existing file", "no.weights.h5", "not there"]),
        (["--option", "nu=1"], ["mu", "'nu'"]),
    ],
)
def test_dry_run_checks_what_a_run_would(arguments, words, tmp_path, capsys):
    refused(capsys, tmp_path / "run", [*arguments, "--out", tmp_path / "run", "--dry-run"], *words)


def test_resume_of_what_is_not_there_starts_no_other_run(tables, folders, tmp_path, capsys):
    typo = tmp_path / "typo"
    for more in ([], ["--method", "shot"], ["--seeds", 2], ["--data-dir", tmp_path]):
        refused(capsys, typo, ["--out", typo, "--resume", *more], f"run in '{typo}'", "name the data", "--dataset")
    for number in range(2):
        (tmp_path / "many" / f"seed{number}").mkdir(parents=True)
        (tmp_path / "many" / f"seed{number}" / "config.json").write_text(resolve(seed=number).to_json())
    refused(capsys, typo, ["--out", tmp_path / "many", "--resume"], "holds 2 of seeds", "--seeds 2")
    refused(capsys, typo, ["--out", tmp_path / "many" / "seed0", "--resume", "--seeds", 2], "single run")
    assert call("--dataset", "glyphs", "--out", typo, "--resume", "--dry-run") == 0  # as `make demo` begins
    assert "glyphs" in capsys.readouterr().out


def test_seeds_that_differ_in_more_than_the_seed_are_not_summarised(tmp_path, capsys):
    for number, topics in enumerate((32, 16)):
        out = tmp_path / "runs" / f"seed{number}"
        out.mkdir(parents=True)
        (out / "config.json").write_text(resolve(seed=number, num_topics=topics).to_json())
    arguments = ["--out", tmp_path / "runs", "--resume", "--seeds", 2, "--quiet"]
    refused(capsys, tmp_path / "none", arguments, "in the seed alone", "'seed1'", "num_topics 32 and 16")


def refused(capsys, out, arguments, *words):
    """One sentence (or a few) on one line, exit code 2, nothing written."""
    capsys.readouterr()
    assert call(*arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "Traceback" not in error
    for word in words:
        assert str(word) in error, error
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--method", "magic"], ["ba3us", "iwan", "'magic'"]),
        (["--dataset", "mnist"], ["glyphs", "office_home", "mnist"]),
        (["--backbone", "vgg"], ["resnet50", "small_cnn", "vgg"]),
        (["--source", "Cubism"], ["printed", "handwritten", "Cubism"]),
        (["--task", "A-Z"], ["printed", "A"]),
        (["--task", "everything"], ["SOURCE-TARGET", "everything"]),
        (["--variant", "mine"], ["paper, reference"]),
        (["--precision", "float8"], ["float32, mixed_float16"]),
        (["--select", "accuracy"], ["mean_entropy"]),
        (["--option", "nu=1"], ["mu", "'nu'"]),
        (["--option", "nu"], ["NAME=VALUE"]),
        (["--learning-rate", "nan"], ["--learning-rate"]),
        (["--iterations", "0"], ["--iterations"]),
        (["--seed", "1", "--seeds", "2"], ["--seed or --seeds"]),
        (["--seeds", "0"], ["--seeds"]),
        (["--task", "P-H", "--source", "printed"], ["--task or --source"]),
        (["--source-dir", "a"], ["--source-dir and --target-dir"]),
        (["--source-dir", "a", "--target-dir", "b", "--dataset", "glyphs"], ["--dataset, or"]),
    ],
)
def test_unknown_and_impossible_options(arguments, words, tmp_path, capsys):
    refused(capsys, tmp_path / "run", [*arguments, "--out", tmp_path / "run", "--quiet"], *words)


def test_numbers_that_are_none_and_resume_without_a_folder(capsys):
    with pytest.raises(SystemExit) as caught:
        call("--iterations", "many")
    assert caught.value.code == 2 and "many" in capsys.readouterr().err
    assert call("--resume") == 2 and "--out with --resume" in capsys.readouterr().err


def test_missing_folders_and_datasets(folders, tmp_path, capsys):
    source, target, out = folders
    refused(capsys, out, own(tmp_path / "nowhere", target, out), tmp_path / "nowhere", "does not exist")
    refused(capsys, out, own(source, tmp_path / "nowhere", out), tmp_path / "nowhere", "target")
    arguments = ["--dataset", "office_home", "--data-dir", tmp_path / "none", "--out", out, "--quiet"]
    refused(capsys, out, arguments, tmp_path / "none")


def test_empty_class_and_unreadable_class(folders, capsys):
    source, target, out = folders
    (source / "vase").mkdir()
    refused(capsys, out, own(source, target, out), source / "vase", "holds none")
    (source / "vase" / "a.png").write_bytes(b"")
    refused(capsys, out, own(source, target, out), "'vase'", "empty")


def test_target_class_that_the_source_lacks(folders, capsys):
    source, target, out = folders
    write_images(target, ["kettle"])
    refused(capsys, out, own(source, target, out), "cup, mug, pot", "'kettle'")


def test_batch_larger_than_the_domain(folders, capsys):
    source, target, out = folders
    refused(capsys, out, own(source, target, out, "--batch-size", "9"), "at most 8", "target", "received 9")


def test_wrong_weights(folders, tmp_path, capsys):
    source, target, out = folders
    more = ["--backbone", "mobilenet_v2", "--weights"]
    refused(capsys, out, own(source, target, out, *more, tmp_path / "no.weights.h5"), "no.weights.h5")
    (tmp_path / "text.weights.h5").write_text("these are no weights")
    refused(capsys, out, own(source, target, out, *more, tmp_path / "text.weights.h5"), "text.weights.h5")


def test_out_below_a_file(tables, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    refused(capsys, tmp_path / "run", [*tables, "--out", tmp_path / "file" / "run"], "file/run")
    assert call(*tables, "--out", tmp_path / "file") == 2


LIMITED = """
import resource, sys
from isra_keras import cli, train
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
sys.exit(cli.run(train.main, sys.argv[1:]))
"""


@pytest.mark.usefixtures("no_figures")
def test_full_disk_then_space_is_made(folders, capsys):
    """A limit on the size of files stands for the disk; afterwards the same folder is finished by --resume."""
    source, target, out = folders
    arguments = [str(argument) for argument in own(source, target, out)]
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, timeout=240)
    assert done.returncode == 2, done.stderr[-2000:]
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("error: Expected") and str(out) in error and "bytes" in error and "--resume" in error
    assert not [path for path in out.rglob("*") if "part" in path.name or path.match("step_*.npz")]
    assert call("--out", out, "--resume", "--quiet") == 0 and (out / "model.keras").is_file()


@pytest.mark.usefixtures("no_figures")
def test_one_seed_has_a_summary_too(tables, tmp_path):
    assert call(*tables, "--seeds", 1, "--out", tmp_path / "runs") == 0
    assert json.loads((tmp_path / "runs" / "summary.json").read_text())["seeds"] == [0]
