"""What a search folder holds, read and written without KerasTuner: the manifest, the trials, the best one."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from isra_keras.errors import UserError
from isra_keras.training.checkpoint import is_disk_full, write_text
from isra_keras.training.config import TrainConfig
from isra_keras.training.prepare import check_outside
from isra_keras.training.record import folder_lock
from tuning import space as spaces
from tuning.objectives import ORACLE, parse_objective

MANIFEST = "search.json"
MAY_CHANGE = ("max_trials", "data_dir", "keep_checkpoints")
"""The newest command's values are kept: a data folder may move."""


@dataclass
class Row:
    """One trial for a table.

    Attributes:
        trial_id: text, ascending in the order of their start.
        status: "RUNNING", "COMPLETED", "FAILED".
        values: {name: value}.
        score: mean objective over seeds, or None.
        metrics: {name: mean over seeds}.
        outcomes: one `Outcome` as dict for each seed.
        seconds: of all seeds.
        reason: why it failed.
    """

    trial_id: str
    status: str
    values: dict
    score: float | None = None
    metrics: dict = field(default_factory=dict)
    outcomes: list = field(default_factory=list)
    seconds: float = 0.0
    reason: str = ""

    @property
    def budget(self):
        """Hyperband's number of evaluations, None elsewhere."""
        return self.values.get("tuner/epochs")


def read_rows(folder):
    """[`Row`] of a search folder, oldest first; a file that is being written is passed over."""
    rows = []
    for path in Path(folder).glob("trial_*/trial.json"):
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            rows.append(_row(path.parent, state))
        except (OSError, ValueError, KeyError):
            continue
    return sorted(rows, key=lambda row: int(row.trial_id))


def _row(folder, state):
    values = state["hyperparameters"]["values"]
    row = Row(state["trial_id"], state["status"], values, state["score"], reason=reason(folder, state))
    for path in sorted(folder.glob("seed*.json"), key=lambda path: int(path.stem[4:])):
        row.outcomes.append(json.loads(path.read_text(encoding="utf-8"))["outcome"])
    row.seconds = sum(item["seconds"] for item in row.outcomes)
    if row.outcomes:
        from tuning.trial_metrics import mean_metrics

        row.metrics = mean_metrics(row.outcomes)
    return row


def reason(folder, state):
    """The sentence that ended a failed trial; the worker's note, as KerasTuner's messages don't travel by gRPC."""
    if state["status"] not in ("FAILED", "INVALID"):
        return ""
    note = Path(folder) / "failure.txt"
    text = note.read_text(encoding="utf-8") if note.is_file() else state.get("message") or "unknown"
    return text.strip().splitlines()[-1]


def best_row(rows, direction):
    """The best completed trial (of Hyperband's: of the largest budget that was reached), None if there is none."""
    done = [row for row in rows if row.status == "COMPLETED" and row.score is not None]
    if not done:
        return None
    largest = max(row.budget or 0 for row in done)
    done = [row for row in done if (row.budget or 0) == largest]
    return (min if direction == "min" else max)(done, key=lambda row: row.score)


def fingerprint(task):
    """{"classes", "source", "target"}: names, sizes and a SHA-256 of what a task holds, without the target's labels."""
    parts = {"classes": len(task.class_names)}
    for side, domain in (("source", task.source), ("target", task.target)):
        digest = hashlib.sha256()
        if side == "source":
            digest.update(np.ascontiguousarray(domain.labels).tobytes())
        if domain.arrays is not None:
            digest.update(np.ascontiguousarray(domain.arrays).tobytes())
        else:
            digest.update("\n".join(f"{Path(path).name} {_size(path)}" for path in domain.paths).encode())
        parts[side] = f"{len(domain)} samples, {digest.hexdigest()[:12]}"
    return parts


def _size(path):
    """Bytes of a file, so that other pictures under the same names are told apart; None where it is gone."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


def manifest(config, space, search):
    """What decides a search, as JSON values.

    Args:
        config: base `TrainConfig`.
        space: tuple of `Parameter`.
        search: {"tuner", "objective", "seeds", "max_trials", "search_seed"}.
    """
    return {"search": dict(search), "space": spaces.describe(space), "config": asdict(config)}


def is_spent(folder, max_trials):
    """Whether the search has noted that there is nothing more to try, though fewer than so many trials were run."""
    try:
        state = json.loads((Path(folder) / "oracle.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return state.get("spent_at", 0) >= max_trials


def check_manifest(folder, wanted):
    """Refuses a folder that holds another search; writes the manifest where there is none, and what may change.

    A search of which no trial has begun is no obstacle: it takes the place of that one, as data or options that its
    command was refused for can be corrected only so. What is there is changed under the lock alone: workers that start
    later go by it.

    Raises:
        UserError: names what differs, or the folder holds something that is no search, or is none, or can't be written,
            or lies among the images, or another process works in it.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"Expected --out to be a folder; '{folder}' is a file. Take another --out.")
        _take_folder(folder, path, wanted)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(
            f"Expected to write in the folder '{folder}'; the system refused: {error.strerror}. Take another --out."
        ) from error


