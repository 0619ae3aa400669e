"""Ctrl-C and SIGTERM stop at once where nothing is lost; a loop they ask to stop after the step it is in.

A second Ctrl-C stops that at once too.
"""

import contextlib
import dataclasses
import signal
import sys

_RETRY_SECONDS = 0.02


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
        again, stop.signal = stop.signal is not None, number
        if not stop.gentle or (again and number == signal.SIGINT):
            interrupt(number, frame)
        elif not again:
            print("Stopping after this step; Ctrl-C again stops at once.", file=sys.stderr, flush=True)

    def interrupt(number, frame):
        if not _swallows(frame):
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)

    handlers = {signal.SIGINT: handle, signal.SIGTERM: handle, signal.SIGALRM: interrupt}
    old = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in old.items():
            signal.signal(number, handler)


def _swallows(frame) -> bool:
    """Whether an exception raised here would be lost, in a callback of the garbage collector, or would break an import half way."""
    while frame is not None:
        if frame.f_code.co_name == "_xla_gc_callback" or frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
