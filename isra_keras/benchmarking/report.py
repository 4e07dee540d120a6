"""RESULTS.md, its CSV and its LaTeX, from finished lines alone."""

from pathlib import Path

from isra_keras import paper_results
from isra_keras.benchmarking import evidence
from isra_keras.benchmarking.guard_evidence import guard_table
from isra_keras.benchmarking.report_parts import (
    failures_of,
    groups_of,
    note_of,
    note_of_changed_folders,
    note_of_selection,
    short,
)
from isra_keras.benchmarking.settings import differing, setting_of
from isra_keras.benchmarking.shipping import deliveries, delivery_table, rules_table, summary_table
from isra_keras.benchmarking.statistics import mean_std, paired, pairs_of, runs_of
from isra_keras.benchmarking.tables import (
    Table,
    Value,
    accuracy_table,
    cost_table,
    method_name,
    p_text,
    rows_in_order,
    tasks_in_order,
    to_csv,
)
from isra_keras.benchmarking.voting import elections, overall_table, votes_by_target, voting_table
from isra_keras.errors import UserError
from isra_keras.training.checkpoint import write_text


def write_report(lines, out, csv_path=None, latex_path=None, command=""):
    """Writes the report and, where asked for, its tables in other forms.

    Args:
        lines: the last line of each cell, finished or failed.
        out: path of the Markdown.
        csv_path, latex_path: paths or None.
        command: what made it, for its head.

    Returns:
        List of the paths that were written.

    Raises:
        UserError: if nothing is finished.
    """
    text, tables = build_report(lines, command)
    written = {Path(out): text}
    if csv_path:
        written[Path(csv_path)] = to_csv(tables)
    if latex_path:
        written[Path(latex_path)] = "\n\n".join(table.latex() for table in tables) + "\n"
    for path, content in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, content)
    return list(written)


def build_report(lines, command=""):
    """(Markdown, list of all its `Table`s); arguments as `write_report`."""
    groups = groups_of(runs_of(lines))
    if not groups:
        raise UserError("Expected at least one finished cell; received none.")
    head = [
        "# Results",
        "Generated from the lines of finished runs; no number is typed. Made by:",
        f"```\n{command}\n```",
    ]
    parts, tables = [part for part in head if part != "```\n\n```"], []
    failed = [line for line in lines if line["status"] != "done"]
    for title, runs in groups.items():
        everything = [run for group in groups.values() for run in group]
        sections = _sections(title, runs, everything, failures_of(failed, runs))
        parts += [f"## {title}", setting(runs)]
        for heading, table in sections:
            parts += [f"### {heading}", table.markdown()]
            tables.append(table)
    recipes = [(runs, failures_of(failed, runs)) for runs in groups.values() if not runs[0].cell.overrides]
    together = overall_table(recipes, "all data sets: models voting together")
    if together.rows:
        tables.append(together)
        parts += ["## All data sets", "### Models voting together", together.markdown()]
    if failed:
        tables.append(_failures(failed))
        parts += ["## Failed cells", tables[-1].markdown()]
    return "\n\n".join(parts) + "\n", tables


def setting(runs):
    """What the runs of a group have in common, and what they do not, as a paragraph."""
    configs = [run.line["config"] for run in runs]
    names = ("backbone", "weights", "iterations", "batch_size", "feature_dim", "select")
    shared = []
    for name in names:
        values = list(dict.fromkeys(short(name, str(config.get(name))) for config in configs))
        shared.append(f"{name.replace('_', ' ')} {'/'.join(values)}")
    seeds = sorted({run.cell.seed for run in runs})
    commits = list(dict.fromkeys(run.line.get("commit") or "unknown" for run in runs))
    versions = list(dict.fromkeys(tuple(run.line["versions"].items()) for run in runs))
    software = "; ".join(", ".join(f"{name} {number}" for name, number in one) for one in versions)
    devices = ", ".join(sorted({f"{run.line['device']} ({run.line['threads']} threads)" for run in runs}))
    hours = sum(run.line["seconds"] for run in runs) / 3600
    return (
        f"{len(runs)} cells, seeds {', '.join(map(str, seeds))}; {', '.join(shared)}. Commit {', '.join(commits)}; {software}; "
        f"{devices}; {hours:.1f} process hours.{note_of_changed_folders(runs)}"
    )


