"""A feature set of a few rows in the form of PACS, for cells that train in a second."""

import numpy as np

from isra_keras.benchmarking.grid import Cell, as_given

GIVEN = {"iterations": 12, "eval_interval": 4, "batch_size": 8, "feature_dim": 8, "num_topics": 3, "receptor_width": 4,
         "allow_incomplete": True}  # fmt: skip


def write_features(folder, rows=6, width=10):
    """Writes pacs_small.npz: seven classes as noisy corners, moved a little by domain; returns the folder's name."""
    from isra_keras.data.protocols import protocols

    protocol, rng = protocols()["pacs_features"], np.random.default_rng(0)
    columns = {"features": [], "domain": [], "cls": [], "path": []}
    for shift, domain in enumerate(protocol.domains):
        for number, name in enumerate(protocol.classes):
            for row in range(rows):
                columns["features"].append(3 * np.eye(width)[number] + 0.2 * shift + 0.4 * rng.normal(size=width))
                columns["domain"].append(domain)
                columns["cls"].append(name)
                columns["path"].append(f"{domain}/{name}/{row}")
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    np.savez(folder / "pacs_mobilenetv2.npz", **(arrays | {"features": arrays["features"].astype("float32")}))
    return str(folder)


def small_cell(method="ba3us", isra="off", **given):
    """A cell on it."""
    return Cell("pacs_features", "A-C", method, isra, 0, as_given(GIVEN | given))
