"""What ends a search and fails no trial: a full disk, data that went away. It says nothing about a trial's values, and the
same command goes on when it is mended."""

from contextlib import contextmanager

from keras_tuner import errors

from isra_keras.errors import DiskFull, UserError
from isra_keras.training.checkpoint import is_disk_full


class Unfit(errors.FatalError, UserError):
    """Ends the search, as `OutOfRoom` does: what the trial works with is to be mended, not its values."""


class OutOfRoom(errors.FatalError, DiskFull):
    """Ends the search: KerasTuner passes a `FatalError` on, so that the trial stays as it was, to be run again."""


@contextmanager
def out_of_room(out=None):
    """Around what writes for a search.

    Args:
        out: search folder, for the sentence; or None.

    Raises:
        OutOfRoom: in place of whatever a full disk raised.
    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        where = f" for the search in '{out}'" if out is not None else ""
        raise OutOfRoom(
            f"Expected room on the disk{where}; it is full, or its quota is used up. Free some space, then run the same "
            "command again: it goes on, and no finished trial is lost."
        ) from error
