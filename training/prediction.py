"""Predictions of a trained network for every scan of a folder: resumable, nothing half-written, a bad file named and passed over.

A method gives what is its own: the suffixes of the files that it writes for a scan, and a function from the scan to their contents.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from microscopy.folder import existing_folder, list_scans
from microscopy.scan import DataError, Refused, Scan
from training import arrivals, checkpoints, sources
from training.errors import ConfigError, RunError
from training.generation import claim, write
from training.inputs import STACKS, Item, items, make_read
from training.signals import Stop

FORMATS = ("png", "tiff", "npy", "gwy")
RECORD = "prediction.json"
WORKERS = 3
"""Files under way at a time: one is read and one written while one is in the network."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What `--mode=predict` asks for: `input` a file or folder, `format` "" as it, `smoothing` px of the output, `tile` 0 automatic.

    `watch`: wait for files until a signal. `weights`: a file of one model instead of a workdir's checkpoint. `size`: px of the output's
    longer side, 0 as the network gives it. `back_projections`: steps that bring the output, reduced again, to the input.
    `renamed(found)` gives what was found by other ids than its names (`pseudonyms.renaming`, kept unless told False); None: by its names.
    """

    input: str
    output: str
    checkpoint: str = "last"
    format: str = ""
    smoothing: float = 0.0
    tile: int = 0
    stop: Stop = dataclasses.field(default_factory=Stop)
    watch: bool = False
    weights: str = ""
    size: int = 0
    back_projections: int = 0
    renamed: Callable[..., dict[str, Any]] | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How many predictions were written and how many were there before, and the files that could not be read or predicted.

    `spans` has, of each that was written, when reading began and when its last file stood (`time.perf_counter`).
    """

    written: int
    there: int
    refused: list[Refused]
    spans: tuple[tuple[float, float], ...] = ()


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
    if not 0 <= request.size <= 32768:
        raise ConfigError(f"--size={request.size}: 0 (as the network gives it) to 32768 pixels.")
    if not 0 <= request.back_projections <= 100:
        raise ConfigError(f"--back_projections={request.back_projections}: 0 (none) to 100 steps.")
    if request.tile < 0:
        raise ConfigError(f"--tile={request.tile}: 0 (automatic) or a number of pixels.")


def facts(workdir, request: Request, step: int) -> dict:
    """Returns what prediction.json says of a folder of predictions: which weights, scans and options made them."""
    return {
        "workdir": str(workdir),
        "step": step,
        "weights_sha256": checkpoints.verify(workdir, step)["sha256"],
        **options(request),
    }


