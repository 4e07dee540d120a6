"""Which runs there are to look at."""

import json
from pathlib import Path

from app.bundle import BUNDLED
from isra_keras.errors import UserError
from isra_keras.run_folder import run_folder

MOST_RUNS = 100


def choose_run(given=None, root="runs", bundled=BUNDLED):
    """The folder of the run to open: the given one, the newest finished one below `root`, or the bundled one.

    Raises:
        UserError: if there is none.
    """
    if given is not None:
        return run_folder(given)
    found = runs_below(root)
    if not found:
        if (Path(bundled) / "model.keras").is_file():
            return Path(bundled)
        raise UserError(
            f"Expected a finished run below '{root}'; there is none. `make demo` trains one in a minute or two; "
            "--run DIR opens one that lies elsewhere."
        )
    return found[0]


def runs_below(root):
    """Folders with a model of images, at most two levels down, the newest first."""
    root = Path(root)
    if not root.is_dir():
        return []
    models = (path for pattern in ("*/model.keras", "*/*/model.keras") for path in root.glob(pattern))
    newest = sorted(models, key=lambda path: (-path.stat().st_mtime, path))
    return [path.parent for path in newest if takes_images(path.parent)]


def takes_images(folder):
    """Whether a run is of images, as far as its model.json tells."""
    try:
        return json.loads((folder / "model.json").read_text(encoding="utf-8")).get("kind", "images") == "images"
    except (OSError, ValueError, AttributeError):
        return True  # whoever opens it says what is wrong


def other_runs(folder, against=None):
    """{name: folder} of runs that an image can be compared with: `against` and the neighbours of `folder`.

    Raises:
        UserError: if `against` is no run, or one on features.
    """
    folder = Path(folder).resolve()
    found = [run_folder(against).resolve()] if against else []
    if found and not takes_images(found[0]):
        raise UserError(f"Expected a run on images for --against; '{against}' was trained on precomputed features.")
    there = (path for path in sorted(folder.parent.glob("*")) if (path / "model.keras").is_file())
    found += [path.resolve() for path in there if takes_images(path)]
    names = {}
    for path in found[:MOST_RUNS]:
        if path != folder:
            names.setdefault(
                path.name if path.parent == folder.parent else str(path.parent.name) + "/" + path.name, path
            )
    return names
