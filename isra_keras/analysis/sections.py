"""The sections of `analyze`: each draws its figures and says in words what they show.

Every function takes (report, run, others, out, seed): `HtmlReport`, `RunData`, list of `RunData`, folder, int.
"""

import numpy as np

from isra_keras.analysis import comparison, embedding, similarity, style, topics
from isra_keras.analysis.per_class import accuracy, per_class

BATCH_EACH = 24  # samples of each domain in the figure of a mini-batch
SHOWN_TOPICS = 8
TSNE_EACH = 400


def weights(report, run, others, out, seed):
    """Class weights (the paper's Figure 3 a)."""
    from isra_keras.analysis.report import plot_class_weights

    report.section("Class weights")
    for kind in ("png", "svg"):
        plot_class_weights(run.class_weights(), run.class_names, out / f"class_weights.{kind}", run.target_counts())
    report.figure(
        out / "class_weights.png",
        "How much of the target each class is judged to be. Blue: judged shared. Triangles, where there are target "
        "labels: classes that the target really has. A good run has its blue bars beside the triangles.",
    )


def attention(report, run, others, out, seed):
    """Attention over a mini-batch (Figure 3 b, c)."""
    report.section("Attention over a mini-batch")
    if not run.maps.num_topics:
        return report.paragraph("This run has no topics: it was trained without the plug-in, or before it was kept.")
    rng = np.random.default_rng(seed)
    rows, labels = [], []
    for part, known in ((run.source, run.source.labels), (run.target, run.predictions)):
        chosen = rng.choice(len(known), min(BATCH_EACH, len(known)), replace=False)
        chosen = chosen[np.argsort(known[chosen], kind="stable")]
        seen = (part.pooled if run.maps.inputs == "pooled" else part.features)[chosen]
        rows.append(seen)
        labels.append(known[chosen])
    values = run.maps.receive(np.concatenate(rows))[1]
    topics.plot_batch_attention(
        values, np.concatenate(labels), len(rows[0]), run.class_names, out / "batch_attention.png"
    )
    report.figure(
        out / "batch_attention.png",
        "Receptors' attention |dg/dx| over a mini-batch, source rows above the orange line (sorted by label), target rows "
        "below (sorted by predicted class). Left: each topic's attention to each sample. Right: the topic with most "
        "attention, feature by feature; columns that are dark in every row are features that the topic always looks at.",
    )


def tsne(report, run, others, out, seed):
    """t-SNE of this run and the others in one layout (Figure 3 d-f), and what it shows in numbers."""
    report.section("Embedding")
    shared, panels, numbers, start = run.shared(), [], [], None
    for one in [*others, run]:
        source, target = (_some(len(p.labels), TSNE_EACH) for p in (one.source, one.target))
        features = np.concatenate([one.source.features[source], one.target.features[target]])
        is_target = np.repeat([False, True], [len(source), len(target)])
        labels = np.concatenate([one.source.labels[source], np.zeros(len(target), int)])
        points = embedding.embed(features, start, seed)
        start = points if start is None else start
        panels.append((one.name, points, is_target, labels))
        found = embedding.separation(features, is_target, labels, shared)
        in_shared = features[: len(source)][shared[labels[: len(source)]]]
        enough = min(len(in_shared), len(target)) >= 8
        far = similarity.a_distance(in_shared, features[len(source) :], seed) if enough else float("nan")
        numbers.append(
            (one.name, f"{100 * found['nearest_is_shared']:.1f} %", f"{found['silhouette']:.3f}", f"{far:.2f}")
        )
    embedding.plot_embeddings(panels, shared, out / "tsne.png")
    report.figure(
        out / "tsne.png",
        f"t-SNE of the bottleneck's features (at most {TSNE_EACH} images a domain). Later panels begin from the first "
        "one's layout and are turned onto it. Orange should lie on blue, away from grey.",
    )
    report.table(("run", "target images nearest to a shared class", "silhouette of the source's classes",
                  "A-distance, shared source classes to target"), numbers)  # fmt: skip


