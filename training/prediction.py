"""Predictions of a trained network for every scan of a folder: resumable, nothing half-written, a bad file named and passed over.

A method gives what is its own: the suffixes of the files that it writes for a scan, and a function from the scan to their contents.
"""

import collections
import concurrent.futures
import dataclasses
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

from tqdm import tqdm

from microscopy.folder import list_scans, read_scan
from microscopy.scan import DataError, Refused, Scan
from training import checkpoints
from training.errors import ConfigError, RunError
from training.generation import claim, write
from training.signals import Stop

FORMATS = ("png", "tiff", "npy", "gwy")
RECORD = "prediction.json"
WORKERS = 3
"""Files under way at a time: one is read and one written while one is in the network."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What `--mode=predict` asks for: `input` a file or folder, `format` "" as it, `smoothing` px of the output, `tile` 0 automatic."""

    input: str
    output: str
    checkpoint: str = "last"
    format: str = ""
    smoothing: float = 0.0
    tile: int = 0
    stop: Stop = dataclasses.field(default_factory=Stop)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How many predictions were written and how many were there before, and the files that could not be read or predicted."""

    written: int
    there: int
    refused: list[Refused]


def check(request: Request) -> None:
    """Raises ConfigError for a request that cannot be."""
    if not request.input:
        raise ConfigError("--input=FILE_OR_DIR is missing: the scans to predict from.")
    if not request.output:
        raise ConfigError("--output=DIR is missing: the folder the predictions are written to.")
    if request.format and request.format not in FORMATS:
        raise ConfigError(f"--format={request.format}: choose {', '.join(FORMATS)}, or leave it out to write what was read.")
    if not 0 <= request.smoothing <= 100:
        raise ConfigError(f"--smoothing={request.smoothing}: 0 (none) to 100 pixels of the output.")
    if request.tile < 0:
        raise ConfigError(f"--tile={request.tile}: 0 (automatic) or a number of pixels.")


def facts(workdir, request: Request, step: int) -> dict:
    """Returns what prediction.json says of a folder of predictions: which weights, scans and options made them."""
    return {
        "workdir": str(workdir),
        "step": step,
        "weights_sha256": checkpoints.verify(workdir, step)["sha256"],
        "input": str(pathlib.Path(request.input).expanduser().resolve()),
        "format": request.format or "as the input",
        "smoothing": request.smoothing,
        "tile": request.tile,
    }


def run(
    request: Request,
    facts: Mapping,
    suffixes: Callable[[pathlib.Path], Sequence[str]],
    one: Callable[[Scan], Mapping[str, bytes]],
    *,
    max_pixels: int,
    channel: str = "",
) -> Outcome:
    """Returns what came of it after the predictions of every scan of `request.input` stand in `request.output`.

    Those of the scan with the id "a" are the files "a" + suffix, `suffixes(file)` of the input file and, with their contents, `one(scan)`
    of what was read. A scan all of whose files are there is left. `one` runs in several threads: what must be alone takes its own lock.
    prediction.json holds the `facts`; a folder of others is refused (ConfigError). A scan that raises DataError is named and the
    others go on; at the end there is a RunError with the first of them. The disk's refusal ends it at once (RunError).
    """
    check(request)
    files, folder = list_scans(request.input), pathlib.Path(request.output)
    claim(folder, RECORD, facts, "*", free=("workdir", "tile"))
    wanted = {id: [folder / f"{id}{suffix}" for suffix in suffixes(file)] for id, file in files.items()}
    missing = {id: files[id] for id, paths in wanted.items() if not all(path.exists() for path in paths)}

    def predict(id: str, file: pathlib.Path) -> Refused | None:
        try:
            scan = read_scan(id, file, max_pixels=max_pixels, channel=channel)
            contents = one(scan)
        except DataError as error:
            return Refused(str(file), str(error).removeprefix(f"{file}: "))
        for suffix, content in contents.items():
            _write(folder / f"{id}{suffix}", content)
        if scan.note:
            tqdm.write(f"{file}: {scan.note}")
        return None

    request.stop.gentle = True  # between two files nothing is half-written
    started = time.monotonic()
    written, refused = _each(predict, missing, request.stop, len(files))
    outcome = Outcome(written, len(files) - len(missing), refused)
    print(summary(folder, outcome, time.monotonic() - started, request.stop))
    if refused and request.stop.signal is None:
        raise RunError(_told(folder, outcome))
    return outcome


def _each(predict: Callable, missing: Mapping[str, pathlib.Path], stop: Stop, total: int) -> tuple[int, list[Refused]]:
    """Returns (how many were written, the refused) after `predict` of each, a few at a time; none is begun after a signal."""
    pool, waiting, refused, written = concurrent.futures.ThreadPoolExecutor(WORKERS), collections.deque(), [], 0
    todo = iter(missing.items())
    try:
        with tqdm(total=total, initial=total - len(missing), unit="image", desc="predict") as bar:
            while True:
                while len(waiting) < WORKERS and stop.signal is None and (item := next(todo, None)) is not None:
                    waiting.append(pool.submit(predict, *item))
                if not waiting:
                    return written, refused
                wrong = waiting.popleft().result()
                bar.update()
                if wrong is None:
                    written += 1
                else:
                    refused.append(wrong)
                    tqdm.write(f"refused: {wrong.file}: {wrong.reason}")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def summary(folder: pathlib.Path, outcome: Outcome, seconds: float, stop: Stop) -> str:
    """Returns the closing line: how many predictions were written how fast, how many were there, or that it was interrupted."""
    if stop.signal is not None:
        return f"{folder}: interrupted after {outcome.written} predictions; the same command goes on."
    there = f", {outcome.there} were there" if outcome.there else ""
    refused = f", {len(outcome.refused)} refused" if outcome.refused else ""
    speed = outcome.written / max(seconds, 1e-9)
    return f"{folder}: {outcome.written} predictions written in {seconds:.1f} s ({speed:.3g} images/s){there}{refused}."


def _told(folder: pathlib.Path, outcome: Outcome) -> str:
    total = outcome.written + outcome.there + len(outcome.refused)
    lines = [f"{wrong.file}: {wrong.reason}" for wrong in outcome.refused[:2]]
    more = [f"and {len(outcome.refused) - 2} more, listed above."] if len(outcome.refused) > 2 else []
    return "\n".join([f"{len(outcome.refused)} of {total} files have no prediction; the others are in {folder}.", *lines, *more])


def _write(path: pathlib.Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent} cannot be made: {error.strerror or error}.") from error
    write(path, content)