def _sections(title, runs, everything, failed):
    """(heading, `Table`) in order; `everything` are the runs of all groups, `failed` of `failures_of`."""
    known = evidence.labelled(runs)
    sections = []
    if known:
        isra = isra_table(known, f"{title}: ISRA against without, label-free selection")
        sections += [
            (
                "Label-free selection",
                accuracy_table(known, "selected", f"{title}: label-free selection", note_of_selection(known)),
            ),
            *([("ISRA against without", isra)] if isra.rows else []),
            *_with_the_same_bottleneck(title, known, evidence.labelled(everything)),
            ("Last checkpoint", accuracy_table(known, "last", f"{title}: last checkpoint", note_of("last"))),
            ("Oracle selection", accuracy_table(known, "oracle", f"{title}: ORACLE selection", note_of("oracle"))),
        ]
        if paper_results.published(runs[0].cell.dataset):
            sections.append(
                ("Beside the published numbers", published_table(known, f"{title}: beside the published numbers"))
            )
        within = evidence.within_runs(known)
        sections.append(("Choosing a checkpoint without labels",
                         evidence.evidence_table(within, f"{title}: scores within a run", note_of("within"))))  # fmt: skip
        between = evidence.between_methods(known)
        if between:
            table = evidence.evidence_table(between, f"{title}: scores between methods", note_of("between"))
            sections.append(("Choosing a method without labels", table))
        sections.append(("Rules of choice", rules_table(known, f"{title}: rules of choice", failed)))
        sections.append(("What would be shipped", summary_table(known, f"{title}: shipped", failed=failed)))
        sections.append(
            ("What would be shipped, by target", delivery_table(deliveries(known), f"{title}: shipped by target"))
        )
        guarded = guard_table(known, f"{title}: the guard of `train`")
        if guarded.rows:
            sections.append(("What the guard of `train` would have kept", guarded))
        together = voting_table(known, f"{title}: models voting together", failed)
        if together.rows:
            by_target = votes_by_target(elections(known), f"{title}: votes by target")
            sections += [("Models voting together", together), ("Votes, by target", by_target)]
    settings = settings_table(runs, f"{title}: settings")
    if len(settings.columns) > 1:
        sections.append(("Settings", settings))
    return [*sections, ("Cost", cost_table(runs, f"{title}: cost"))]


def settings_table(runs, title):
    """What the methods are trained with where they differ; without columns but the first where they do not."""

    def of(row, name):
        configs = [run.line["config"] for run in runs if run.cell.row == row]
        values = (config.get("network_options", {}).get(name, "own") if name == "bottleneck" else config.get(name)
                  for config in configs)  # fmt: skip
        return "/".join(dict.fromkeys("–" if value is None else str(value) for value in values))

    rows = rows_in_order(runs)
    names = [name for name in ("iterations", "feature_dim", "bottleneck", "learning_rate", "optimizer", "warmup", "weight_smoothing")
             if len({of(row, name) for row in rows}) > 1]  # fmt: skip
    plug_in = ("class2vec_weight", "alignment_weight", "num_topics")
    names += plug_in if names and any(row[1] != "off" for row in rows) else ()
    cells = [[method_name(row), *("" if name in plug_in and row[1] == "off" else of(row, name) for name in names)]
             for row in rows]  # fmt: skip
    note = "Recipe of each method; \"own\" is the bottleneck that the method names itself."
    return Table(title, ["Method", *(name.replace("_", " ") for name in names)], cells, note)


def _with_the_same_bottleneck(title, runs, everything):
    """The table of ISRA against without once more, where a recipe gives a method another bottleneck with ISRA than
    without and runs of another group have it without ISRA: what ISRA itself does."""

    def key(run):
        return run.cell.dataset, run.cell.method, run.place

    plain = {key(run): run for run in runs if run.cell.isra == "off"}
    wanted = {key(run): run for run in runs if run.cell.isra != "off"}
    wanted = {one: setting_of(run) for one, run in wanted.items() if "bottleneck" in differing(plain.get(one, run), run)}
    others = {key(run): run for run in everything if run.cell.isra == "off" and wanted.get(key(run)) == setting_of(run)}
    if not others:
        return []
    swapped = [others.get(key(run)) if run.cell.isra == "off" and key(run) in wanted else run for run in runs]
    swapped = [run for run in swapped if run is not None]
    names = ", ".join(dict.fromkeys(method_name((run.cell.method, "off")) for run in others.values()))
    table = isra_table(swapped, f"{title}: ISRA against without, the same bottleneck")
    table.note = f"As above; {names} stand without ISRA with the bottleneck that they have with it. {table.note}"
    return [("ISRA against without, the same bottleneck", table)]


