"""Which worker this process is, by TF_CONFIG; loads no TensorFlow."""

import json
import os

from isra_keras.errors import UserError


def cluster():
    """(workers, number of this one) of TF_CONFIG.

    Raises:
        UserError: it is missing or names no workers.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        values = json.loads(text)
        workers, index = len(values["cluster"]["worker"]), int(values["task"]["index"])
        if values["task"]["type"] != "worker" or not 0 <= index < workers or set(values["cluster"]) != {"worker"}:
            raise ValueError("only tasks of type worker are known")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            'Expected TF_CONFIG such as {"cluster": {"worker": ["host0:12345", "host1:12345"]}, "task": {"type": '
            f'"worker", "index": 0}}}} with --distribute multi_worker; received {text!r} ({error}). The list is the '
            "same on every machine, the index is its own."
        ) from None
    return workers, index


def is_chief(config):
    """Whether this process shows and keeps what comes out: it is alone, or worker 0."""
    return config.distribute != "multi_worker" or cluster()[1] == 0