def category(report, run, others, out, seed):
    """Category similarity (Figure 4)."""
    report.section("Category similarity")
    labelled = (run.target.labels >= 0).any()
    labels, shared, count = run.target.labels if labelled else run.predictions, run.shared(), len(run.class_names)
    table = similarity.category_similarity(
        similarity.class_means(run.target.features, labels, count),
        similarity.class_means(run.source.features, run.source.labels, count),
    )
    similarity.plot_similarity(table, shared, run.class_names, out / "similarity.png")
    by = "their labels" if labelled else "their predicted classes"
    report.figure(
        out / "similarity.png",
        f"Cosine of each target class's mean feature (by {by}) with each source class's, around the source's mean. "
        "Left of the line: shared classes; a good run is orange on the diagonal there and nowhere to the right.",
    )
    own, rest = np.diag(table), np.where(shared[None], np.nan, table)
    known = shared & ~np.isnan(own)  # a class that is predicted, though judged absent, has its own class in `rest`
    if shared.all() or not known.any():
        return
    wrong = np.nanmax(rest[known], axis=1)
    report.paragraph(
        f"Mean cosine with the own source class {own[known].mean():.3f}, with the most similar source-only class "
        f"{wrong.mean():.3f}; the own class is nearer for {(own[known] > wrong).sum()} of {known.sum()} classes."
    )


def classes(report, run, others, out, seed):
    """Accuracy by class, with the improvement over the first other run (Table 3), and confused pairs."""
    report.section("Classes")
    labels = run.target.labels
    if not (labels >= 0).any():
        return report.paragraph("The target has no labels: accuracy by class is unknown.")
    overall, averaged = accuracy(per_class(labels, run.predictions, run.class_names))
    whole = len(labels) == len(run.task.target)
    of = "" if whole else f" of {len(labels):,} of the target's {len(run.task.target):,} images; `evaluate` takes every readable one"
    report.paragraph(
        f"Accuracy {100 * overall:.2f} %, averaged over classes {100 * averaged:.2f} % (with target labels){of}."
    )
    if others:
        rows = comparison.improvement(labels, run.predictions, others[0].predictions, run.class_names)
        comparison.plot_improvement(rows, (run.name, others[0].name), out / "improvement.png")
        report.figure(
            out / "improvement.png", f"Accuracy of each class in {run.name} (dark) and {others[0].name} (white)."
        )
        report.table(("class", "images", run.name, others[0].name, "difference"),
                     [(r[0], r[1], f"{100 * r[2]:.1f} %", f"{100 * r[3]:.1f} %", f"{100 * r[4]:+.1f}") for r in rows])  # fmt: skip
    else:
        rows = [row for row in per_class(labels, run.predictions, run.class_names) if row.count]
        report.table(("class", "images", "accuracy"), [(r.name, r.count, f"{100 * r.accuracy:.1f} %") for r in rows])
    report.paragraph("Most confused pairs:")
    pairs = comparison.confused_pairs(labels, run.predictions, run.class_names)
    report.table(("true class", "taken for", "images", "share of the class"),
                 [(a, b, n, f"{100 * share:.1f} %") for a, b, n, share in pairs])  # fmt: skip


def samples(report, run, others, out, seed):
    """Contact sheets of the most uncertain and the most confidently wrong (Figure 5)."""
    from isra_keras.selection.scores import softmax

    report.section("Images")
    if run.info["kind"] != "images":
        return report.paragraph("The run is on precomputed features: there are no images to show.")
    confidence, names = softmax(run.target.logits).max(axis=1), run.class_names
    found = comparison.noteworthy(run.target.labels, run.target.logits)
    captions = {
        "uncertain": "Target images with the highest entropy: predicted class, confidence, (true class).",
        "confidently wrong": "Target images with the highest confidence in a wrong class: predicted, (true class).",
    }
    for kind, rows in found.items():
        if not len(rows):
            continue
        words = [f"{_name(names, p)} {100 * confidence[r]:.0f} %" + (f"\n({_name(names, t)})" if t >= 0 else "")
                 for r, p, t in zip(rows, run.predictions[rows], run.target.labels[rows])]  # fmt: skip
        path = out / f"{kind.replace(' ', '_')}.png"
        comparison.contact_sheet(run.target.images(rows, run.info), words, path)
        report.figure(path, captions[kind])


