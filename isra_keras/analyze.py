"""`python -m isra_keras.analyze RUN [--against RUN]`: the figures and tables of the paper for a run, as one HTML page."""

import argparse
import shlex
import sys
from pathlib import Path

from isra_keras.cli import run as run_cli
from isra_keras.errors import UserError
from isra_keras.run_folder import run_folder

SECTIONS = ("weights", "attention", "embedding", "similarity", "classes", "samples", "topics")


def build_parser():
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m isra_keras.analyze",
        description="Figures (PNG and SVG) and one HTML report: class weights, attention over a mini-batch, t-SNE, "
        "category similarity, accuracy by class against other runs, contact sheets, topics.",
    )
    parser.add_argument("run", metavar="RUN", help="run folder of `train`")
    parser.add_argument("--against", metavar="RUN", action="append", default=[],
                        help="run on the same task to compare with; repeatable, the first one in the tables")  # fmt: skip
    parser.add_argument("--data-dir", metavar="DIR", help="where the dataset is now, if it has moved")
    parser.add_argument("--out", metavar="DIR", help="where to write (default RUN/analysis)")
    parser.add_argument("--only", metavar="PART", action="append", choices=SECTIONS,
                        help=f"one of {', '.join(SECTIONS)}; repeatable (default all)")  # fmt: skip
    parser.add_argument("--max-samples", type=int, default=2000, metavar="N", help="of each domain (default 2000)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images at once (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="of t-SNE and splits")
    return parser


def main(argv=None):
    """Runs the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    for name in ("max_samples", "batch_size"):
        least = 8 if name == "max_samples" else 1
        if getattr(args, name) < least:
            raise UserError(f"Expected --{name.replace('_', '-')} of at least {least}; received {getattr(args, name)}.")
    for given in (args.run, *args.against):
        run_folder(given)
    out = Path(args.out) if args.out else run_folder(args.run) / "analysis"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Expected a folder to write to, '{out}'; the system refused: {error.strerror}. "
                        "Name another with --out.") from error  # fmt: skip
    path = analyze(args, out)
    print(f"report {path}")
    return 0


def analyze(args, out):
    """Loads the runs, draws, writes.

    Args:
        args: of `build_parser`.
        out: existing folder.

    Returns:
        Path of report.html.
    """
    from isra_keras.analysis.html_report import HtmlReport
    from isra_keras.analysis.run_data import load_run_data
    from isra_keras.analysis.sections import WRITERS

    run = load_run_data(args.run, args.data_dir, args.max_samples, args.batch_size)
    others = [load_run_data(o, args.data_dir, args.max_samples, args.batch_size) for o in args.against]
    for other in others:
        alike = same_samples(other.source, run.source) and same_samples(other.target, run.target)
        if other.class_names != run.class_names or not alike:
            raise UserError(
                f"Expected --against runs on the same task as '{args.run}'; '{other.folder}' is on another."
            )
    for one, name in zip((run, *others), distinct_names([one.folder for one in (run, *others)])):
        one.name = name
    report = HtmlReport(f"{run.info.get('method', 'model')} on {run.info.get('task', 'a task')}", command(args))
    report.paragraph(
        f"Run {run.name}; {_looked_at(run.source)} source and {_looked_at(run.target)} target images, "
        f"{len(run.class_names)} source classes." + (f" Against {', '.join(o.name for o in others)}." if others else "")
    )
    report.paragraph(run.shared_by())
    for name in SECTIONS:
        if not args.only or name in args.only:
            WRITERS[name](report, run, others, out, args.seed)
    return report.write(out / "report.html")


def distinct_names(folders):
    """The ends of the folders' paths, as long as they must be to differ: ["isra/seed0", "ba3us/seed0"]."""
    parts = [Path(folder).resolve().parts for folder in folders]
    lengths = range(1, max(map(len, parts)) + 1)
    enough = next((n for n in lengths if len({part[-n:] for part in parts}) == len(parts)), 1)
    return ["/".join(part[-enough:]) for part in parts]


def same_samples(one, other):
    """Whether two `DomainData` are of the same samples of the same files, whose labels are known alike."""
    import numpy as np

    names = [data.domain.names_digest for data in (one, other)]
    alike = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("indices", "labels"))
    return alike and len(one.domain) == len(other.domain) and (None in names or names[0] == names[1])


def _looked_at(data):
    """ "40", or "a sample of 2,000 of 20,150"."""
    count, every = len(data.labels), len(data.domain)
    return f"{every:,}" if count == every else f"a sample of {count:,} of {every:,}"


def command(args):
    """The command line that makes the report again."""
    words = ["python", "-m", "isra_keras.analyze", str(args.run)]
    for other in args.against:
        words += ["--against", str(other)]
    if args.data_dir:
        words += ["--data-dir", str(args.data_dir)]
    for part in args.only or []:
        words += ["--only", part]
    if args.max_samples != 2000:
        words += ["--max-samples", str(args.max_samples)]
    if args.out:
        words += ["--out", str(args.out)]
    if args.batch_size != 64:
        words += ["--batch-size", str(args.batch_size)]
    return shlex.join(words + (["--seed", str(args.seed)] if args.seed else []))


if __name__ == "__main__":
    sys.exit(run_cli(main))