def options(request: Request) -> dict:
    """Returns what prediction.json says of a request, whatever weights it is for."""
    place = str(pathlib.Path(request.input).expanduser().resolve())
    return {
        "input": next(iter(request.renamed({place: place}))) if request.renamed else place,
        "format": request.format or "as the input",
        "smoothing": request.smoothing,
        "size": request.size,
        "back_projections": request.back_projections,
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
    """Returns what came of it after the predictions of every scan of `request.input` stand in `request.output`: `write_all`.

    With a scan that could not be read or predicted there is, at the end, a RunError with the first of them.
    """
    if request.watch:
        raise ConfigError("--watch: this method does not wait for files; leave it out.")
    outcome = write_all(request, facts, suffixes, one, max_pixels=max_pixels, channel=channel)
    refuse(request, outcome)
    return outcome


def refuse(request: Request, outcome: Outcome) -> None:
    """Raises RunError with the first of the refused files, if there are any and nothing was interrupted."""
    if outcome.refused and request.stop.signal is None:
        raise RunError(_told(pathlib.Path(request.output), outcome))


def write_all(
    request: Request,
    facts: Mapping,
    suffixes: Callable[[pathlib.Path], Sequence[str]],
    one: Callable[[Scan], Mapping[str, bytes]],
    *,
    max_pixels: int,
    channel: str = "",
    pages: bool = False,
    workers: int = WORKERS,
    read: Callable[[str, Item], Scan] | None = None,
    parts: str = "",
    within: Callable[[set[str]], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> Outcome:
    """Returns what came of it after the predictions of every scan of `request.input`, at any depth, stand in `request.output`.

    Those of the scan with the id "a" are the files "a" + suffix, `suffixes(file)` of the input file and, with their contents, `one(scan)`
    of what was read. A scan all of whose files are there is left. `one` runs in several threads: what must be alone takes its own lock.
    prediction.json holds the `facts`; a folder of others is refused (ConfigError). A scan that raises DataError is named and the
    others go on. The disk's refusal ends it at once (RunError). `pages` makes each page of a TIFF a scan (`items`), `read` reads a file in
    place of `make_read`'s. With `request.watch` scans are predicted as they arrive, until a signal; one of a name that came is refused.
    Where one of the suffixes is that of `parts` that say what file they are of, a file keeps its id and a changed one is predicted anew
    (`training.sources`). All is written within `within(ids)` of the parts that no scan of the input has; with `request.watch` none of them.
    """
    check(request)
    folder, waits, named, clashes = pathlib.Path(request.output), request.watch, request.renamed or dict, []
    if waits:
        existing_folder(request.input)
    called = _make_called(request, parts, pages, clashes)
    files = {} if waits else named(items(called(list_scans(request.input, any_depth=True)), pages))
    claim(folder, RECORD, facts, "*", free=("workdir", "tile"))
    read, spans = read or make_read(max_pixels, channel), []

    def predict(id: str, item: Item) -> Refused | None:
        started = time.perf_counter()
        try:
            scan = read(id, item)
            contents = one(scan)
        except DataError as error:
            return Refused(str(item), str(error).removeprefix(f"{item}: "))
        for suffix, content in contents.items():
            _write(folder / f"{id}{suffix}", content)
        spans.append((started, time.perf_counter()))
        if scan.note or waits:
            tqdm.write(f"{item}: {scan.note or 'done'}")
        return None

    request.stop.gentle = True  # between two files nothing is half-written
    started, written, there, refused = time.monotonic(), 0, 0, []
    rounds = (named(found) for found in _arriving(request, called, pages, clashes)) if waits else (files,)
    with within(sources.gone(folder, files, parts) if parts and not waits else set()):
        for found in rounds:
            sources.forget_changed(folder, {id: item.file for id, item in found.items()} if parts else {}, parts)
            wanted = {id: [folder / f"{id}{suffix}" for suffix in suffixes(item.file)] for id, item in found.items()}
            missing = {id: found[id] for id, paths in wanted.items() if not all(path.exists() for path in paths)}
            num, wrong = _each(predict, missing, request.stop, len(found), workers, quiet=waits)
            written, there, refused = written + num, there + len(found) - len(missing), refused + wrong
        outcome = Outcome(written, there, [*refused, *clashes], tuple(spans))
        print(summary(folder, outcome, time.monotonic() - started, request.stop))
    return outcome


def _make_called(request: Request, parts: str, pages: bool, clashes: list[Refused]) -> Callable[[dict], dict[str, pathlib.Path]]:
    """Returns called(files): id -> file by the ids that they were predicted by (`sources.assigned`); the refused go to `clashes`."""
    folder = pathlib.Path(request.output)

    def called(files: dict[str, pathlib.Path]) -> dict[str, pathlib.Path]:
        @functools.cache
        def suffix_of(id: str, file: pathlib.Path) -> str | None:
            ids = dict.fromkeys([id, f"{id}_page0001"] if pages and file.suffix.lower() in STACKS else [id])
            found = (sources.of(folder / f"{one}{parts}") for one in (request.renamed(ids, False) if request.renamed else ids))
            return next((one["suffix"] for one in found if "suffix" in one), None)

        found, wrong = sources.assigned(files, suffix_of) if parts else (files, [])
        for one in wrong:
            _clash(clashes, one)
        return found

    return called


def _clash(clashes: list[Refused], wrong: Refused) -> None:
    clashes.append(wrong)
    tqdm.write(f"refused: {wrong.file}: {wrong.reason}")


def _arriving(request: Request, called: Callable, pages: bool, clashes: list[Refused]) -> Iterator[dict[str, Item]]:
    """Yields the `items` of the files that arrive; those that would have the name of one before are told and added to `clashes`."""
    known = {}
    for found in arrivals.settled(request.input, request.stop):
        new = {}
        for id, file in called(found).items():
            own = items({id: file}, pages)
            same = sorted(one for one in own if known.get(one, file) != file)
            if same:
                reason = f"would have the same name as the scan {same[0]} of {known[same[0]].name}; rename one"
                _clash(clashes, Refused(str(file), reason))
                continue
            known, new = known | dict.fromkeys(own, file), new | own
        yield new


def _each(predict: Callable, missing: Mapping[str, Item], stop: Stop, total: int, workers: int, quiet: bool) -> tuple[int, list[Refused]]:
    """Returns (how many were written, the refused) after `predict` of each, a few at a time; none is begun after a signal."""
    pool, waiting, refused, written = concurrent.futures.ThreadPoolExecutor(workers), collections.deque(), [], 0
    todo = iter(missing.items())
    try:
        with tqdm(total=total, initial=total - len(missing), unit="image", desc="predict", disable=quiet) as bar:
            while True:
                while len(waiting) < workers and stop.signal is None and (item := next(todo, None)) is not None:
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
    head = f"{len(outcome.refused)} of {total} files have no prediction; the others are in {folder}."
    if len(outcome.refused) == total:
        head = f"No prediction was written: {total} file{'s' if total > 1 else ''} refused."
    return "\n".join([head, *lines, *more])


def _write(path: pathlib.Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent} cannot be made: {error.strerror or error}.") from error
    write(path, content)
