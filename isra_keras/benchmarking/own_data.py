"""What the lines of a user's own folders say of what lay in them, and what has changed there since."""

import hashlib

from isra_keras.benchmarking.votes import unpack
from isra_keras.training.same_data import data_facts

SHORT = 12


def folder_facts(task):
    """What a line keeps of its data: {"classes", "source", "target": [number, digest]} of names and labels, no pixels."""
    facts = data_facts(task)
    classes = hashlib.sha256("\n".join(facts["classes"]).encode()).hexdigest()
    sides = {side: [facts[side]["samples"], facts[side]["digest"][:SHORT]] for side in ("source", "target")}
    return {"classes": [len(facts["classes"]), classes[:SHORT]]} | sides


def target_files(task):
    """Digest of the names of the target's files; None where it has none."""
    digest = task.target.names_digest
    return digest and digest[:SHORT]


def comparable(line, newest):
    """Whether the runs of two lines predicted the same rows as the same classes, as far as the lines know.

    Before there was a digest of the files' names in them, by the number of rows alone.
    """
    digests = line.get("target_files"), newest.get("target_files")
    classes = [each["data"]["classes"] if "data" in each else None for each in (line, newest)]
    if None not in classes and classes[0] != classes[1]:
        return False
    return rows_of(line) == rows_of(newest) and (None in digests or digests[0] == digests[1])


def rows_of(line):
    """Number of the target's samples that a line's vote has."""
    return len(unpack(line["vote"])[0]) if line.get("vote") else line.get("samples")


def changed_since(lines, task):
    """A sentence if models of these lines were trained on other data than what is there now; None otherwise.

    Args:
        lines: dicts of finished cells.
        task: the `Task` of the folders as they are.
    """
    now, files, told, count = folder_facts(task), target_files(task), {}, 0
    for line in lines:
        then = line.get("data")
        if then is None:
            changed = ["target: other photos"] if line.get("target_files") not in (None, files) else []
        else:
            changed = [f"{name}: {_difference(then[name], now[name])}" for name in now if then[name] != now[name]]
        count += bool(changed)
        told |= dict.fromkeys(changed)
    if not count:
        return None
    return (f"{count} of {len(lines)} models were trained before the folders changed ({'; '.join(told)}). They stay as they "
            "are; another --out trains all on what is there now.")  # fmt: skip


def _difference(then, now):
    return f"{then[0]:,} then, {now[0]:,} now" if then[0] != now[0] else "others, or other names"
