"""The exceptions that the command line turns into a sentence and an exit code."""

import difflib


class UserError(Exception):
    """Something the user can mend: says what was expected, what was received and what to do.

    The command line prints `error: <message>` on standard error and exits with code 2, without a
    traceback. Raise it before anything is written, or after removing what was half-written.
    """

    exit_code = 2


def did_you_mean(name, valid):
    """ " Did you mean 'ba3us'?" for a name that is nearly a valid one, else ""."""
    near = difflib.get_close_matches(str(name).lower().replace("-", "_"), list(valid), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


class DiskFull(UserError):
    """A write found no room on the disk, or no quota; once there is some, the same can be done again."""


class NotFinite(UserError):
    """A loss became NaN or infinite; the command line exits with code 3."""

    exit_code = 3


class WorkerLost(UserError):
    """Another worker of a distributed run is gone; the command line exits with code 4: start again with --resume."""

    exit_code = 4
