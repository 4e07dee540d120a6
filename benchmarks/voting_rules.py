"""Which models vote, and what does a winner need? The ways to count votes that `selection.committee` was settled among.

    python benchmarks/voting_rules.py        from the committed lines; seconds

Who votes: all models that look sound, the half that the label-free scores trust more (five at least), or that half and
source only. What a winner needs: more than a part of the votes, else source only's class stands. Or all, a vote weighing
more the more its model is trusted. Taken was: half and source only, more than a third. The accuracies decided that, so
that they are no test of it. Others have more here, among them half alone, a third; source only votes because its run has
to be there for its answer to stay, and `predict --with` counts all that are named. At least three, five or seven were
tried too. At last, what was taken where only six methods ran, without ISRA: those of README's command for one's own
images. Writes benchmarks/results/voting_rules.md.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from isra_keras.benchmarking.report_parts import groups_of  # noqa: E402
from isra_keras.benchmarking.shipping import HARM_COLUMNS, harms  # noqa: E402
from isra_keras.benchmarking.statistics import runs_of  # noqa: E402
from isra_keras.benchmarking.store import latest, read_lines  # noqa: E402
from isra_keras.benchmarking.tables import Table, Value  # noqa: E402
from isra_keras.benchmarking.votes import unpack  # noqa: E402
from isra_keras.benchmarking.voting import elections, is_source_only  # noqa: E402
from isra_keras.selection.committee import chosen, vote  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
SETS = ("pacs_features", "office_caltech10_features", "office_caltech10_images.jsonl", "glyphs")
FEW = ("source_only", "drcn", "a2kt", "afn", "shot", "ba3us")
SHARES = {"most votes": 0.0, "a quarter": 1 / 4, "a third": 1 / 3, "two fifths": 2 / 5, "half": 1 / 2}


def main():
    parts, everything = ["Written by `python benchmarks/voting_rules.py`.", __doc__.split("\n\n")[2].strip()], []
    few = Table(f"six methods: {', '.join(FEW)}", ["Data", "votes", "mean accuracy", *HARM_COLUMNS], [])
    for name in SETS:
        groups = groups_of(runs_of(latest(read_lines([RESULTS / name])).values())).values()
        found = [one for runs in groups for one in elections(runs, every=True) if one.source_only]
        parts.append(table(name.removesuffix(".jsonl"), found).markdown())
        everything += found
        groups = [runs for runs in groups if set(FEW) <= {run.cell.method for run in runs}]
        six = [one for runs in groups for one in elections(runs, lambda run: run.cell.isra == "off" and run.cell.method in FEW)]
        if six:
            own = [one.accuracy for one in six]
            few.rows.append([name, str(len(six)), Value(100 * float(np.mean(own))), *harms(own, [one.source_only for one in six])])
    parts += [table("all of them", everything).markdown(), few.markdown()]
    text = "\n\n".join(parts) + "\n"
    (RESULTS / "voting_rules.md").write_text(text, encoding="utf-8")
    print(text)


def table(title, found):
    """`Table` of all ways over these `Election`s."""
    ways, source = [accuracies(one) for one in found], [one.source_only for one in found]
    rows = []
    for name in ways[0]:
        own = [way[name] for way in ways]
        rows.append([*name, Value(100 * float(np.mean(own))), *harms(own, source)])
    return Table(f"{title}, {len(found)} votes", ["Who votes", "a winner has more than", "mean accuracy", *HARM_COLUMNS], rows,
                 best=(2,))  # fmt: skip


def accuracies(election):
    """{(who votes, what a winner needs): accuracy in [0, 1]} of an `Election` of all that look sound."""
    everyone = election.members
    half = chosen(everyone, lambda run: False)[0]
    both = chosen(everyone, is_source_only)[0]
    given, right = (np.stack(parts) for parts in zip(*(unpack(run.line["vote"]) for run in everyone)))
    source = given[[is_source_only(run) for run in everyone]][0]

    def accuracy(winners):
        return float(np.any(right & (given == winners), axis=0).mean())

    found = {}
    for name, members in (("all", everyone), ("half", half), ("half, source only", both)):
        winners, shares = vote(given[[run in members for run in everyone]])
        for needs, share in SHARES.items():
            found[name, needs] = accuracy(np.where(shares > share, winners, source))
    weights = np.arange(len(everyone), 0, -1.0)[:, None]  # the most trusted first
    totals = np.stack([(weights * (given == label)).sum(axis=0) for label in range(given.max() + 1)])
    found["all, by trust", "most votes"] = accuracy(totals.argmax(axis=0))
    return found


if __name__ == "__main__":
    main()