def _take_folder(folder, path, wanted):
    """`check_manifest`, after its first look."""
    if not path.is_file():
        held = [item.name for item in folder.iterdir() if not item.name.startswith(".")] if folder.is_dir() else []
        if held:
            raise UserError(
                f"Expected --out '{folder}' to be a search or empty; it holds {', '.join(sorted(held)[:4])}."
            )
        check_outside(folder, TrainConfig(**wanted["config"]))
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(wanted, indent=2) + "\n")
        return
    saved, wanted = read_manifest(folder), json.loads(json.dumps(wanted))
    if differences(saved, wanted) and not has_begun(folder):
        with folder_lock(folder):
            (folder / "oracle.json").unlink(missing_ok=True)
            write_text(path, json.dumps(wanted, indent=2) + "\n")
        return
    _refuse_another(folder, saved, wanted)
    moved = {name: wanted["config"][name] for name in MAY_CHANGE if name in wanted["config"]}
    fresh = saved | {"search": wanted["search"], "config": saved["config"] | moved}
    if fresh != saved:
        with folder_lock(folder):
            write_text(path, json.dumps(fresh, indent=2) + "\n")


def has_begun(folder):
    """Whether a search has trials."""
    return any(Path(folder).glob("trial_*"))


def check_worker(folder, wanted, patience):
    """A worker's `check_manifest`: waits for the chief's manifest and writes nothing.

    Args:
        folder: search folder.
        wanted: `manifest` of the worker's own command.
        patience: seconds to wait.

    Returns:
        dict of the chief's manifest.

    Raises:
        UserError: there is none after that time, or it is of another search (names what differs).
    """
    saved = _await(folder, "search", patience)
    _refuse_another(folder, saved, json.loads(json.dumps(wanted)))
    return saved


def check_worker_data(folder, data, patience):
    """A worker's `add_data`: waits for the chief's fingerprint and writes nothing.

    Raises:
        UserError: there is none after `patience` seconds, or it is of other data (names what differs).
    """
    _refuse_other_data(folder, _await(folder, "data", patience)["data"], data)


def _await(folder, name, patience):
    """The manifest, once the chief has written that part of it."""
    ends = time.monotonic() + patience
    while True:
        saved = read_manifest(folder) if (Path(folder) / MANIFEST).is_file() else {}
        if name in saved:
            return saved
        if time.monotonic() > ends:
            raise UserError(
                f"Expected the chief's {MANIFEST} in '{folder}' to name its {name}; it does not after {patience:g} s. "
                "Start the chief with the same --out, a folder that all machines see, then this worker."
            )
        time.sleep(0.5)


def _refuse_another(folder, saved, wanted):
    names = differences(saved, wanted)
    if names:
        raise UserError(
            f"Expected the search in '{folder}' to have the same space, data and settings; differing: "
            f"{'; '.join(names[:6])}{' …' if len(names) > 6 else ''}. Repeat its command to go on with it, or take "
            "another --out."
        )


def read_manifest(folder):
    """dict of search.json.

    Raises:
        UserError: if it is missing or broken.
    """
    path = Path(folder) / MANIFEST
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"Expected a search in '{folder}'; '{path}' is missing or broken ({error}).") from error


def add_data(folder, data):
    """Notes the data's fingerprint, or refuses other data once a trial has begun.

    Raises:
        UserError: names what differs.
    """
    saved = read_manifest(folder)
    if "data" not in saved or not has_begun(folder):
        write_text(Path(folder) / MANIFEST, json.dumps(saved | {"data": data}, indent=2) + "\n")
        return
    _refuse_other_data(folder, saved["data"], data)


def _refuse_other_data(folder, saved, data):
    names = differences(saved, data, "data")
    if names:
        raise UserError(
            f"Expected the data of the search in '{folder}'; differing: {'; '.join(names)}. Take another --out."
        )


def differences(saved, wanted, prefix=""):
    """["space.num_topics.values [8, 16] -> [8]", ...] of two nested dicts; a "data" that only one has is no difference."""
    names = []
    for key in sorted({*saved, *wanted}):
        label = f"{prefix}.{key}" if prefix else key
        one, other = saved.get(key), wanted.get(key)
        if key in MAY_CHANGE or one == other or label == "data":
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            names += differences(one, other, label)
        else:
            names.append(f"{label} {_short(one)} -> {_short(other)}")
    return names


def _short(value):
    if value is None:
        return "(not there)"
    return "(there)" if isinstance(value, dict) else str(value)


def objective_of(folder):
    """`SearchObjective` of a search folder."""
    return parse_objective(read_manifest(folder)["search"]["objective"])


def accuracy_of(row):
    """Mean accuracy over seeds of the evaluations that the runs selected without labels, None without labels."""
    return row.metrics.get(ORACLE)
