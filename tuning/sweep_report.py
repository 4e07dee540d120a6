"""Figures and Markdown of a sweep, from its jsonl alone."""

import math
import statistics
from pathlib import Path

from isra_keras.training.checkpoint import write_text

ORACLE = "oracle:accuracy"
GROUP = ("dataset", "task", "method", "variant", "iterations", "eval_interval", "select")
AXES = ("class2vec_weight", "alignment_weight", "num_topics", "receptor_l1")
SYMBOLS = {"class2vec_weight": "λ (class2vec weight)", "alignment_weight": "η (alignment weight)",
           "num_topics": "number of topics", "receptor_l1": "receptor L1"}  # fmt: skip
COMMAND = "python -m tuning.sweep --data {dataset} --task {task} --method {method} --variant {variant} --iterations {iterations} --eval-interval {eval_interval}"  # noqa: E501


def groups(rows):
    """{group: rows} of the same data, method and length."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in GROUP), []).append(row)
    return found


def centre(rows):
    """{axis: value} of the recipe they were measured around: in every axis, the value that most rows have."""
    return {axis: statistics.mode(row[axis] for row in rows) for axis in AXES}


def changed_since(named, middle):
    """{axis: today's value} where the recipe is no longer the one that the rows were measured around.

    Args:
        named: {name of `GROUP`: value}.
        middle: `centre` of the rows.
    """
    from isra_keras.data.tasks import resolve_task_name
    from isra_keras.training.recipes import resolve

    source, target = resolve_task_name(named["dataset"], named["task"])
    recipe = resolve(dataset=named["dataset"], source=source, target=target,
                     **{name: named[name] for name in ("method", "variant", "iterations")})  # fmt: skip
    return {axis: getattr(recipe, axis) for axis in AXES if not math.isclose(getattr(recipe, axis), middle[axis])}


def curve(rows, axis, at=None):
    """{value: rows} along an axis through the recipe."""
    middle = at or centre(rows)
    line = [row for row in rows if all(row[name] == middle[name] for name in AXES if name != axis)]
    return {value: [row for row in line if row[axis] == value] for value in sorted({row[axis] for row in line})}


def values_of(rows, name):
    """Finite values of a metric ("oracle:accuracy") or diagnostic ("receptor_r2")."""
    found = [row["metrics"].get(name, row["diagnostics"].get(name)) for row in rows]
    return [value for value in found if value is not None and math.isfinite(value)]


def mean_text(values, scale=1.0, digits=2):
    """ "61.20 ± 1.10 (3)": mean, sample standard deviation, number."""
    if not values:
        return "–"
    values = [scale * value for value in values]
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread} ({len(values)})"


def write(rows, out):
    """sweep.md and its figures.

    Args:
        rows: lines of the jsonl.
        out: folder; made where it is missing.

    Returns:
        str: what was written.
    """
    lines = ["# Sensitivity to λ, η, the number of topics and the receptor L1", "",
             "Made by `python -m tuning.sweep --report` from sweep.jsonl. Mean ± sample standard deviation (number of "
             "seeds). Accuracy is that of the evaluation selected without target labels. Bold: the value at which the "
             "other curves are measured, the recipe's of then and, where nothing else is said, of today.",
             ""]  # fmt: skip
    made = []
    out.mkdir(parents=True, exist_ok=True)
    for group, members in groups(rows).items():
        name = "-".join(str(part) for part in group[:5])
        named = dict(zip(GROUP, group))
        lines += [f"## {named['dataset']}: {named['task']}, {named['method']}, {named['variant']}, "
                  f"{named['iterations']} iterations", "", f"`{COMMAND.format(**named)}`", ""]  # fmt: skip
        today = changed_since(named, centre(members))
        if today:
            now = ", ".join(f"{SYMBOLS[axis]} {value:g}" for axis, value in today.items())
            lines += [f"**The recipe has changed since: {now}.**", ""]
        commits = list(dict.fromkeys(str(row.get("commit")) for row in members))
        if len(commits) > 1:  # a line does not hold all of its recipe
            lines += [f"**Of commits {', '.join(commits)}: what the recipe says beside these values (rate, warm-up, ...) may differ "
                      "between their lines.**", ""]  # fmt: skip
        for axis in AXES:
            lines += table(members, axis)
        pictures = [draw_curves(members, out / f"{name}.png"), draw_grid(members, out / f"{name}-grid.png")]
        pictures = [path for path in pictures if path]
        lines += [*(f"![{path.stem}]({path.name})" for path in pictures), ""]
        made += pictures
    write_text(out / "sweep.md", "\n".join(lines))
    return f"{out}/sweep.md, {len(made)} figures, {len(rows)} cells"


def table(rows, axis):
    """Lines of the Markdown table of one axis; receptors beside accuracy.

    The alignment term goes with the receptor L1 alone: it holds η, and the other axes change it by themselves.
    """
    points, middle = curve(rows, axis), centre(rows)[axis]
    if len(points) < 2:
        return []
    aligned = axis == "receptor_l1"
    lines = [f"| {SYMBOLS[axis]} | accuracy % | mean entropy | receptor R² | mean abs. W | attention sparsity |"
             + " alignment term |" * aligned, "| --- | --- | --- | --- | --- | --- |" + " --- |" * aligned]  # fmt: skip
    for value, members in points.items():
        label = f"**{value:g}**" if value == middle else f"{value:g}"
        lines.append(f"| {label} | {mean_text(values_of(members, ORACLE), 100)} | "
                     f"{mean_text(values_of(members, 'sel:mean_entropy'), 1, 3)} | "
                     f"{mean_text(values_of(members, 'receptor_r2'))} | "
                     f"{mean_text(values_of(members, 'receptor_mean_weight'), 1, 5)} | "
                     f"{mean_text(values_of(members, 'attention_sparsity'))} |"
                     + f" {mean_text(values_of(members, 'alignment'), 1, 4)} |" * aligned)  # fmt: skip
    return [*lines, ""]


def draw_curves(rows, path):
    """Accuracy along each axis; for the receptor L1, R² and mean |W| too. None if there is no axis with two points."""
    from isra_keras.analysis.style import figure, save

    axes_there = [axis for axis in AXES if len(curve(rows, axis)) > 1]
    if not axes_there:
        return None
    count = len(axes_there) + ("receptor_l1" in axes_there)
    with figure(2.7 * count, 2.7, 1, count, squeeze=False) as (made, axes):
        for axis, name in zip(axes[0], axes_there):
            if axis is not axes[0][0]:
                axis.sharey(axes[0][0])
            points = {value: values_of(part, ORACLE) for value, part in curve(rows, name).items()}
            points = {value: [100 * item for item in part] for value, part in points.items() if part}
            draw_line(axis, points, SYMBOLS[name])
        axes[0][0].set_ylabel("target accuracy %")
        if "receptor_l1" in axes_there:
            draw_receptors(axes[0][-1], curve(rows, "receptor_l1"))
        save(made, path)
    return Path(path)


def draw_line(axis, points, label, **style):
    """Means and spreads of {value: [number]} at even distances."""
    places = range(len(points))
    means = [statistics.fmean(part) for part in points.values()]
    spreads = [statistics.stdev(part) if len(part) > 1 else 0.0 for part in points.values()]
    axis.errorbar(places, means, spreads, marker="o", capsize=3, **style)
    axis.set_xticks(list(places), [f"{value:g}" for value in points], rotation=45)
    axis.set_xlabel(label)


def draw_receptors(axis, points):
    """Receptor R² and, on the right, mean |W| of the receptors' first layer, along the receptor L1."""
    from isra_keras.analysis.style import GREY, ORANGE

    for place, name, label, color in ((axis, "receptor_r2", "receptor R²", ORANGE),
                                      (axis.twinx(), "receptor_mean_weight", "mean |W|", GREY)):  # fmt: skip
        found = {value: values_of(part, name) for value, part in points.items()}
        if all(found.values()):
            draw_line(place, found, SYMBOLS["receptor_l1"], color=color)
        place.set_ylabel(label, color=color)
    place.grid(False)


def draw_grid(rows, path):
    """Heat map of accuracy over lambda x eta; None if there is no grid."""
    from isra_keras.analysis.style import SEQUENTIAL, figure, save

    middle = centre(rows)
    plane = [row for row in rows if all(row[name] == middle[name] for name in ("num_topics", "receptor_l1"))]
    plane = [row for row in plane if row["class2vec_weight"] > 0 and row["alignment_weight"] > 0]
    across = sorted({row["alignment_weight"] for row in plane})
    down = sorted({row["class2vec_weight"] for row in plane})
    cells = {}
    for row in plane:
        cells.setdefault((row["class2vec_weight"], row["alignment_weight"]), []).extend(values_of([row], ORACLE))
    if len(across) < 2 or len(down) < 2 or not all(cells.get((one, other)) for one in down for other in across):
        return None
    heights = [[100 * statistics.fmean(cells[one, other]) for other in across] for one in down]
    with figure(3.4, 2.8) as (made, axis):
        image = axis.imshow(heights, cmap=SEQUENTIAL, origin="lower")
        axis.grid(False)
        for y, line in enumerate(heights):
            for x, value in enumerate(line):
                dark = value > (max(map(max, heights)) + min(map(min, heights))) / 2
                axis.text(x, y, f"{value:.1f}", ha="center", va="center", color="white" if dark else "black")
        axis.set_xticks(range(len(across)), [f"{value:g}" for value in across])
        axis.set_yticks(range(len(down)), [f"{value:g}" for value in down])
        axis.set_xlabel(SYMBOLS["alignment_weight"])
        axis.set_ylabel(SYMBOLS["class2vec_weight"])
        made.colorbar(image, label="target accuracy %")
        save(made, path)
    return Path(path)
