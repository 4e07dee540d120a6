"""What a benchmark runs: `Cell`s, from the command line or from a file. Loads neither Keras nor TensorFlow."""

import json
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from isra_keras.data.image_list import is_list, list_name
from isra_keras.errors import UserError

OFF = "off"
FOLDERS = "folders"
"""Dataset of a user's own two folders of images."""
VARIANTS = ("reference", "paper")
SEMANTIC = {"off": (OFF,), "on": VARIANTS, "both": (OFF, *VARIANTS), "reference": ("reference",), "paper": ("paper",)}
"""{--semantic: states of the plug-in}."""

GRID_NAMES = {"dataset", "methods", "tasks", "seeds", "semantic", "set"}
FIXED = {
    "dataset",
    "source",
    "target",
    "task",
    "method",
    "semantic",
    "variant",
    "seed",
    "source_dir",
    "target_dir",
    "data_dir",
    "distribute",
    "sync_batch_norm",
}


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        dataset: protocol's name, or `FOLDERS`.
        task: short name, "Ar-Cl"; of folders their names, "catalogue-photos".
        method: key of `METHODS`.
        isra: "off", or the variant of the plug-in on top: "reference", "paper".
        seed: int.
        given: values of `TrainConfig` that differ from the recipe, as sorted (name, JSON text) pairs.
    """

    dataset: str
    task: str
    method: str
    isra: str = OFF
    seed: int = 0
    given: tuple = field(default=())

    @property
    def key(self):
        """What makes two cells the same, a text."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @property
    def row(self):
        """(method, isra)."""
        return self.method, self.isra

    @property
    def overrides(self):
        """{name: value} of `given`."""
        return {name: json.loads(text) for name, text in self.given}

    @property
    def folder(self):
        """A name for files of this cell."""
        import hashlib

        digest = hashlib.sha256(self.key.encode()).hexdigest()[:8]
        if self.dataset == FOLDERS:
            return f"{self.method}-{self.isra}-seed{self.seed}" + (f"-{digest}" if self.given else "")
        return f"{self.dataset}-{self.task}-{self.method}-{self.isra}-{self.seed}-{digest}"

    def to_dict(self):
        """JSON form."""
        return asdict(self) | {"given": self.overrides}

    @classmethod
    def from_dict(cls, values):
        """The cell of `to_dict`."""
        return cls(**{**values, "given": as_given(values.get("given", {}))})


def as_given(values):
    """{name: value} as the hashable `Cell.given`."""
    return tuple(sorted((name, json.dumps(value, sort_keys=True)) for name, value in values.items()))


def make_cells(dataset, methods="all", tasks="all", seeds=1, semantic="both", overrides=None):
    """All cells of a grid: seeds outermost, then tasks, then methods, so that early results cover every row.

    Args:
        dataset: protocol's name, any spelling.
        methods: "all", or names.
        tasks: "all", or task names in any spelling ("Ar-Cl", "A2W").
        seeds: number of seeds from 0, or a list of them.
        semantic: key of `SEMANTIC`, or a list of them.
        overrides: {name: value} of `TrainConfig`.

    Returns:
        List of `Cell`.

    Raises:
        UserError: unknown names (lists the valid ones), no seed, a value that the grid itself sets.

    Example:
        >>> len(make_cells("office_caltech10_features", ["ba3us"], "all", 2, "both"))
        72
    """
    from isra_keras.data.tasks import protocol_of, resolve_task_name, task_name, task_names

    name = protocol_of(dataset).name
    chosen = (
        task_names(name)
        if _is_all(tasks)
        else [task_name(name, *resolve_task_name(name, one)) for one in _names(tasks)]
    )
    return _product(name, chosen, methods, seeds, semantic, overrides)


def folder_cells(source_dir, target_dir, methods="all", seeds=1, semantic="both", overrides=None):
    """As `make_cells`, for a user's own two folders or lists."""
    ends = (Path(folder).resolve() for folder in (source_dir, target_dir))
    task = "-".join(list_name(end) if is_list(end) else end.name for end in ends)
    return _product(FOLDERS, [task], methods, seeds, semantic, overrides)


def folders_id(source_dir, target_dir):
    """What tells two pairs of folders apart, without saying where they are."""
    import hashlib

    text = "\n".join(str(Path(folder).resolve()) for folder in (source_dir, target_dir))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _product(dataset, tasks, methods, seeds, semantic, overrides):
    states = _states(semantic)
    given = as_given(_checked(overrides or {}))
    cells = [Cell(dataset, task, method, state, seed, given)
             for seed in _seeds(seeds) for task in tasks for method in _methods(methods) for state in states]  # fmt: skip
    return list(dict.fromkeys(cells))


