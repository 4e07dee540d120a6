"""From the words of `train`'s command line to the configurations of its runs: new ones, or those that it goes on with."""

import copy
import os
import re
from dataclasses import replace
from pathlib import Path

from isra_keras.cli import named_value
from isra_keras.errors import UserError

RUN_ONLY = ("task", "option", "seeds", "out", "resume", "dry_run", "quiet")
NAMES_DATA = {"dataset", "source", "target", "source_dir", "target_dir"}


def given_values(args):
    """{name: value} of what the user gave, as `resolve` takes it.

    Raises:
        UserError: --task and --source together, an --option without "=".
    """
    values = {name: value for name, value in vars(args).items() if name not in RUN_ONLY and value is not None}
    if args.task:
        if args.source or args.target:
            raise UserError("Expected --task or --source and --target; received both.")
        from isra_keras.data.tasks import resolve_task_name
        from isra_keras.training.config import TrainConfig

        pair = resolve_task_name(args.dataset or TrainConfig.dataset, args.task)
        values |= dict(zip(("source", "target"), pair))
    if args.option:
        values["method_options"] = dict(named_value(text, "--option") for text in args.option)
    if (args.source_dir or args.target_dir) and (args.dataset or args.task or args.source or args.target):
        raise UserError("Expected --dataset, or --source-dir and --target-dir; received both.")
    return values


def configurations(given, out=None, resume=False, seeds=None):
    """The runs of a command.

    Args:
        given: of `given_values`.
        out: run folder, or the folder of the runs of several seeds; None for a free one below runs/.
        resume: go on with the runs in `out`; seeds that have none yet take the configuration of those that have.
        seeds: number of seeds, or None for one run.

    Returns:
        {run folder: `TrainConfig`}, at least one.

    Raises:
        UserError: impossible values; nothing to resume and no data named; runs that differ in more than the seed.
    """
    out = out and os.path.expanduser(out)
    if seeds is None:
        if resume and not (Path(out) / "config.json").is_file():
            _check_start(given, Path(out))
        config = configuration(given, out, resume)
        return {Path(out) if out else free_folder(config): config}
    started = started_seeds(Path(out)) if resume else []
    if resume and not started:
        _check_start(given, Path(out), seeds)
    if started:
        config = _of_all_seeds(given, started, seeds)
    else:
        config = configuration(given | {"seed": 0}, None, False)
    base = Path(out) if out else free_folder(config)
    return {base / f"seed{seed}": replace(copy.deepcopy(config), seed=seed) for seed in range(seeds)}


def started_seeds(base):
    """[(number, folder)] of the runs of seeds in a folder, by number."""
    found = ((re.fullmatch(r"seed(\d+)", path.parent.name), path.parent) for path in base.glob("seed*/config.json"))
    return sorted((int(match[1]), folder) for match, folder in found if match)


def _of_all_seeds(given, started, seeds):
    """The configuration of the first run that was started; the others must differ from it in the seed alone."""
    from isra_keras.training.config import TrainConfig
    from isra_keras.training.prepare import differences

    first = TrainConfig.load(started[0][1] / "config.json")
    for number, folder in started[1:]:
        saved = TrainConfig.load(folder / "config.json")
        names = differences(saved, replace(first, seed=saved.seed))
        if names and number < seeds:
            told = ", ".join(f"{name} {getattr(first, name)!r} and {getattr(saved, name)!r}" for name in names[:4])
            raise UserError(
                f"Expected the runs in '{folder.parent}' to differ in the seed alone; '{started[0][1].name}' and "
                f"'{folder.name}' have {told}. Remove the one that is wrong, or take another --out."
            )
    return configuration(given, started[0][1], True)


def _check_start(given, out, seeds=None):
    """Refuses to start the default run where the user meant one that is not there.

    Several workers are spared: only the first one's folder holds the run.
    """
    if given.get("distribute") == "multi_worker":
        return
    inside = started_seeds(out)
    if seeds is None and inside:
        raise UserError(
            f"Expected one run in '{out}' to resume; it holds {len(inside)} of seeds. Add --seeds {inside[-1][0] + 1} to "
            f"go on with all of them, or name one: --out {inside[0][1]}."
        )
    if seeds is not None and (out / "config.json").is_file():
        raise UserError(f"Expected runs of seeds in '{out}' to resume; it holds a single run. Leave --seeds out.")
    if not NAMES_DATA & set(given):
        raise UserError(
            f"Expected a run in '{out}' to resume; there is no config.json in it. Mend --out; or name the data to start "
            "a new run: --dataset glyphs, or --source-dir and --target-dir."
        )


def configuration(given, out, resume):
    """The resolved configuration; on `resume` that of the run, over which given values must not differ."""
    from isra_keras.training.config import TrainConfig
    from isra_keras.training.recipes import resolve

    path = Path(os.path.expanduser(out or ".")) / "config.json"
    if not (resume and path.is_file()):
        return resolve(**given)
    saved = TrainConfig.load(path)
    for name, value in _canonical(given, saved).items():
        if isinstance(value, dict):
            value = getattr(saved, name) | value
        setattr(saved, name, value)
    return saved.validate()


def _canonical(given, saved):
    """The same values with the full names of domains and the whole paths of folders."""
    from isra_keras.data.paths import whole_paths

    given = whole_paths(given)
    if not saved.dataset:
        return given
    from isra_keras.data.tasks import resolve_domain

    sides = (side for side in ("source", "target") if side in given)
    return given | {side: resolve_domain(saved.dataset, given[side]) for side in sides}


def free_folder(config):
    """runs/<task>-<method>, with a number if that is taken."""
    name = f"{config.dataset or 'folders'}-{config.task_name}-{config.method}{'-isra' if config.semantic else ''}"
    path, number = Path("runs") / name.replace("/", "_"), 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name.replace('/', '_')}-{number}"
    return path
