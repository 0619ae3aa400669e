"""Errors a user can mend; `main.py` prints their message, at most five lines, and exits with `exit_code`."""

from microscopy.scan import DataError


class ConfigError(Exception):
    """A flag or config field is wrong; the message names it, its value and the remedy."""

    exit_code = 2


class RunError(Exception):
    """Data, weights, a checkpoint, the disk or the numbers stop the run; the message names which and the remedy."""

    exit_code = 1


EXPECTED = (ConfigError, RunError, DataError)
"""What a user can mend; anything else is our mistake and shows its traceback."""
