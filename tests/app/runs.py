"""A small trained-looking run with topics for the app's tests, made without training."""

import json

import keras
import numpy as np

from isra_keras.backbones import build_network
from isra_keras.semantic import SemanticAlignment
from isra_keras.semantic.topic_network import topic_network


def make_app_run(folder, semantic=True, seed=0, data=True):
    """A run on glyphs with random weights. Returns the folder."""
    folder.mkdir(parents=True)
    keras.utils.set_random_seed(seed)
    names = list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    network = build_network("small_cnn", len(names), 16, (32, 32, 3), weights="none", seed=seed)
    network.save(folder / "model.keras")
    if semantic:
        plugin = SemanticAlignment(num_topics=5, receptor_width=8)
        plugin.build_parts(16, len(names), 128, {})
        topic_network(plugin, 16).save(folder / "semantic.keras")
    row = {"name": "0", "count": 4, "correct": 3, "predicted": 3, "accuracy": 0.75, "mistaken_for": "O", "mistakes": 1}
    info = {
        "task": "printed-handwritten", "method": "ba3us+isra (paper)" if semantic else "source_only", "kind": "images",
        "class_names": names, "image_size": None, "crop_size": None, "classes": [row],
        "class_weights": [1.0] * 10 + [0.0] * 26, "selected_by": "mean_entropy", "selected_step": 10,
        "entropy_quantiles": np.linspace(0, 2, 21).tolist(),
        "semantic": {"num_topics": 5, "variant": "paper", "inputs": "features"} if semantic else None,
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(info))
    config = {"dataset": "glyphs" if data else "office_home", "source": "printed", "target": "handwritten", "seed": 0}
    if not data:
        config |= {"source": "Art", "target": "Clipart", "data_dir": str(folder / "nowhere")}
    (folder / "config.json").write_text(json.dumps(config))
    choice = {"step": 10, "accuracy": 0.5, "scores": {"mean_entropy": 1.25}}
    (folder / "result.json").write_text(json.dumps({"selected": choice, "shared_classes": names[:10]}))
    return folder
