"""Whether a database is what its index says: files against their SHA-256, and rows made again from the weights."""

import concurrent.futures
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from database import index, making, recipe
from database.index import Database
from microscopy.atomic import write_bytes
from microscopy.formats import read_image
from microscopy.scan import DataError
from training import sources
from training.errors import RunError

WORKERS = 4
LEVELS = 1
"""Grey levels by which an image of another device or jax version may differ, of heights that share of the value map's range."""
LABEL_SHARE = 0.01
"""Of the label's pixels, there too: a grey level moves an outline by less than a pixel."""


class Finding(NamedTuple):
    """One thing wrong: `kind` is missing, changed, extra or differs (made again, it is another image); `file` within the folder."""

    kind: str
    file: str
    text: str = ""


def files(database: Database) -> list[Finding]:
    """Returns what of the files of all rows is missing or changed, and which files of the folders belong to no row, in that order."""
    wanted = {file: sum for row in database.rows for file, sum in index.files(row).items()}
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        sums = dict(zip(wanted, pool.map(lambda file: sources.digest(database.folder / file), wanted), strict=True))
    found = [Finding("changed" if sums[file] else "missing", file) for file in wanted if sums[file] != wanted[file]]
    there = (path for name in index.FOLDERS for path in sorted((database.folder / name).rglob("*")) if not path.is_dir())
    names = (path.relative_to(database.folder).as_posix() for path in there)
    return found + [Finding("extra", name) for name in names if name not in wanted]


def same_surroundings(facts: Mapping) -> bool:
    """Returns whether this device and jax version are those the database was made on, so that every bit comes back."""
    return facts["environment"] == recipe.environment()


def choose(database: Database, num: int, seed: int) -> list[int]:
    """Returns the places of `num` rows drawn without replacement by the seed, all where there are no more, rising."""
    count = len(database.rows)
    return sorted(np.random.default_rng(seed).permutation(count)[:num].tolist())


def regenerate(database: Database, places: Sequence[int], made_by: making.Recipe):
    """Yields (place, its file -> content made again) for each of the rows; chunks are made once each. Labels by hand are left out."""
    chunks: dict[int, list[int]] = {}
    for place in places:
        chunks.setdefault(database.rows[place]["index"] // making.CHUNK, []).append(place)
    for number in sorted(chunks):
        large, fields = making.enlarged(made_by, *made_by.chunk(number))
        for place in chunks[number]:
            row = database.rows[place]
            i = row["index"] % making.CHUNK
            made = making.finished(made_by, large[i], None if fields is None else fields[i], database.facts["nm_per_pixel"])
            by_hand = row["label_origin"] != made_by.label_origin
            yield place, {row[kind]: content for kind, content in made.files.items() if row[kind] and not (kind == "label" and by_hand)}


def rows(database: Database, places: Sequence[int], made_by: making.Recipe, exact: bool) -> list[Finding]:
    """Returns which files of these rows come out otherwise when they are made again, with the difference.

    `exact`: another SHA-256 than the row states. Else images may differ by one grey level, heights by as much of the value map's range,
    labels in 1 % of their pixels, from the file that stands.
    """
    found = []
    for place, contents in regenerate(database, places, made_by):
        sums = index.files(database.rows[place])
        for file, content in contents.items():
            if making.sha256_of_bytes(content) == sums[file]:
                continue
            text, within = difference(database, file, content)
            if exact or not within:
                found.append(Finding("differs", file, text))
    return found


def difference(database: Database, file: str, content: bytes) -> tuple[str, bool]:
    """Returns (how the content differs from the file that stands, in words; whether it is within the bounds of another device)."""
    try:
        there = read_image(database.folder / file, max_pixels=2**28)
    except DataError as error:
        return str(error).splitlines()[0], False
    made = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if made.shape != there.shape or made.dtype != there.dtype:
        return f"{made.dtype} {made.shape} instead of {there.dtype} {there.shape}", False
    share = float(np.mean(made != there))
    if file.startswith("labels/"):
        return f"{100 * share:.3g} % of the pixels have another instance", share <= LABEL_SHARE
    most = float(np.abs(made.astype(np.float64) - there.astype(np.float64)).max())
    if file.startswith("images/"):
        return f"up to {most:.0f} grey levels in {100 * share:.3g} % of the pixels", most <= LEVELS
    value_map = database.facts["value_map"]
    return f"up to {most:.3g} nm", most <= LEVELS * (value_map["high"] - value_map["low"]) / 255 * (1 + 1e-6)


def repair(database: Database, broken: Sequence[Finding], made_by: making.Recipe) -> list[Finding]:
    """Returns what could not be mended of the missing and changed files: each is made again and written where its SHA-256 is the row's.

    RunError where the disk refuses a file.
    """
    names = {finding.file for finding in broken if finding.kind in ("missing", "changed")}
    places = [place for place, row in enumerate(database.rows) if names & index.files(row).keys()]
    mended = set()
    for place, contents in regenerate(database, places, made_by):
        sums = index.files(database.rows[place])
        for file, content in contents.items():
            if file in names and making.sha256_of_bytes(content) == sums[file]:
                _write(database.folder / file, content)
                mended.add(file)
    return [finding for finding in broken if finding.file not in mended]


def _write(path: pathlib.Path, content: bytes) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.\n{index.AGAIN}") from error
