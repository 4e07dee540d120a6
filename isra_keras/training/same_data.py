"""What a checkpoint says of the data it was trained on, so that a run goes on with these and no others."""

import hashlib

import numpy as np

from isra_keras.errors import UserError


def data_facts(task):
    """JSON dict of a task: its classes, and of both domains the number of samples and a digest of names and labels.

    Folders may have moved: of a path only the file's name counts. Pixels are not read.
    """
    facts = {"classes": list(task.class_names)}
    for side in ("source", "target"):
        domain = getattr(task, side)
        digest = hashlib.sha256(np.ascontiguousarray(domain.labels).tobytes())
        digest.update((domain.paths.digest() if domain.paths is not None else "").encode())
        facts[side] = {"samples": len(domain), "digest": digest.hexdigest()}
        if domain.files is not None:  # features of images: apart, as checkpoints of before lack it
            facts[side]["files"] = domain.files
    return facts


def check_same_data(saved, found, folder):
    """Refuses to go on with other data: labels and samples are kept by their numbers.

    Args:
        saved: `data_facts` in the checkpoint; None in one of a version that did not keep them, which passes.
        found: `data_facts` of the task that is there now; what `saved` does not know of it is not compared.
        folder: of the run.

    Raises:
        UserError: names what differs.
    """
    if saved:
        known = {side: {name: saved[side].get(name, value) for name, value in found[side].items()} for side in ("source", "target")}
        saved = saved | known
    if not saved or saved == found:
        return
    told = []
    gone, new = (sorted(set(a) - set(b)) for a, b in ((saved["classes"], found["classes"]), (found["classes"], saved["classes"])))
    if gone or new:
        told.append(f"classes that are gone: {_some(gone)}, that are new: {_some(new)}")
    for side in ("source", "target"):
        before, now = saved[side], found[side]
        if before["samples"] != now["samples"]:
            told.append(f"{before['samples']} samples of the {side} then, {now['samples']} now")
        elif before != now:
            told.append(f"other files or labels in the {side}")
    raise UserError(
        f"Expected the data that the run in '{folder}' began with; received others ({'; '.join(told) or 'another order'}). "
        "Put them back to go on with it, or start again in another --out."
    )


def _some(names):
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"
