"""The console script `isra VERB …`, the same as `python -m isra_keras.VERB …`; loads nothing heavy itself."""

import errno
import importlib
import importlib.util
import json
import os
import re
import sys
import warnings
from contextlib import contextmanager

from isra_keras.errors import UserError
from isra_keras.quiet import quiet_tensorflow

VERBS = {
    "train": "train on a dataset or on two folders of images",
    "evaluate": "accuracy, per-class accuracy, confusion and label-free scores of a run",
    "predict": "a class for every image of a folder",
    "doctor": "what is installed, which devices, which datasets are found",
    "benchmark": "run a table of tasks and methods",
    "analyze": "figures of a run: embedding, similarity, attention",
    "tune": "search hyperparameters",
}

EXTRAS = {"keras_tuner": "tuning", "gradio": "app", "keras_hub": "hub"}
"""{package: the extra that installs it}."""


def named_value(text, option):
    """(name, value) of the "NAME=VALUE" of an option: ("mu", 4) of "mu=4"; a value that is no JSON is a text.

    Raises:
        UserError: no "=".
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise UserError(f"Expected {option} as NAME=VALUE; received '{text}'.")
    try:
        return name.strip().replace("-", "_"), json.loads(value)
    except ValueError:
        return name.strip().replace("-", "_"), {"None": None, "True": True, "False": False}.get(value, value)


def run(main, argv=None):
    """Calls a verb's `main` and turns what a user can mend into one sentence and an exit code.

    Args:
        main: function of `argv`, returns an exit code or None.
        argv: list of str, or None for `sys.argv[1:]`.

    Returns:
        int: what `main` returned, 2 after a `UserError` (3 if a loss is not finite) or a full disk, 130 after Ctrl-C.
    """
    speak_plainly()
    try:
        return int(main(argv) or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `isra predict … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"error: Expected {error.name}; it is not installed: pip install -e '.[{extra}]'.", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" at '{error.filename}'" if error.filename else ""
        print(
            f"error: Expected room on the disk; it is full{where}. Free some space, then run the command again.",
            file=sys.stderr,
        )
        return 2


def speak_plainly(said=()):
    """Warnings in a line, TensorFlow's start in none: of a command, and of every process that it starts.

    Args:
        said: texts of warnings that the user has read already.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for stream in (sys.stdout, sys.stderr):  # a path that is no UTF-8 is shown, not a reason to end
        if getattr(stream, "errors", None) == "strict":
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = _plain_warning
    for text in said:
        warnings.filterwarnings("ignore", re.escape(text), UserWarning)
    quiet_tensorflow()


@contextmanager
def remembered_warnings():
    """A list of the texts of all warnings that are shown meanwhile."""
    said, show = [], warnings.showwarning

    def show_and_remember(message, *rest, **more):
        said.append(str(message))
        show(message, *rest, **more)

    warnings.showwarning = show_and_remember
    try:
        yield said
    finally:
        warnings.showwarning = show


def _plain_warning(message, category, filename, lineno, line=None):
    """What the user should know in one line; other people's warnings say where they come from."""
    if category is UserWarning:
        return f"warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def dispatch(argv=None):
    """Runs the verb that is named first.

    Raises:
        UserError: unknown verb (lists the valid ones), or one whose module is not installed.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        print(version())
        return 0
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        raise UserError(f"Expected a verb of {', '.join(VERBS)}; received '{verb}'.")
    name = module_of(verb)
    if name is None:
        raise UserError(f"Expected the module of '{verb}'; it is not part of this installation.")
    return importlib.import_module(name).main(rest)


def module_of(verb):
    """Module that holds a verb's `main`, None if it is not installed."""
    candidates = {"tune": ("tuning.search", "isra_keras.tune")}.get(verb, (f"isra_keras.{verb}",))
    for name in candidates:
        try:
            if importlib.util.find_spec(name) is not None:
                return name
        except ModuleNotFoundError:  # the package around it is missing
            continue
    return None


def usage():
    """Text of `isra --help`."""
    lines = ["usage: isra VERB [options]     (isra VERB --help for a verb's options)", "", "verbs:"]
    lines += [f"  {verb:<10} {text}" for verb, text in VERBS.items()]
    return "\n".join(lines)


def version():
    """ "isra_keras 0.1.0", from the installed package."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return f"isra_keras {installed('isra_keras')}"
    except PackageNotFoundError:
        return "isra_keras (not installed)"


def main(argv=None):
    """Entry point of the console script."""
    return run(dispatch, argv)


if __name__ == "__main__":
    sys.exit(main())
