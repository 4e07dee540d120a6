"""Everything that is checked before a run writes its first byte; loads neither Keras nor TensorFlow."""

import os
import shutil
from contextlib import contextmanager

from isra_keras.errors import UserError
from isra_keras.training.checkpoint import write_text
from isra_keras.training.config import TrainConfig
from isra_keras.training.record import folder_lock

LOCK_FILES = {".lock", ".owner"}
MOVED = {"data_dir", "keep_checkpoints", "distribute"}
"""What may change between the sessions of a run."""
FOLDERS = {"source_dir", "target_dir"}


def check_folder(out, config, resume):
    """Refuses to overwrite, and to resume something else; more iterations are no other run.

    Raises:
        UserError: the folder holds something, or its config.json differs from `config`.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"Expected --out to be a folder; '{out}' is a file.")
    inside = [path.name for path in out.iterdir() if path.name not in LOCK_FILES] if out.is_dir() else []
    if not inside:
        check_outside(out, config)
        return
    if not resume:
        raise UserError(
            f"Expected --out '{out}' to be empty or missing; it holds {len(inside)} entries. Take another folder, or "
            "pass --resume to go on with the run in it."
        )
    if "config.json" not in inside:
        raise UserError(f"Expected a run in '{out}' to resume; there is no config.json in it.")
    saved = TrainConfig.load(out / "config.json")
    names = differences(saved, config)
    if names:
        told = ", ".join(f"{name} {getattr(saved, name)!r} -> {getattr(config, name)!r}" for name in names[:4])
        raise UserError(
            f"Expected the configuration of the run in '{out}'; received another one ({told}). Leave these "
            "options out to resume, or take another --out."
        )


def check_outside(out, config):
    """Refuses a run or search folder among the user's own images: its figures would be images of the next run, or a class.

    Raises:
        UserError: names the folder of images.
    """
    for name in sorted(FOLDERS):
        folder = getattr(config, name)
        if not folder or not os.path.isdir(folder):
            continue
        place, own = os.path.realpath(folder), os.path.realpath(out)
        if os.path.commonpath([place, own]) == place:
            raise UserError(
                f"Expected --out outside of the images; '{out}' lies in --{name.replace('_', '-')} '{folder}', where the run's "
                "figures would count as images next time. Name a folder elsewhere."
            )


OF_PARTS = ("multipliers", "part_momentum")


def differences(saved, config):
    """Names of the values that make a configuration another run than the saved one; a longer run is no other.

    Nor is one whose folders have moved: the old ones are gone, the new ones are there. `check_same_data` compares the files.
    """
    unused = OF_PARTS if saved.optimizer == config.optimizer == "adam" else ()  # older runs have them all the same
    names = [name for name, value in vars(saved).items() if name not in (*MOVED, *unused) and value != getattr(config, name)]
    if config.iterations > saved.iterations:
        names.remove("iterations")  # a run may be made longer, not shorter
    return [name for name in names if name not in FOLDERS or not _same_place(getattr(saved, name), getattr(config, name))]


def _same_place(one, other):
    """Whether two paths, however they are spelled, name one place, or the first is gone and the second there."""
    if not one or not other:
        return False
    return os.path.realpath(one) == os.path.realpath(other) or not os.path.exists(one) and os.path.exists(other)


def have_moved(out, config):
    """Whether the run's own folders are elsewhere now than its config.json says."""
    path = out / "config.json"
    if not path.is_file():
        return False
    saved = TrainConfig.load(path)
    return any(getattr(saved, name) != getattr(config, name) for name in FOLDERS)


def is_longer(out, config):
    """Whether the configuration has more iterations than the run in the folder had."""
    path = out / "config.json"
    return path.is_file() and config.iterations > TrainConfig.load(path).iterations


def load_data(config, quiet=False):
    """The `Task` that a configuration trains on; of features where its backbone is frozen (`quiet` hides their bar)."""
    from isra_keras.data import tasks

    if config.source_dir:
        task = tasks.folder_task(config.source_dir, config.target_dir, on_bad_image=config.on_bad_image)
    else:
        task = tasks.load_task(
            config.dataset, config.source, config.target, data_dir=config.data_dir, seed=config.data_seed,
            allow_incomplete=config.allow_incomplete, on_bad_image=config.on_bad_image,
        )  # fmt: skip
    return freeze(config, task, quiet) if config.freeze_backbone else task


def freeze(config, task, quiet=False):
    """The task with features in place of images; see `isra_keras.training.frozen`."""
    from isra_keras.training.frozen import frozen_task

    return frozen_task(config, task, quiet)


def check_task(task, config, option="--batch-size", advice=""):
    """Args:
        task, config: of a run.
        option: that sets the batch size. advice: for the end of the sentence; {} stands for the largest size.

    Raises:
        UserError: a batch of more samples than both domains have; names the smaller one.
    """
    side, domain = min((("source", task.source), ("target", task.target)), key=lambda pair: len(pair[1]))
    if len(domain) < config.batch_size:
        raise UserError(
            f"Expected {option} of at most {len(domain)}, the {side} domain '{domain.name}' has no more samples; "
            f"received {config.batch_size}.{advice.format(len(domain))}"
        )


@contextmanager
def prepared_folder(out, config, resume):
    """The folder, locked, with config.json; a folder that could not be prepared is removed again."""
    fresh = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Expected to make the folder '{out}'; the system refused: {error.strerror}.") from error
    with folder_lock(out):
        if resume and is_longer(out, config):
            (out / "result.json").unlink(missing_ok=True)
            write_text(out / "config.json", config.to_json())
        elif resume and have_moved(out, config):
            write_text(out / "config.json", config.to_json())
        if not resume or not (out / "config.json").is_file():
            check_folder(out, config, resume)  # again, now alone
            try:
                write_text(out / "config.json", config.to_json())
            except UserError:
                if fresh:
                    shutil.rmtree(out, ignore_errors=True)
                raise
        yield
