"""Files that arrive in a folder, each once it is whole: what still grows waits."""

import pathlib
import time
from collections.abc import Iterator

from tqdm import tqdm

from microscopy.folder import list_scans
from microscopy.scan import DataError
from training.signals import Stop

POLL_SECONDS = 0.25


def settled(place: str, stop: Stop) -> Iterator[dict[str, pathlib.Path]]:
    """Yields, poll by poll until `stop.signal`, id -> file of the scans in the folder `place` that are whole and new: often none.

    A file is whole when its size, not 0, and its time of change were the same at two polls; it is yielded again when they change
    later. What is wrong with the folder is printed once and waited for.
    """
    before, given, told = {}, {}, set()
    print(f"{place}: waiting for files; Ctrl-C ends.", flush=True)
    while stop.signal is None:
        now = _states(place, told)
        ready = {id: state for id, state in now.items() if before.get(id) == state and given.get(id) != state and state[1]}
        given |= ready
        before = now
        yield {id: file for id, (file, _, _) in ready.items()}
        if stop.signal is None:
            time.sleep(POLL_SECONDS)


def _states(place: str, told: set[str]) -> dict[str, tuple[pathlib.Path, int, int]]:
    """Returns id -> (file, bytes, time of change in ns)."""
    states = {}
    try:
        for id, file in list_scans(place).items():
            status = file.stat()
            states[id] = (file, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        pass  # one of them was moved away while they were listed; the next poll sees what is left
    except DataError as error:
        if "holds no image" not in str(error) and str(error) not in told:
            told.add(str(error))
            tqdm.write(str(error))
    return states
