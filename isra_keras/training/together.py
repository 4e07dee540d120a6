"""A run of several workers: all begin from what the chief has, and only the chief's folder stays."""

import json
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from isra_keras.errors import UserError
from isra_keras.training.config import TrainConfig
from isra_keras.training.distribution import failures
from isra_keras.training.prepare import check_folder

STATE = ("config.json", "metrics.jsonl", "result.json", "checkpoints/*.json", "checkpoints/*.npz")
"""What a run goes on from."""


@contextmanager
def together(distribution, config, out, resume):
    """Yields (config, folder) of this worker: the chief's own ones; for the others the chief's configuration and a
    scratch folder, in which they do the same as the chief, from the same state. So no worker has to see another's disk,
    and all take the same decisions, in the same order of collectives.

    Args:
        distribution: `Replicated`, of several workers.
        config, out, resume: as `run` takes them; the others' `out` is not looked at, their `data_dir` is kept.

    Raises:
        UserError: what the chief's folder is refused for, on all.
        WorkerLost: when another worker is gone.
    """
    with failures(distribution):
        chief = distribution.worker == 0
        opening = json.loads(distribution.from_chief(_opening(config, out, resume) if chief else b""))
        if opening["error"]:
            raise UserError(opening["error"])
        if chief:
            for name in opening["files"]:
                distribution.from_chief((out / name).read_bytes())
            yield config, out
            return
        with tempfile.TemporaryDirectory(prefix="isra-worker-") as scratch:
            for name in opening["files"]:
                path = Path(scratch) / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(distribution.from_chief())
            received = TrainConfig.from_json(opening["config"], "the chief's configuration")
            yield replace(received, data_dir=config.data_dir), Path(scratch)


def _opening(config, out, resume):
    """What the others must know first, as JSON bytes."""
    error, files = None, []
    try:
        check_folder(out, config, resume)
    except UserError as refused:
        error = str(refused)
    if resume and not error:
        files = sorted(str(path.relative_to(out)) for pattern in STATE for path in out.glob(pattern))
    return json.dumps({"error": error, "files": files, "config": config.to_json()}).encode()
