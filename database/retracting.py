"""What depends on a scan that has to be withdrawn: rows, the trainings they come from, and the trainings that used them."""

import difflib
import pathlib
import re
from typing import NamedTuple

from database import gates, index
from database.index import Database
from training import checkpoints, lineage, pseudonyms, sources
from training.errors import ConfigError, RunError
from training.workdir import read_object

RESULTS = ("scores.json", "downstream.json", "downstream_*.png", "unet_database.safetensors", "report.html")
SHOWN = 8
REAL = "real/real.json"
"""Beside a database: which scan each real crop is of."""


class Dependents(NamedTuple):
    """What depends on a scan: its `scan` record, the places of the `rows` it is behind, of those `nearest` to it, and a line a stage.

    `crops` are the files that show it: what `W/real` holds of it, crops and whole. `found_by` says by what it was found, `salted` whether
    its id stands for a name that the runs do not tell.
    """

    scan: dict
    rows: list[int]
    nearest: list[int]
    stages: list[str]
    results: list[pathlib.Path]
    crops: list[pathlib.Path]
    found_by: str
    salted: bool


def dependents(database: Database, name: str) -> Dependents:
    """Returns what depends on the scan of this id, file name or SHA-256 (8 digits at least), here and in the runs beside the database.

    A scan of any split counts: what it trained, what it chose or calibrated (held_out) and what it judged (test). Where a run's ids are
    salted (`training.pseudonyms`) the name is salted likewise, and looked for in its names.json. ConfigError where no such scan is known,
    with the nearest name and what was looked at, where the name means several, and where it is a group's.
    """
    lineages = _lineages(database)
    records = [*database.facts["sources"], *(scan for found in lineages.values() for scan in lineage.behind(found))]
    own = {sha256 for row in database.rows for sha256 in index.files(row).values()}
    known = {
        scan["sha256"]: {key: scan[key] for key in ("id", "file", "sha256")} for scan in reversed(records) if scan["sha256"] not in own
    }
    records += [scan for scan in _numbered(database.folder.resolve().parent).values() if scan["sha256"] in known]
    scan, found_by = _named(name, known, records, list(lineages), database.folder)
    behind = {source["sha256"] for source in gates.behind_database(database.folder)}
    rows = list(range(len(database.rows))) if scan["sha256"] in behind else []
    ids = {one["id"] for one in records if one["sha256"] == scan["sha256"]}
    nearest = [place for place, row in enumerate(database.rows) if row["nearest"] in ids]
    made = own if rows else set()
    stages = [line for folder, found in lineages.items() if (line := _line(folder, found, scan["sha256"], made, database.folder))]
    beside = database.folder.resolve().parent
    results = [path for name in RESULTS for path in sorted(beside.glob(name)) if path.is_file()] if stages or rows else []
    return Dependents(scan, rows, nearest, stages, results, _crops(beside, scan["sha256"]), found_by, _is_salted(scan))


def _numbered(folder: pathlib.Path) -> dict[str, dict]:
    """Number of a real crop's scan -> id, file and SHA-256 of it, as `database.real` notes them; {} where there are no crops."""
    path = folder / REAL
    scans = read_object(path).get("scans") if path.is_file() else None
    known = scans.items() if isinstance(scans, dict) else ()
    return {number: scan for number, scan in known if isinstance(scan, dict) and {"id", "file", "sha256"} <= scan.keys()}


def _crops(folder: pathlib.Path, sha256: str) -> list[pathlib.Path]:
    """The real crops of a scan, and it whole, as `database.real` names them."""
    numbers = {number for number, scan in _numbered(folder).items() if scan["sha256"] == sha256}
    return [file for file in sorted((folder / REAL).parent.glob("*/*/*")) if file.stem.partition("_")[0] in numbers]


def _lineages(database: Database) -> dict[pathlib.Path, dict]:
    """The lineage of every run in the folder above the database, and of the stages it names wherever they lie."""
    folder = database.folder.resolve()
    places = [path.parent for path in sorted(folder.parent.glob("*/lineage.json"))]
    stages = (index.stage_folder(folder, database.facts.get(name)) for name in ("generator", "upscaler"))
    places += [place.resolve() for place in stages if place is not None]
    return {place: lineage.read(place) for place in dict.fromkeys(places) if (place / "lineage.json").is_file()}


