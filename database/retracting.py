"""What depends on a scan that has to be withdrawn: rows, the trainings they come from, and the trainings that used them."""

import difflib
import pathlib
from typing import NamedTuple

from database import gates, index
from database.index import Database
from training import lineage
from training.errors import ConfigError
from training.workdir import read_object

RESULTS = ("scores.json", "downstream.json", "downstream_*.png", "unet_database.safetensors", "report.html")
REAL = "real/real.json"
"""Beside a database: which scan each real crop is of."""


class Dependents(NamedTuple):
    """What depends on a scan: its `scan` record, the places of the `rows` it is behind, of those `nearest` to it, and a line a stage.

    `crops` are the files that show it: what `W/real` holds of it, crops and whole.
    """

    scan: dict
    rows: list[int]
    nearest: list[int]
    stages: list[str]
    results: list[pathlib.Path]
    crops: list[pathlib.Path]


def dependents(database: Database, name: str) -> Dependents:
    """Returns what depends on the scan of this id, file name or SHA-256 (8 digits at least), here and in the runs beside the database.

    A scan of any split counts: what it trained, what it chose or calibrated (held_out) and what it judged (test). ConfigError where no
    such scan is known, with the nearest name, and where the name means several.
    """
    lineages = _lineages(database)
    known = {scan["sha256"]: scan for scan in database.facts["sources"]}
    for found in lineages.values():
        for scan in lineage.behind(found):
            known.setdefault(scan["sha256"], {key: scan[key] for key in ("id", "file", "sha256")})
    own = {row["sha256"] for row in database.rows}
    scan = _named(name, {sum: scan for sum, scan in known.items() if sum not in own}, database.folder)
    behind = {source["sha256"] for source in gates.behind_database(database.folder)}
    rows = list(range(len(database.rows))) if scan["sha256"] in behind else []
    nearest = [place for place, row in enumerate(database.rows) if row["nearest"] == scan["id"]]
    made = {database.rows[place]["sha256"] for place in rows}
    stages = [line for folder, found in lineages.items() if (line := _line(folder, found, scan["sha256"], made))]
    beside = database.folder.resolve().parent
    results = [path for name in RESULTS for path in sorted(beside.glob(name)) if path.is_file()] if stages or rows else []
    return Dependents(scan, rows, nearest, stages, results, _crops(beside, scan["sha256"]))


def _crops(folder: pathlib.Path, sha256: str) -> list[pathlib.Path]:
    """The real crops of a scan, and it whole, as `database.real` names them."""
    path = folder / REAL
    scans = read_object(path).get("scans") if path.is_file() else None
    known = scans.items() if isinstance(scans, dict) else ()
    numbers = {number for number, scan in known if isinstance(scan, dict) and scan.get("sha256") == sha256}
    return [file for file in sorted(path.parent.glob("*/*/*")) if file.stem.partition("_")[0] in numbers]


def _lineages(database: Database) -> dict[pathlib.Path, dict]:
    """The lineage of every run in the folder above the database, and of the stages it names wherever they lie."""
    folder = database.folder.resolve()
    places = [path.parent for path in sorted(folder.parent.glob("*/lineage.json"))]
    stages = (index.stage_folder(folder, database.facts.get(name)) for name in ("generator", "upscaler"))
    places += [place.resolve() for place in stages if place is not None]
    return {place: lineage.read(place) for place in dict.fromkeys(places) if (place / "lineage.json").is_file()}


def _named(name: str, known: dict[str, dict], folder: pathlib.Path) -> dict:
    found = [scan for scan in known.values() if name in (scan["id"], scan["file"], pathlib.PurePath(scan["file"]).name, scan["sha256"])]
    if not found and len(name) >= 8:
        found = [scan for scan in known.values() if scan["sha256"].startswith(name.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{name}: {len(found)} scans have this name; give the SHA-256, such as {found[0]['sha256'][:16]}.")
    near = difflib.get_close_matches(name, [scan["id"] for scan in known.values()], 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{name}: no such scan is behind {folder} or the runs beside it.{hint}\nGive its id, file name or SHA-256.")


def _line(folder: pathlib.Path, found: dict, sha256: str, made: set[str]) -> str:
    """How a run depends on the scan or on images made from it, "" where it does not."""
    ways = {"train": "trained on it", "held_out": "held it out, to be scored or calibrated on", "test": "is judged by it"}
    told = [ways[scan["split"]] for scan in found["scans"] if scan["sha256"] == sha256 and scan["split"] in ways]
    for source in found["upstream"]:
        if any(scan["sha256"] == sha256 and scan["split"] == "train" for scan in source.get("scans", [])):
            told.append(f"was begun from {source['source']}, which was trained on it")
    count = sum(scan["sha256"] in made for scan in found["scans"])
    told += [f"used {count} images made from it"] if count else []
    return f"{folder}: {'; '.join(dict.fromkeys(told))}" if told else ""


def rows_text(places: list[int]) -> str:
    """Returns the ids at rising places as ranges: "000000-000099, 000104"."""
    parts: list[list[int]] = []
    for place in places:
        if parts and parts[-1][1] == place - 1:
            parts[-1][1] = place
        else:
            parts.append([place, place])
    return ", ".join(f"{low:06d}" if low == high else f"{low:06d}-{high:06d}" for low, high in parts)
