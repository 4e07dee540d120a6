"""Which runs there are to look at."""

from itertools import islice
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
    return max(found, key=lambda folder: (folder / "model.keras").stat().st_mtime)


def runs_below(root):
    """Folders with a model, at most two levels down, sorted by name."""
    root = Path(root)
    if not root.is_dir():
        return []
    models = (path for pattern in ("*/model.keras", "*/*/model.keras") for path in root.glob(pattern))
    return sorted(path.parent for path in islice(models, MOST_RUNS))


def other_runs(folder, against=None):
    """{name: folder} of runs that an image can be compared with: `against` and the neighbours of `folder`."""
    folder = Path(folder).resolve()
    found = [Path(against).resolve()] if against else []
    found += [path.resolve() for path in sorted(folder.parent.glob("*")) if (path / "model.keras").is_file()]
    names = {}
    for path in found[:MOST_RUNS]:
        if path != folder:
            names.setdefault(
                path.name if path.parent == folder.parent else str(path.parent.name) + "/" + path.name, path
            )
    return names
