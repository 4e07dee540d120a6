"""The `isra` command: verbs, exit codes, and that asking for help loads nothing heavy."""

import errno
import os
import subprocess
import sys
import time
import warnings

import pytest

from isra_keras import cli
from isra_keras.errors import UserError


def raising(error):
    def main(argv):
        raise error

    return main


def test_exit_codes(capsys):
    assert cli.run(lambda argv: None) == 0 and cli.run(lambda argv: 1) == 1
    assert cli.run(raising(UserError("Expected a; received b."))) == 2
    assert capsys.readouterr().err == "error: Expected a; received b.\n"
    assert cli.run(raising(KeyboardInterrupt())) == 130
    assert cli.run(raising(OSError(errno.ENOSPC, "No space left on device", "out.csv"))) == 2
    assert "full at 'out.csv'" in capsys.readouterr().err
    assert cli.run(raising(ModuleNotFoundError("no", name="keras_tuner.src"))) == 2
    assert "pip install -e '.[tuning]'" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError):
        cli.run(raising(ModuleNotFoundError("no", name="ours")))
    with pytest.raises(PermissionError):
        cli.run(raising(PermissionError(errno.EACCES, "denied")))


def test_usage_and_unknown_verb(capsys):
    assert cli.main([]) == 0 and cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in cli.VERBS)
    assert cli.main(["fly"]) == 2
    assert "train, evaluate, predict, doctor, benchmark, analyze, tune; received 'fly'" in capsys.readouterr().err
    assert cli.main(["--version"]) == 0


def test_absent_module_is_told(capsys, monkeypatch):
    monkeypatch.setattr(cli, "module_of", lambda verb: None)
    assert cli.main(["tune"]) == 2
    assert "module of 'tune'" in capsys.readouterr().err
    monkeypatch.undo()
    assert cli.module_of("predict") == "isra_keras.predict"


def test_dispatch_hands_the_rest_on(monkeypatch):
    from isra_keras import predict

    seen = []
    monkeypatch.setattr(predict, "main", lambda argv: seen.append(argv) or 0)
    assert cli.main(["predict", "run", "a.jpg", "--quiet"]) == 0 and seen == [["run", "a.jpg", "--quiet"]]


@pytest.mark.parametrize("module", ["cli", "predict", "evaluate", "doctor"])
def test_help_is_light(module):
    code = (
        f"import sys; from isra_keras import {module} as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout and time.monotonic() - start < 5


def test_tensorflow_starts_without_noise(tmp_path):
    code = ("import sys; from isra_keras import cli; sys.exit(cli.run(lambda argv: __import__('tensorflow').constant(1) "
            "is None))")  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    quiet = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert quiet.returncode == 0 and quiet.stderr == ""


def test_processes_of_a_command_repeat_no_warning(monkeypatch):
    monkeypatch.setattr(cli, "quiet_tensorflow", lambda: None)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with cli.remembered_warnings() as said:
            warnings.warn("photos: 2 files (1 .txt)")
        cli.speak_plainly(said)
        warnings.warn("photos: 2 files (1 .txt)"), warnings.warn("photos: another")
        assert warnings.formatwarning("a", UserWarning, "file.py", 1) == "warning: a\n"
    assert [str(one.message) for one in caught] == ["photos: 2 files (1 .txt)", "photos: another"]


def test_silence_ends_with_an_error(capfd):
    from isra_keras.quiet import silent_stderr

    with pytest.raises(ValueError):
        with silent_stderr():
            os.write(2, b"lost")
            raise ValueError
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"
