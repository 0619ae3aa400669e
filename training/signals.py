"""Ctrl-C and SIGTERM ask a loop to stop after the step it is in; a second Ctrl-C stops at once."""

import contextlib
import dataclasses
import signal
import sys


@dataclasses.dataclass
class Stop:
    """`signal` is None until a signal arrived, then its number. Exit code of the program: 128 + signal."""

    signal: int | None = None


@contextlib.contextmanager
def stop_flag():
    """Yields a `Stop` that SIGINT and SIGTERM set while the context is open; the old handlers return afterwards."""
    stop = Stop()

    def handle(number, frame):
        del frame
        if stop.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if stop.signal is None:
            print("Stopping after this step; Ctrl-C again stops at once.", file=sys.stderr, flush=True)
        stop.signal = number

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