def _named(name: str, known: dict[str, dict], records: list[dict], runs: list[pathlib.Path], folder: pathlib.Path) -> tuple[dict, str]:
    """(the scan of `known`, SHA-256 -> scan, that is called `name` in one of the records, by what it was found)."""
    found, by = _called({name}, records), "id or file name"
    salts = {run / pseudonyms.FILE: salt for run in (folder.resolve().parent, *runs) if (salt := pseudonyms.salt_of(run))}
    if not found and salts:
        told = {id for path in salts for id, file in read_object(path).get("names", {}).items() if name in _names(file)}
        found = _called(told | {pseudonyms.pseudonym(name, salt) for salt in salts.values()}, records)
        by = f"name, which its id stands for by {', '.join(f'{path.parent.name}/{path.name}' for path in salts)}"
    if not found and len(name) >= 8:
        found, by = {sha256 for sha256 in known if sha256.startswith(name.lower())}, "SHA-256"
    found = sorted(found & known.keys())
    if len(found) == 1:
        return known[found[0]], by
    if found:
        raise ConfigError(f"{name}: {len(found)} scans have this name; give the SHA-256, such as {found[0][:16]}.")
    _refuse_group(name, salts, [scan for scan in records if scan["sha256"] in known])
    near = difflib.get_close_matches(name, [scan["id"] for scan in records if scan["sha256"] in known], 1)
    hint, remedy = f" Did you mean {near[0]}?" if near else "", "Give its id, file name or SHA-256."
    if lost := [run.name for run in runs if run / pseudonyms.FILE not in salts and _are_salted(run)]:
        remedy = f"The ids of {', '.join(lost)} stand for names that only {pseudonyms.FILE} tells, which is not there: give the SHA-256."
    raise ConfigError(f"{name}: no such scan is behind {folder} or the runs beside it.{hint}\n{remedy}")


def _refuse_group(name: str, salts: dict[pathlib.Path, bytes], records: list[dict]) -> None:
    """Raises ConfigError where a names.json tells the name, or its id, of a group of scans (a patient, a sample)."""
    names = {id: (told, salt) for path, salt in salts.items() for id, told in read_object(path).get("names", {}).items()}
    scans = {scan["id"] for scan in records}
    others = {id: told for id, (told, salt) in names.items() if id not in scans and pseudonyms.pseudonym(told, salt) == id}
    for group in {told for id, told in others.items() if name in (id, told)}:
        word = re.compile(rf"(?<![^\W_]){re.escape(group)}(?![^\W_])")
        likely = sorted(id for id in scans & names.keys() if word.search(names[id][0]))
        more = f" and {len(likely) - SHOWN} more" if likely[SHOWN:] else ""
        told = f"\nIts name is in those of {', '.join(likely[:SHOWN])}{more}." if likely else ""
        raise ConfigError(f"{name}: is a group of scans, and which are of it is not recorded.\nGive its scans one by one.{told}")


def _called(names: set[str], records: list[dict]) -> set[str]:
    """The SHA-256 of the scans that one of the records calls by one of the names."""
    return {scan["sha256"] for scan in records if names & {scan["id"], *_names(scan["file"])}}


def _names(file: str) -> set[str]:
    return {file, pathlib.PurePath(file).name} - {""}


def _is_salted(scan: dict) -> bool:
    return not scan["file"] and re.fullmatch("[0-9a-f]{16}", scan["id"]) is not None


def _are_salted(run: pathlib.Path) -> bool:
    return any(_is_salted(scan) for scan in lineage.read(run)["scans"])


def _line(folder: pathlib.Path, found: dict, sha256: str, made: set[str], database: pathlib.Path) -> str:
    """How a run depends on the scan or on images made from it, "" where it does not."""
    ways = {"train": "trained on it", "held_out": "held it out, to be scored or calibrated on", "test": "is judged by it"}
    told = [ways[scan["split"]] for scan in found["scans"] if scan["sha256"] == sha256 and scan["split"] in ways]
    for source in found["upstream"]:
        if any(scan["sha256"] == sha256 and scan["split"] == "train" for scan in source.get("scans", [])):
            told.append(f"was begun from {_source(source, database.resolve().parent)}, which was trained on it")
    count = sum(scan["sha256"] in made for scan in found["scans"])
    told += [f"used {count} images made from it"] if count else []
    return f"{folder}: {'; '.join(dict.fromkeys(told))}" if told else ""


def _source(entry: dict, beside: pathlib.Path) -> str:
    """What weights that a run was begun from are called: their folder's name where it is beside the database and holds them, else as noted.

    The note is of the place where the run was made, which is another one once all of it was moved or copied.
    """
    place = beside / pathlib.PurePath(entry["source"]).name
    try:
        held = entry["step"] in checkpoints.steps(place) and checkpoints.verify(place, entry["step"])["sha256"] == entry["sha256"]
    except RunError:
        held = False
    held = held or entry["sha256"] in (sources.digest(place), sources.digest(place / pathlib.PurePath(REAL).name))
    return place.name if held else entry["source"]


def rows_text(places: list[int]) -> str:
    """Returns the ids at rising places as ranges: "000000-000099, 000104"."""
    parts: list[list[int]] = []
    for place in places:
        if parts and parts[-1][1] == place - 1:
            parts[-1][1] = place
        else:
            parts.append([place, place])
    return ", ".join(f"{low:06d}" if low == high else f"{low:06d}-{high:06d}" for low, high in parts)