def read_grid(path):
    """Cells of a TOML or JSON file.

    The file holds `dataset`, and what it wants of `methods`, `tasks`, `seeds`, `semantic` and `set` (a table of values
    over the recipe's), or a list `grid` of such tables; values beside `grid` hold for all of its tables,
    where they have no such value of their own; of `set`, each value by itself.

    Raises:
        UserError: if it can't be read or has other names in it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise UserError(f"Expected a grid in '{path}', TOML or .json; it can't be read ({error}).") from error
    if not isinstance(content, dict):
        raise UserError(f"Expected a table in '{path}'; received {type(content).__name__}.")
    common = {name: value for name, value in content.items() if name != "grid"}
    cells, parts = [], content.get("grid", [{}])
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        raise UserError(f"Expected 'grid' in '{path}' to be a list of tables, [[grid]] in TOML; received {parts!r}.")
    for part in parts:
        values = common | part
        unknown = sorted(set(values) - GRID_NAMES)
        if unknown or "dataset" not in values:
            wrong = f"received {unknown[0]!r}" if unknown else "'dataset' is missing"
            raise UserError(f"Expected in '{path}' only {', '.join(sorted(GRID_NAMES))}; {wrong}.")
        values["overrides"] = values.pop("set", {})
        if not isinstance(values["overrides"], dict):
            raise UserError(f"Expected 'set' in '{path}' to be a table of values; received {values['overrides']!r}.")
        if isinstance(common.get("set"), dict) and isinstance(part.get("set"), dict):
            values["overrides"] = common["set"] | part["set"]
        cells += make_cells(**values)
    return list(dict.fromkeys(cells))


def check_data(cells, data_dir=None, folders=None, task=None):
    """Looks for the data of all cells before the first one starts, and checks the values that the user gave.

    Args:
        cells: list of `Cell`.
        data_dir: where datasets lie, or None for the environment's.
        folders: (source, target) of a user's own, or None.
        task: their `Task`; None reads them.

    Raises:
        UserError: a dataset is missing: says where to get it; an impossible value of --set; a batch that the folders are
            too small for.
    """
    from isra_keras.data.locate import data_roots, find_domain, find_feature_file
    from isra_keras.data.tasks import folder_task, protocol_of, resolve_task_name

    if folders and cells:
        check_configurations(cells, data_dir, folders, task or folder_task(*folders))
        return
    check_configurations(cells, data_dir)
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        protocol = protocol_of(dataset)
        if protocol.name == "glyphs":
            continue
        roots = data_roots(protocol, data_dir)
        if protocol.kind == "features":
            find_feature_file(protocol, roots)
        elif protocol.name != "imagenet_caltech":  # its folders have a form of their own, which its loader checks
            tasks = dict.fromkeys(cell.task for cell in cells if cell.dataset == dataset)
            for domain in dict.fromkeys(name for task in tasks for name in resolve_task_name(dataset, task)):
                find_domain(protocol, domain, roots)


def cell_config(cell, data_dir=None, folders=None):
    """The resolved `TrainConfig` of a cell.

    A dataset's is unguarded unless --set says otherwise, so that tables show each method as it is; a user's own run is as
    `train` would do it.
    """
    from isra_keras.data.tasks import resolve_task_name
    from isra_keras.training.recipes import resolve

    if cell.dataset == FOLDERS:
        data = {"source_dir": folders[0], "target_dir": folders[1]}
    else:
        data = dict(zip(("source", "target"), resolve_task_name(cell.dataset, cell.task))) | {"dataset": cell.dataset}
    unguarded = {} if cell.dataset == FOLDERS else {"guard": False}
    values = unguarded | cell.overrides | data | {"method": cell.method, "seed": cell.seed, "data_dir": data_dir,
                                      "semantic": cell.isra != "off"}  # fmt: skip
    return resolve(**values, variant=cell.isra if cell.isra != "off" else None)


def check_configurations(cells, data_dir, folders=None, task=None):
    """Refuses before the first cell what every cell, or the last one, would be refused for."""
    from isra_keras.training.prepare import check_task

    for cell in {replace(cell, seed=0): cell for cell in cells if folders or cell.given}.values():
        config = cell_config(cell, data_dir, folders)
        if task is not None:
            check_task(task, config, "--set batch_size", " Add --set batch_size={}.")


def _is_all(value):
    return value == "all" or value == ["all"]


def _names(value):
    """A list of names from a list or from "a,b"."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        hint = ' Did you mean "both", or "off"?' if isinstance(value, bool) else ""
        raise UserError(f'Expected names, as in "a,b" or ["a", "b"]; received {value!r}.{hint}')
    return [name.strip() for name in names if name.strip()]


def _methods(value):
    from isra_keras.methods import METHODS  # loads no method

    if _is_all(value):
        return list(METHODS)
    names = [name.lower().replace("-", "_") for name in _names(value)]
    for name in names:
        if name not in METHODS:
            raise UserError(f"Expected --methods to be all or some of {', '.join(METHODS)}; received {name!r}.")
    if not names:
        raise UserError("Expected at least one method; received none.")
    return names


def _states(semantic):
    names = _names(semantic)
    for name in names:
        if name not in SEMANTIC:
            raise UserError(f"Expected --semantic to be one of {', '.join(SEMANTIC)}; received {name!r}.")
    return list(dict.fromkeys(state for name in names for state in SEMANTIC[name]))


def _seeds(value):
    numbers = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(number, bool) or not isinstance(number, int) for number in numbers):
        raise UserError(f"Expected --seeds as a number of seeds, or a list of them in a file; received {value!r}.")
    seeds = list(range(value)) if isinstance(value, int) else list(value)
    if not seeds or min(seeds) < 0:
        raise UserError(f"Expected at least one seed, none below 0; received {value!r}.")
    return seeds


def _checked(overrides):
    from dataclasses import fields

    from isra_keras.training.config import TrainConfig

    valid = {item.name for item in fields(TrainConfig)} - FIXED
    for name in overrides:
        if name not in valid:
            raise UserError(f"Expected --set to name one of {', '.join(sorted(valid))}; received {name!r}.")
    return overrides