def isra_table(runs, title):
    """ISRA against the same method without it, over task × seed and task by task."""
    tasks, rows = tasks_in_order(runs), []
    for row in rows_in_order(runs):
        if row[1] == "off":
            continue
        first, second = pairs_of(runs, row, (row[0], "off"))
        if not first:
            continue
        found = paired(first, second)
        cells = []
        for task in tasks:
            pair = pairs_of([run for run in runs if run.cell.task == task], row, (row[0], "off"))
            gains = [100 * (one - other) for one, other in zip(*pair)]
            cells.append(Value(mean_std(gains)[0] if gains else None, signed=True, count=len(gains)))
        rows.append([
            method_name(row), *cells, Value(100 * found.difference, signed=True), str(found.count),
            f"{found.wins}/{found.ties}/{found.losses}", p_text(found.p_t), p_text(found.p_wilcoxon),
        ])  # fmt: skip
    columns = ["Method", *tasks, "all", "pairs", "win/tie/loss", "p (t)", "p (Wilcoxon)"]
    note = (
        "Points of accuracy gained by ISRA. p: two-sided paired tests over task × seed, not corrected for their number; "
        f"seeds of one task are not independent, so the true p is larger.{note_of_other_settings(runs)}"
    )
    return Table(title, columns, rows, note)


def note_of_other_settings(runs):
    """A sentence on the rows with ISRA whose recipe differs from that without it in more than the plug-in; "" where none does."""
    plain = {(run.cell.method, run.place): run for run in runs if run.cell.isra == "off"}
    found = {}
    for run in runs:
        other = plain.get((run.cell.method, run.place))
        if run.cell.isra != "off" and other:
            names = found.setdefault(method_name(run.cell.row), {})
            names.update(dict.fromkeys(differing(run, other)))
    told = [f"{row} ({', '.join(name.replace('_', ' ') for name in names)})" for row, names in found.items() if names]
    return f" With ISRA these train with other values than without, so that not all is ISRA's doing: {', '.join(told)}." if told else ""


def published_table(runs, title):
    """Own label-free accuracy, the published one and the difference, task by task."""
    dataset, tasks, rows, part = runs[0].cell.dataset, tasks_in_order(runs), [], False
    own = {
        row: accuracy_row for row, accuracy_row in zip(rows_in_order(runs), accuracy_table(runs, "selected", "").rows)
    }
    columns = [*tasks, paper_results.AVERAGE]
    for row, values in own.items():
        theirs = dict(paper_results.published(dataset, *row) or {})
        if not theirs:
            continue
        every = set(theirs) - {paper_results.AVERAGE}
        if every - set(tasks) and all(name in theirs for name in tasks):
            theirs[paper_results.AVERAGE], part = sum(theirs[name] for name in tasks) / len(tasks), True
        ours = dict(zip(columns, values[1 : len(columns) + 1]))
        rows.append([method_name(row), *(ours[name] for name in columns)])
        rows.append([f"{method_name(row)}, published", *(Value(theirs.get(name)) for name in columns)])
        gaps = [
            None if ours[name].mean is None or name not in theirs else ours[name].mean - theirs[name]
            for name in columns
        ]
        rows.append([f"{method_name(row)}, difference", *(Value(gap, signed=True) for gap in gaps)])
    note = f"Published: {paper_results.source(dataset)} {paper_results.note(dataset)}"
    note += f" {paper_results.AVERAGE}: of these {len(tasks)} tasks alone, ours and the published ones." * part
    return Table(title, ["Method", *columns], rows, note)


def _failures(failed):
    rows = []
    for line in failed:
        cell = line["cell"]
        where = f"{cell['dataset']} {cell['task']}, {method_name((cell['method'], cell['isra']))}, seed {cell['seed']}"
        rows.append([where, " ".join(line["reason"].replace("|", "/").split())])
    return Table("Failed cells", ["Cell", "reason"], rows)
