"""Ctrl-C and SIGTERM stop at once where nothing is lost; a loop they ask to stop after the step it is in.

A second Ctrl-C stops that at once too.
"""

import contextlib
import dataclasses
import signal
import sys


@dataclasses.dataclass
class Stop:
    """`signal` is None until a signal arrived, then its number. Exit code of the program: 128 + signal.

    A loop that polls `signal` and has work to save sets `gentle`; until then a signal raises KeyboardInterrupt.
    """

    signal: int | None = None
    gentle: bool = False


@contextlib.contextmanager
def stop_flag():
    """Yields a `Stop` that SIGINT and SIGTERM set while the context is open; the old handlers return afterwards."""
    stop = Stop()

    def handle(number, frame):
        del frame
        again, stop.signal = stop.signal is not None, number
        if not stop.gentle or (again and number == signal.SIGINT):
            raise KeyboardInterrupt
        if not again:
            print("Stopping after this step; Ctrl-C again stops at once.", file=sys.stderr, flush=True)

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
