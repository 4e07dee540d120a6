"""What a run was trained with, apart from its task, its seed and the semantic plug-in: what may be compared with what."""

from isra_keras.methods import get_method

OF_THE_RUN = ("seed", "source", "target", "source_dir", "target_dir", "data_dir", "allow_incomplete", "on_bad_image",
              "distribute", "sync_batch_norm", "keep_checkpoints", "format_version")  # fmt: skip
PLUG_IN = ("semantic", "variant", "num_topics", "class2vec_weight", "alignment_weight", "receptor_l1", "receptor_width",
           "normalisation")  # fmt: skip
PLUG_IN_PARTS = ("class2vec", "receptors")


def setting_of(run):
    """{name: value} of a `Run`'s configuration without what belongs to the run alone and to the plug-in.

    The network's options are there with those of the method. A name that a line leaves out was None, or not there yet.
    """
    config = run.line["config"]
    found = {name: value for name, value in config.items() if name not in (*OF_THE_RUN, *PLUG_IN) and value is not None}
    found["network_options"] = get_method(run.cell.method).network_options | config.get("network_options", {})
    found["freeze_backbone"] = config.get("freeze_backbone", False)
    for name in ("multipliers", "part_momentum"):
        found[name] = {part: value for part, value in config.get(name, {}).items() if part not in PLUG_IN_PARTS}
    return found


def differing(run, other):
    """Names in which the `setting_of` two runs differ, in order; of the network's options each by its own name."""
    one, two = setting_of(run), setting_of(other)
    options = [setting.pop("network_options") for setting in (one, two)]
    names = [name for name in dict.fromkeys((*one, *two)) if one.get(name) != two.get(name)]
    return names + [name for name in dict.fromkeys((*options[0], *options[1])) if options[0].get(name) != options[1].get(name)]
