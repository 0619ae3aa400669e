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
    later, not when its id does because another of its stem arrives. What is wrong with the folder is printed once and waited for.
    """
    before, given, told = {}, {}, set()
    print(f"{place}: waiting for files; Ctrl-C ends.", flush=True)
    while stop.signal is None:
        now = _states(place, told)
        ready = {file: state for file, (_, *state) in now.items() if before.get(file) == state and given.get(file) != state and state[0]}
        given |= ready
        before = {file: state for file, (_, *state) in now.items()}
        yield {now[file][0]: file for file in ready}
        if stop.signal is None:
            time.sleep(POLL_SECONDS)


def _states(place: str, told: set[str]) -> dict[pathlib.Path, tuple[str, int, int]]:
    """Returns file -> (id, bytes, time of change in ns)."""
    states = {}
    try:
        for id, file in list_scans(place, any_depth=True).items():
            status = file.stat()
            states[file] = (id, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        pass  # one of them was moved away while they were listed; the next poll sees what is left
    except DataError as error:
        if "holds no image" not in str(error) and str(error) not in told:
            told.add(str(error))
            tqdm.write(str(error))
    return states
