"""Which border tells the classes that a target shows from those that it lacks?

    python benchmarks/judged_classes.py        half a minute on two cores; needs ISRA_TEST_DATA

The weights are the mean predictions of a logistic regression on the source's features, without any adaptation; the targets
hold random subsets of the classes, three for every pair of domains and number of classes. Labels of these very data
chose the border that `isra_keras.analysis.per_class.shared_border` has. Writes benchmarks/results/judged_classes.md.
"""

import sys
from pathlib import Path

import numpy as np
from measure import RESULTS, data_folder

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from isra_keras.analysis.per_class import shared_border  # noqa: E402

RULES = {
    "mean weight": lambda weights: weights.mean(),
    "half the mean weight": lambda weights: weights.mean() / 2,
    **{f"{share} of the even share": lambda weights, share=share: shared_border(weights, share) for share in (0.3, 0.4, 0.5)},
}
REPEATS = 3


def main():
    if data_folder() is None:
        raise SystemExit("Expected ISRA_TEST_DATA with the features of PACS and Office-Caltech10; it is not set.")
    parts = ["Written by `python benchmarks/judged_classes.py`: share of the classes that are rightly called present or "
             "absent, in %, by how many of the source's classes the target holds."]  # fmt: skip
    for name in ("pacs", "office_caltech10"):
        with np.load(data_folder() / "features" / f"{name}_mobilenetv2.npz", allow_pickle=False) as archive:
            found, classes = right(archive["features"].astype("float32"), archive["domain"], archive["cls"])
        counts = sorted({count for count, _ in found})
        rows = [["border", *(f"{count} of {classes}" for count in counts)], ["---"] * (1 + len(counts))]
        rows += [[rule, *(f"{100 * np.mean(found[count, rule]):.0f}" for count in counts)] for rule in RULES]
        parts += [f"**{name} features**", "\n".join(f"| {' | '.join(row)} |" for row in rows)]
    text = "\n\n".join(parts) + "\n"
    (RESULTS / "judged_classes.md").write_text(text, encoding="utf-8")
    print(text)


def right(features, domains, names):
    """({(classes in the target, rule): [share of classes that are judged rightly]}, number of classes)."""
    from sklearn.linear_model import LogisticRegression

    classes, labels = np.unique(names, return_inverse=True)
    found, draw = {}, np.random.default_rng(0)
    for source in np.unique(domains):
        own = domains == source
        model = LogisticRegression(max_iter=60, C=0.1).fit(features[own], labels[own])
        for target in np.unique(domains[~own]):
            there = domains == target
            predictions, truth = model.predict_proba(features[there]), labels[there]
            for count in (2, len(classes) // 2, len(classes) - 1, len(classes)):
                for _ in range(REPEATS):
                    present = draw.permutation(len(classes))[:count]
                    weights = predictions[np.isin(truth, present)].mean(axis=0)
                    is_present = np.isin(np.arange(len(classes)), present)
                    for rule, border in RULES.items():
                        judged = weights > border(weights)
                        found.setdefault((count, rule), []).append(np.mean(judged == is_present))
    return found, len(classes)


if __name__ == "__main__":
    main()
