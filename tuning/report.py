"""What a search leaves: results.md, the best configuration, figures; and what to type next."""

import json
import math
import shlex
from dataclasses import replace
from pathlib import Path

from isra_keras.errors import UserError
from isra_keras.training.checkpoint import write_text
from isra_keras.training.config import TrainConfig
from tuning import records
from tuning import space as spaces
from tuning.objectives import ORACLE
from tuning.view import make_table, number, percent

FLAGS = ("class2vec_weight", "alignment_weight", "num_topics", "receptor_l1", "variant", "feature_dim", "learning_rate")
"""Searched names that `isra_keras.train` has an option for."""
UNTRAINED = ("config.json", ".lock")
"""What a run folder may hold before its training."""
SAME_RUN = ("iterations", "data_dir", "keep_checkpoints", "distribute")
"""What may change in a run without making it another one."""
GIVEN = ("dataset", "source", "target", "source_dir", "target_dir", "data_dir", "method", "backbone", "weights",
         "iterations", "eval_interval", "batch_size", "select", "seed", "precision", "image_size", "crop_size",
         "recipe", "warmup", "weight_smoothing", "batch_norm", "on_bad_image", "freeze_backbone", "augment", "jit_compile",
         "deterministic", "guard", "reference_quirks", "allow_incomplete", *FLAGS)  # fmt: skip


def conclude(out, compare=False, write=True):
    """Prints and writes the results of a search folder.

    Args:
        out: search folder.
        compare: also the table of how each label-free score would have chosen.
        write: False where the folder can't be written: prints alone.

    Returns:
        int: 0, or 1 if no trial succeeded.
    """
    from rich.console import Console

    out = Path(out)
    manifest, rows = records.read_manifest(out), records.read_rows(out)
    objective = records.objective_of(out)
    names, console = list(manifest["space"]), Console()
    console.print(make_table(rows, objective, names))
    best = records.best_row(rows, objective.direction)
    if best is None:
        print(f"No trial succeeded; the reasons are in the table and in {out}/trial_*/failure.txt.")
        return 1
    comparison = compare_objectives(rows) if compare else []
    missing = missing_text(rows) if comparison else ""
    config = spaces.apply(TrainConfig(**manifest["config"]), best.values)
    figures, folder = [], None
    if write:
        figures = draw(out, rows, manifest, objective, best)
        text = markdown(manifest, rows, objective, best, comparison, figures, missing)
        write_text(out / "results.md", text)
        folder = write_best(out, config, best)
    _print(console, out, config, objective, names, best, comparison, figures, folder)
    for text in remarks(manifest, rows, best):
        print(f"note: {text}")
    if not write:
        print(f"note: '{out}' can't be written: its results.md and its figures, where it has them, stay as they are.")
    if missing:
        print(f"note: {missing}")
    if compare and not comparison:  # last, so that nothing of the search is lost for it
        print("note: Expected target labels and at least two trials for --compare-objectives; there are none.")
    return 0


def write_best(out, config, best):
    """best.json (the trial) and a run folder that only waits to be trained.

    Args:
        out: search folder.
        config: `TrainConfig` of the best trial.
        best: its `Row`.

    Returns:
        Path: best/; best_trial_N/ where best/ already holds a training of another trial's setting.

    Raises:
        UserError: best_trial_N/ holds yet another one.
    """
    out = Path(out)
    folders = (out / "best", out / f"best_trial_{best.trial_id}")
    folder = next((path for path in folders if _is_free(path) or _is_of(path, config)), None)
    if folder is None:
        raise UserError(f"Expected '{folders[1]}' to be a run of trial {best.trial_id} or empty; it is neither. Move it "
                        "away and repeat the command.")  # fmt: skip
    folder.mkdir(exist_ok=True)
    path = folder / "config.json"
    kept = config if _is_free(folder) else replace(TrainConfig.load(path), data_dir=config.data_dir)
    write_text(path, kept.to_json())
    values = {"trial": best.trial_id, "folder": folder.name, "score": best.score, "values": best.values,
              "metrics": best.metrics}  # fmt: skip
    write_text(out / "best.json", json.dumps(values, indent=2) + "\n")
    return folder


