"""Do the attention maps of a run mean something? Deletion, insertion and randomisation on labelled target images.

    python benchmarks/attention_check.py RUN [--images 48] [--data-dir DIR] [--out benchmarks/results/attention.jsonl]

One JSON line: mean area under deletion (lower is better) and insertion (higher is better) for the map of the class's
topics, its strongest topic alone, Grad-CAM and noise, with standard errors; share of images on which a map has more under
insertion than noise; and the rank correlation of maps before and after shuffling the weights (near 0 is good).
"""

import argparse
import json
import sys
from pathlib import Path

from isra_keras.cli import run as run_cli
from isra_keras.errors import UserError


def build_parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--images", type=int, default=48, help="labelled target images, spread evenly")
    parser.add_argument("--data-dir", help="where the dataset is now")
    parser.add_argument("--out", help="append the line to this file as well")
    return parser


def main(argv=None):
    """Runs the checks; returns the exit code."""
    args = build_parser().parse_args(argv)
    import numpy as np

    from isra_keras.analysis.attention_checks import compare_maps, randomisation
    from isra_keras.analysis.attention_maps import AttentionMaps
    from isra_keras.evaluate import read_config, rebuild_task
    from isra_keras.run_folder import load_run, load_semantic

    network, info = load_run(args.run)
    maps = AttentionMaps(network, load_semantic(args.run), (info.get("semantic") or {}).get("inputs", "features"))
    if maps.map_shape is None:
        raise UserError("Expected a run on images with a convolutional map; this backbone has none.")
    domain = rebuild_task(read_config(args.run), args.data_dir).target
    images, labels = labelled_images(domain, info, args.images)
    areas, moved = compare_maps(maps, images, labels), randomisation(maps, images, labels)
    noise = areas["random"]
    line = {"task": info["task"], "method": info["method"], "images": len(images), "map": list(maps.map_shape)}
    line["areas"] = {
        name: {
            kind: [round(float(v.mean()), 4), round(float(v.std() / np.sqrt(len(v))), 4)] for kind, v in both.items()
        }
        | {"beats_random": round(float((both["insertion"] > noise["insertion"]).mean()), 3)}
        for name, both in areas.items()
    }
    line["correlation_after_shuffling"] = {
        part: {kind: round(float(np.nanmean(values)), 3) for kind, values in kinds.items()} for part, kinds in moved.items()
    }
    print(json.dumps(line, indent=1))
    if args.out:
        with open(Path(args.out), "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return 0


def labelled_images(domain, info, count):
    """(float32 (n, height, width, 3), (n,) labels) of labelled images, spread evenly over a domain."""
    import numpy as np

    from isra_keras.data.reader import make_reader

    known = np.flatnonzero(np.asarray(domain.labels) >= 0)
    if not len(known):
        raise UserError("Expected a target with labels; it has none.")
    chosen = known[np.linspace(0, len(known) - 1, min(count, len(known))).astype(int)]
    images, used = make_reader(domain, info["image_size"], info["crop_size"], cache=False).read(chosen.astype("int32"))
    return np.asarray(images, "float32"), np.asarray(domain.labels)[np.asarray(used)]


if __name__ == "__main__":
    sys.exit(run_cli(main))
