"""`python -m app.bundle RUN`: makes a run the one that the app opens where there is no other (`make bundle`)."""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from isra_keras.cli import run as run_cli
from isra_keras.run_folder import read_info, run_folder

BUNDLED = Path(__file__).resolve().parent / "bundled"
FILES = ("model.keras", "semantic.keras", "model.json", "config.json", "result.json",
         "report/class_weights.png", "report/confusion.png")  # fmt: skip
"""What the app reads of a run; checkpoints and logs stay behind."""


def bundle(run_dir, folder=BUNDLED):
    """Copies what the app needs of a finished run; returns the bytes copied.

    Raises:
        UserError: if it is no finished run.
    """
    source, folder = run_folder(run_dir), Path(folder)
    read_info(source)
    size = 0
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle_") as made:
        fresh = Path(made) / folder.name
        for name in FILES:
            if (source / name).is_file():
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                size += Path(shutil.copyfile(source / name, fresh / name)).stat().st_size
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(fresh, folder)
    return size


def main(argv=None):
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.bundle", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="run folder")
    args = parser.parse_args(argv)
    print(f"{bundle(args.run):,} bytes of {args.run} in {BUNDLED}")
    return 0


if __name__ == "__main__":
    sys.exit(run_cli(main))