def _is_free(folder):
    """Whether nothing was trained in a run folder: it is missing or holds no more than a configuration."""
    return not folder.is_dir() or all(item.name in UNTRAINED for item in folder.iterdir())


def _is_of(folder, config):
    """Whether a run folder trains this configuration, maybe longer or with the data at another place."""
    try:
        saved = vars(TrainConfig.load(folder / "config.json"))
    except UserError:
        return False
    return all(value == saved[name] for name, value in vars(config).items() if name not in SAME_RUN)


def train_command(config):
    """`python -m isra_keras.train ...` with the options by which the configuration differs from its recipe.

    Returns:
        str, or None if it can't be said in options: then best/config.json says it.
    """
    from isra_keras.training.recipes import resolve

    given = {name: getattr(config, name) for name in ("dataset", "source", "target", "source_dir", "target_dir",
             "data_dir", "method", "semantic", "variant", "seed", "recipe")}  # fmt: skip
    if not config.semantic:
        given.pop("variant")
    wanted = vars(config)
    for _ in range(2):  # an option may change what the recipe says of another one
        base = vars(resolve(**given))
        given |= {name: wanted[name] for name in GIVEN if base[name] != wanted[name]}
    if vars(resolve(**given)) != wanted:
        return None
    for name in GIVEN:  # what the recipe says anyway
        fewer = {key: value for key, value in given.items() if key != name}
        if name in given and _resolves_to(fewer, wanted):
            given = fewer
    words = ["python", "-m", "isra_keras.train"]
    for name, value in given.items():
        if name == "semantic":
            words += [] if value else ["--no-semantic"]
        elif isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{name.replace('_', '-')}")
        elif value is not None:
            words += [f"--{name.replace('_', '-')}", f"{value!r}" if isinstance(value, float) else str(value)]
    return shlex.join(words)


def at_recipe_length(config):
    """The configuration trained for as long as the recipe says, None where it is not shorter."""
    from isra_keras.training.recipes import resolve

    names = ("dataset", "source", "target", "source_dir", "target_dir", "method", "semantic", "variant", "recipe",
             "freeze_backbone")  # fmt: skip
    recipe = resolve(**{name: getattr(config, name) for name in names})
    if recipe.iterations <= config.iterations:
        return None
    return replace(config, iterations=recipe.iterations, eval_interval=recipe.eval_interval)


def _resolves_to(given, wanted):
    """Whether the options make this configuration; without its data set, a domain is of no data set that there is."""
    from isra_keras.training.recipes import resolve

    try:
        return vars(resolve(**given)) == wanted
    except UserError:
        return False


def compare_objectives(rows):
    """How each label-free score would have chosen among the same trials.

    Every candidate is a trial's selected evaluation; accuracy is the mean over its seeds.

    Returns:
        [{"score", "trial", "accuracy", "gap" (oracle's accuracy minus this), "correlation" (Spearman's, positive
        where better scores go with higher accuracy)}], the oracle last; empty without labels or with one trial.
    """
    from scipy.stats import spearmanr

    from isra_keras.selection import SCORES, best_index, ensemble_ranks

    done = [row for row in rows if row.status == "COMPLETED" and ORACLE in row.metrics]
    largest = max((row.budget or 0 for row in done), default=0)
    done = [row for row in done if (row.budget or 0) == largest]
    if len(done) < 2:
        return []
    accuracies = [row.metrics[ORACLE] for row in done]
    columns = {name: [row.metrics[f"sel:{name}"] for row in done] for name in SCORES
               if all(f"sel:{name}" in row.metrics for row in done)}  # fmt: skip
    candidates = {name: (values, SCORES[name][1]) for name, values in columns.items()}
    candidates["mean rank of all"] = (list(ensemble_ranks(columns)), "min")
    table = []
    for name, (values, direction) in candidates.items():
        chosen = best_index(values, direction)
        signed = values if direction == "max" else [-value for value in values]
        varied = len(set(signed)) > 1 and len(set(accuracies)) > 1
        correlation = float(spearmanr(signed, accuracies).statistic) if varied else float("nan")
        table.append({"score": name, "trial": done[chosen].trial_id, "accuracy": accuracies[chosen],
                      "gap": max(accuracies) - accuracies[chosen], "correlation": correlation})  # fmt: skip
    chosen = best_index(accuracies, "max")
    table.append({"score": "ORACLE (target labels)", "trial": done[chosen].trial_id, "accuracy": accuracies[chosen],
                  "gap": 0.0, "correlation": 1.0})  # fmt: skip
    return table