def topic_section(report, run, others, out, seed):
    """What the topics mean: matrix with classes, domains, top images."""
    report.section("Topics")
    if not run.maps.num_topics:
        return report.paragraph("This run has no topics: it was trained without the plug-in, or before it was kept.")
    count = len(run.class_names)
    matrix = topics.topic_class_matrix(run.source.responses, run.source.labels, count)
    rows = topics.topic_table(run.source.responses, run.target.responses, run.source.labels, count)
    active = [row for row in rows if row["active"]]
    report.paragraph(
        f"{len(active)} of {len(rows)} topics respond differently to different images. On average classes explain "
        f"{100 * np.mean([row['explained'] for row in active]) if active else 0:.0f} % of a topic's variance on the "
        "source (chance, which many classes of few images have much of, is taken off): 0 % would be topics without any "
        "relation to classes, 100 % topics that are nothing but classes."
    )
    topics.plot_topic_classes(matrix, run.shared(), run.class_names, out / "topic_classes.png")
    report.figure(
        out / "topic_classes.png",
        "Mean response of each topic to each source class, in deviations of the topic; the topics with the strongest "
        "response to one class. A row with one orange cell is a topic of one class; several, a trait that classes share.",
    )
    topics.plot_topic_domains(rows, out / "topic_domains.png")
    report.figure(out / "topic_domains.png",
                  "Mean response of each topic on both domains. On the line: shared alike by the domains.")  # fmt: skip
    best = sorted(active, key=lambda row: -row["explained"])[:SHOWN_TOPICS]
    report.table(("topic", "classes with the highest response", "variance explained by classes", "source", "target"),
                 [(r["topic"], ", ".join(run.class_names[c] for c in r["classes"]), f"{100 * r['explained']:.0f} %",
                   f"{r['source_mean']:.3f}", f"{r['target_mean']:.3f}") for r in best])  # fmt: skip
    if run.info["kind"] == "images" and best:
        _top_images(report, run, [row["topic"] for row in best], out)


def _top_images(report, run, chosen, out, each=4):
    """Sheet: a row a topic, the source's and the target's images that respond most."""
    images, captions = [], []
    for topic in chosen:
        for part in (run.source, run.target):
            rows = np.argsort(-part.responses[:, topic], kind="stable")[:each]
            found = part.images(rows, run.info)
            missing = each - len(rows)  # of a domain of fewer images than that
            images += [*found, *[np.full_like(found[0], 255)] * missing]
            known = part.labels[rows]
            captions += [_name(run.class_names, label) if label >= 0 else "?" for label in known] + [""] * missing
    comparison.contact_sheet(
        np.stack(images), captions, out / "topic_images.png", 2 * each, [f"topic {topic}" for topic in chosen],
        ("source", "target"),
    )  # fmt: skip
    report.figure(
        out / "topic_images.png",
        "A row a topic: the four source images and the four target images that respond most, with their true classes.",
    )


def _some(count, limit):
    """At most `limit` positions, spread evenly."""
    return np.linspace(0, count - 1, min(count, limit)).astype(int)


def _name(names, label):
    return style.short(names[int(label)], 14)


WRITERS = {
    "weights": weights, "attention": attention, "embedding": tsne, "similarity": category, "classes": classes,
    "samples": samples, "topics": topic_section,
}  # fmt: skip