def missing_text(rows):
    """The sentence on scores that look at the source and that not all trials have; "" if none is missing."""
    from isra_keras.selection import NEEDS_SOURCE, SCORES

    done = [row for row in rows if row.status == "COMPLETED"]
    names = [name for name in SCORES if name in NEEDS_SOURCE and any(f"sel:{name}" not in row.metrics for row in done)]
    if not names:
        return ""
    without = [row.trial_id for row in done if any(f"sel:{name}" not in row.metrics for name in names)]
    which = "the trials" if len(without) == len(done) else f"trials {', '.join(without)}"
    return (f"{', '.join(names)} are not compared: {which} ran without --compare-objectives and did not look at the source. "
            "Search with it from the start, in another --out, to have them.")  # fmt: skip


def remarks(manifest, rows, best):
    """Sentences on what the table does not say: a grid that was tried in part, trials that were cut short, files that went
    bad, adaptations that collapsed."""
    found, search, config = [], manifest["search"], manifest["config"]
    if search["tuner"] == "grid":
        space = tuple(spaces.Parameter(name, **row) for name, row in manifest["space"].items())
        found.append(spaces.grid_text(space, search["max_trials"]))
    whole = -(-config["iterations"] // config["eval_interval"])
    if best.budget and best.budget < whole:
        found.append(f"no trial was trained to its end; the longest ones have {best.budget} of {whole} evaluations. With a larger "
                     "--max-trials the same command goes on to longer ones.")  # fmt: skip
    late = _trials_with(rows, "late_bad_images")
    if late:
        found.append(f"files could not be read any more in {late}: evaluations left them out, so that the scores of all trials "
                     "are not of the same images.")  # fmt: skip
    back = _trials_with(rows, "fell_back")
    if back:
        found.append(f"the adaptation looked collapsed to its end in {back}: the score, or with several seeds a part of it, is that "
                     "of the model from before it.")  # fmt: skip
    return [text for text in found if text]


def _trials_with(rows, name):
    """ "trial 3" or "trials 3, 5": those of which an outcome says so; "" for none."""
    found = [row.trial_id for row in rows if any(item.get(name) for item in row.outcomes)]
    return f"{'trials' if len(found) > 1 else 'trial'} {', '.join(found)}" if found else ""


def oracle_line(comparison):
    """What the target labels would have chosen, apart from the table of the label-free scores."""
    item = comparison[-1]
    return f"{item['score']} would have chosen trial {item['trial']}: {percent(item['accuracy'])}."


COMPARED = ("score", "trial", "accuracy", "gap to oracle", "rank correlation")


def compared_cells(item):
    """Texts of a row of `compare_objectives`; no number where all accuracies or all scores are equal."""
    correlation = "–" if math.isnan(item["correlation"]) else f"{item['correlation']:+.2f}"
    return [item["score"].replace("_", " "), item["trial"], percent(item["accuracy"]), f"{100 * item['gap']:.2f}", correlation]


def markdown(manifest, rows, objective, best, comparison, figures, missing=""):
    """Text of results.md."""
    names, search = list(manifest["space"]), manifest["search"]
    config = TrainConfig(**manifest["config"])
    lines = [f"# Search on {config.dataset or 'folders'}: {config.task_name}, {config.method}", ""]
    lines.append(f"{search['tuner']}, objective {objective.title}, {search['seeds']} seed(s) a trial. Trial "
                 f"{best.trial_id} is the best" + (f" of those with {best.budget} evaluations." if best.budget else "."))  # fmt: skip
    lines += [f"{text[0].upper()}{text[1:]}" for text in remarks(manifest, rows, best)]
    labelled = any(ORACLE in row.metrics for row in rows) and not objective.is_oracle
    budgets = any(row.budget for row in rows)
    head = ["trial", *(name.replace("_", " ") for name in names), *["evaluations"] * budgets, objective.title]
    head += ["ORACLE accuracy (not used)"] if labelled else []
    lines += ["", *_table(head + ["s", "state"], [
        [row.trial_id, *(number(row.values.get(name)) for name in names), *[str(row.budget or "")] * budgets, number(row.score),
         *([percent(row.metrics.get(ORACLE))] if labelled else []), f"{row.seconds:.0f}",
         row.status.lower() + (f": {row.reason}" if row.reason else "")] for row in rows])]  # fmt: skip
    if comparison:
        cells = map(compared_cells, comparison[:-1])
        lines += ["", "## How each score would have chosen", "", *_table(COMPARED, cells), "", oracle_line(comparison)]
        lines += ["", f"Missing: {missing}"] if missing else []
    lines += ["", *(f"![{Path(path).stem}]({path})" for path in figures), ""]
    return "\n".join(lines)


def _table(head, rows):
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def draw(out, rows, manifest, objective, best):
    """Figures of the folder, as paths relative to it: score against each value, and the best so far.

    Scores of other budgets than the best trial's are not comparable with its score: they are grey, and not among the best.
    """
    from isra_keras.analysis.style import GREY, ORANGE, figure, save

    done = [row for row in rows if row.status == "COMPLETED" and row.score is not None]
    shorter, done = ([row for row in done if (row.budget == best.budget) == same] for same in (False, True))
    folder, names = Path(out) / "figures", list(manifest["space"])
    folder.mkdir(exist_ok=True)
    with figure(2.6 * len(names), 2.6, 1, len(names), squeeze=False, sharey=True) as (made, axes):
        for axis, name in zip(axes[0], names):
            axis.scatter([row.values[name] for row in shorter], [row.score for row in shorter], s=18, color=GREY)
            axis.scatter([row.values[name] for row in done], [row.score for row in done], s=18)
            axis.scatter([best.values[name]], [best.score], s=60, facecolors="none", edgecolors=ORANGE, linewidths=2)
            axis.set_xlabel(name.replace("_", " "))
            if not isinstance(best.values[name], str):
                axis.set_xscale("log", base=2 if isinstance(best.values[name], int) else 10)
        axes[0][0].set_ylabel(objective.title)
        save(made, folder / "values.png")
    pick = min if objective.direction == "min" else max
    with figure(4, 2.6) as (made, axis):
        numbers, scores = [int(row.trial_id) for row in done], [row.score for row in done]
        axis.scatter(numbers, scores, s=14, color=GREY, label="trial")
        axis.step(numbers, [pick(scores[: k + 1]) for k in range(len(scores))], where="post", label="best so far")
        axis.set_xlabel("trial")
        axis.set_ylabel(objective.title)
        axis.legend()
        save(made, folder / "progress.png")
    return ["figures/values.png", "figures/progress.png"]


def _print(console, out, config, objective, names, best, comparison, figures, folder):
    from rich.table import Table

    if comparison:
        table = Table(*COMPARED, title="how each score would have chosen among these trials")
        for item in comparison[:-1]:
            table.add_row(*compared_cells(item))
        console.print(table)
        print(oracle_line(comparison))
    values = ", ".join(f"{name} {number(best.values[name])}" for name in names)
    accuracy = f"; ORACLE accuracy {percent(best.metrics[ORACLE])}, not used" \
        if ORACLE in best.metrics and not objective.is_oracle else ""  # fmt: skip
    print(f"best: trial {best.trial_id}: {values}; {objective.title} {number(best.score)}{accuracy}")
    command = train_command(config)
    if folder is not None:
        print(f"results {out}/results.md · figures {', '.join(f'{out}/{path}' for path in figures)} · trials: tensorboard "
              f"--logdir {shlex.quote(f'{out}/tensorboard')}")  # fmt: skip
        print(f"next:\n  python -m isra_keras.train --out {shlex.quote(str(folder))} --resume")
    if command is not None:
        print(f"the same in options:\n  {command}")
    longer = at_recipe_length(config)
    command = longer and train_command(longer)
    if command:
        print(f"with the recipe's {longer.iterations} iterations in place of {config.iterations}:\n  {command}")
