"""The index of a database folder: index.parquet and index.csv, a row an image, and database.json, the facts common to all rows.

The three are written last, database.json with the SHA-256 of the others, so that an index that can be read is whole. New tables stand under
other names until database.json is theirs, so that the old index or the new one can be read, whenever writing was interrupted. Whatever is
read is checked before it is believed: a row can name no file but its own.
"""

import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow
import pyarrow.parquet

from microscopy import atomic
from training.errors import RunError

FORMAT_VERSION = 1
FACTS, TABLE, TEXT = "database.json", "index.parquet", "index.csv"
FOLDERS = ("images", "heights", "labels")
COLUMNS = {
    "id": str,
    "image": str,
    "sha256": str,
    "heights": str,
    "heights_sha256": str,
    "label": str,
    "label_sha256": str,
    "seed": int,
    "index": int,
    "checkpoint": str,
    "weights_sha256": str,
    "config_sha256": str,
    "upscaler": str,
    "sources": str,
    "nm_per_pixel": float,
    "particles": int,
    "mean_diameter": float,
    "coverage": float,
    "roughness": float,
    "nearest": str,
    "nearest_similarity": float,
    "label_origin": str,
    "split": str,
}
"""Column -> type; of the floats those in `MAY_BE_NULL` are null where they do not exist."""
MAY_BE_NULL = ("nm_per_pixel", "mean_diameter", "nearest_similarity")
ORIGINS = ("generated field", "hand", "prelabelled", "")
SPLITS = ("train", "held_out")
MAX_ROWS, MAX_BYTES = 10_000_000, 2**33
_TYPES = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
SCHEMA = pyarrow.schema([(name, _TYPES[kind]) for name, kind in COLUMNS.items()])
_FACTS = {
    "format_version": int,
    "state": str,
    "num_images": int,
    "seed": int,
    "size": list,
    "unit": str,
    "value_map": dict,
    "generator": dict,
    "sources": list,
    "environment": dict,
}
AGAIN = "What stands is whole: free space or mend the permissions, and the same command goes on."
PENDING = ".next"
"""Behind the name of a table that is written, and database.json not yet, or not yet put in the old one's place."""
_REMEDY = "Restore it from a backup, or delete the folder and make the database again."


@dataclasses.dataclass(frozen=True)
class Database:
    """A database as read: its folder, the facts of database.json and the rows, one dict an image with the names of `COLUMNS`."""

    folder: pathlib.Path
    facts: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]


def encode_table(rows: Sequence[Mapping]) -> bytes:
    """Returns the content of index.parquet; the same rows give the same bytes under one version of pyarrow."""
    columns = [pyarrow.array([row[name] for row in rows], SCHEMA.field(name).type) for name in COLUMNS]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, schema=SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def encode_text(rows: Sequence[Mapping]) -> bytes:
    """Returns the content of index.csv: the columns in their order, full precision, nothing between the commas for null."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(["" if row[name] is None else row[name] for name in COLUMNS] for row in rows)
    return text.getvalue().encode()


def write(folder, facts: Mapping, rows: Sequence[Mapping]) -> dict:
    """Returns the facts as written, with state "finished" and the tables' SHA-256, after all files stand; ValueError for a bad row."""
    folder = pathlib.Path(folder)
    if wrong := next((found for place, row in enumerate(rows) if (found := flaw(row, place))), None):
        raise ValueError(wrong)
    contents = {TABLE: encode_table(rows), TEXT: encode_text(rows)}
    facts = {**facts, "state": "finished", "index": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}}
    pending = {f"{name}{PENDING}": content for name, content in contents.items()}
    for name, content in {**pending, FACTS: (json.dumps(facts, indent=2) + "\n").encode()}.items():
        try:
            atomic.write_bytes(folder / name, content)
        except OSError as error:
            raise RunError(f"{folder / name} cannot be written: {error.strerror or error}.\n{AGAIN}") from error
    _settle(folder, facts["index"])
    return facts


def _settle(folder: pathlib.Path, sums: Mapping) -> None:
    """Puts tables that were written, and are those of database.json, in their places."""
    for name in (TABLE, TEXT):
        pending = folder / f"{name}{PENDING}"
        try:
            if pending.is_file() and hashlib.sha256(pending.read_bytes()).hexdigest() == sums.get(name):
                os.replace(pending, folder / name)
        except OSError as error:
            raise RunError(f"{folder / name} cannot be written: {error.strerror or error}.\n{AGAIN}") from error


def read(folder) -> Database:
    """Returns the finished database in a folder; RunError, naming file and remedy, where it is missing, unfinished, damaged or hostile."""
    folder = pathlib.Path(folder)
    facts, rows = _table(folder)
    text, stated = encode_text(rows), facts["index"].get(TEXT)
    remedy = f"python -m database.catalogue verify {folder} --repair writes it again from {TABLE}, which is whole."
    if _content(folder / TEXT, stated, remedy if hashlib.sha256(text).hexdigest() == stated else _REMEDY) != text:
        raise RunError(f"{folder / TEXT}: its rows are not those of {TABLE}.\n{_REMEDY}")
    return Database(folder, facts, rows)


def mend(folder) -> bool:
    """Returns whether index.csv was missing or changed and has been written again from index.parquet, of which it is a function.

    Nothing is written where the text of index.parquet is not what database.json states, as `read` then tells. RunError where
    index.parquet is not whole, or the disk refuses.
    """
    path = pathlib.Path(folder) / TEXT
    facts, rows = _table(path.parent)
    text = encode_text(rows)
    try:
        whole = path.is_file() and path.stat().st_size == len(text) and path.read_bytes() == text
        if whole or hashlib.sha256(text).hexdigest() != facts["index"].get(TEXT):
            return False
        atomic.write_bytes(path, text)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.\n{AGAIN}") from error
    return True


def _table(folder: pathlib.Path) -> tuple[dict, list[dict]]:
    """(facts, rows) of a finished database whose index.parquet is whole; index.csv is not looked at."""
    facts = read_facts(folder)
    if facts["state"] != "finished":
        raise RunError(
            f"{folder / FACTS}: the database is not finished.\nGive the command that makes it again; it goes on where it stopped."
        )
    if not isinstance(facts.get("index"), dict):
        raise RunError(f"{folder / FACTS}: it states no SHA-256 of the index.\n{_REMEDY}")
    _settle(folder, facts["index"])
    rows = _rows(_content(folder / TABLE, facts["index"].get(TABLE), _REMEDY), folder / TABLE)
    if len(rows) != facts["num_images"]:
        raise RunError(f"{folder / TABLE}: {len(rows)} rows, but {FACTS} states {facts['num_images']} images.\n{_REMEDY}")
    return facts, rows


def read_facts(folder) -> dict:
    """Returns database.json, finished or not; RunError where it is missing, damaged or of another version."""
    path = pathlib.Path(folder) / FACTS
    if not path.is_file():
        raise RunError(f"{path}: not found, so {folder} is not the folder of a database.\nName the folder that holds {FACTS}.")
    try:
        facts = json.loads(path.read_bytes().decode(), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({str(error)[:100]}).\n{_REMEDY}") from error
    if not isinstance(facts, dict):
        raise RunError(f"{path}: holds no JSON object.\n{_REMEDY}")
    if facts.get("format_version") != FORMAT_VERSION:
        found = str(facts.get("format_version"))[:20]
        raise RunError(f"{path}: format version {found}; this program reads {FORMAT_VERSION}.\nUse the version that made it.")
    for name, kind in _FACTS.items():
        if not isinstance(facts.get(name), kind) or isinstance(facts[name], bool):
            raise RunError(f"{path}: field {name} is {str(facts.get(name))[:40]!r}, no {kind.__name__}.\n{_REMEDY}")
    _check_facts(facts, path)
    return facts


def _check_facts(facts: Mapping, path: pathlib.Path) -> None:
    if facts["state"] not in ("making", "finished") or not 1 <= facts["num_images"] <= MAX_ROWS:
        raise RunError(f"{path}: state {facts['state'][:20]!r} of {facts['num_images']} images cannot be.\n{_REMEDY}")
    if len(facts["size"]) != 2 or not all(isinstance(side, int) and 1 <= side <= 2**14 for side in facts["size"]):
        raise RunError(f"{path}: size {str(facts['size'])[:40]}: two numbers of pixels are needed.\n{_REMEDY}")
    for scan in facts["sources"]:
        if not isinstance(scan, dict) or not all(isinstance(scan.get(name), str) for name in ("id", "file", "sha256")):
            raise RunError(f"{path}: sources hold {str(scan)[:40]!r}; a scan has id, file and sha256.\n{_REMEDY}")


def _no_number(text: str):
    raise ValueError(f"{text} is no number")


def _content(path: pathlib.Path, sha256, remedy: str) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RunError(f"{path}: {path.stat().st_size / 1e9:.0f} GB cannot be the index of a database.\n{remedy}")
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error}).\n{remedy}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RunError(f"{path}: its SHA-256 is not the one that {FACTS} states: it was changed or damaged.\n{remedy}")
    return content


def _rows(content: bytes, path: pathlib.Path) -> list[dict]:
    """The rows of index.parquet, checked: its header first, because a few bytes can declare any number of rows.

    Read without threads of pyarrow: where they were begun, a process that ends soon after is now and then aborted.
    """
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content), pre_buffer=False)
        stated = sum(file.metadata.row_group(number).total_byte_size for number in range(file.metadata.num_row_groups))
        if not 0 <= file.metadata.num_rows <= MAX_ROWS or not 0 <= stated <= MAX_BYTES:
            raise RunError(f"{path}: declares {file.metadata.num_rows} rows, {stated} bytes; {MAX_ROWS} rows at most.\n{_REMEDY}")
        if not file.schema_arrow.equals(SCHEMA):
            odd = set(COLUMNS) ^ set(file.schema_arrow.names)
            raise RunError(f"{path}: its columns are not those of version {FORMAT_VERSION} ({_some(odd) or 'their types'}).\n{_REMEDY}")
        rows = file.read(use_threads=False).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise RunError(f"{path}: cannot be read as parquet ({reason}).\n{_REMEDY}") from error
    if wrong := next((found for place, row in enumerate(rows) if (found := flaw(row, place))), None):
        raise RunError(f"{path}: {wrong}.\n{_REMEDY}")
    return rows


def _some(names) -> str:
    return ", ".join(str(name)[:40] for name in sorted(names)[:3])


def flaw(row: Mapping, place: int) -> str:
    """Returns what is wrong with the row at `place`, "" where nothing is."""
    id = f"{place:06d}"
    if row.get("id") != id:
        return f"row {place} has the id {str(row.get('id'))[:40]!r}, not {id}"
    for name, kind in COLUMNS.items():
        value = row.get(name)
        if value is None and name in MAY_BE_NULL:
            continue
        if not isinstance(value, kind) or isinstance(value, bool) or kind is float and not math.isfinite(value):
            return f"row {id}: {name} is {str(value)[:40]!r}, no {kind.__name__}"
    names = {"image": (f"images/{id}.png",), "heights": ("", f"heights/{id}.tiff"), "label": ("", f"labels/{id}.png")}
    names |= {"label_origin": ORIGINS, "split": SPLITS}
    for name, allowed in names.items():
        if row[name] not in allowed:
            return f"row {id}: {name} is {row[name][:60]!r}; {' or '.join(map(repr, allowed))} is needed"
    for file, sum in (("image", "sha256"), ("heights", "heights_sha256"), ("label", "label_sha256")):
        if not re.fullmatch("[0-9a-f]{64}" if row[file] else "", row[sum]):
            return f"row {id}: {sum} is {row[sum][:40]!r}, no SHA-256"
    return "" if source_ids(row) is not None else f"row {id}: sources are no JSON list of scan ids"


def source_ids(row: Mapping) -> list[str] | None:
    """Returns the ids of the scans behind a row, None where the column is no JSON list of text."""
    try:
        ids = json.loads(row["sources"])
    except (ValueError, RecursionError):
        return None
    return ids if isinstance(ids, list) and all(isinstance(id, str) for id in ids) else None


def stage_folder(folder, stage) -> pathlib.Path | None:
    """Returns the workdir of a stage of the facts in `folder`, None where it is none, as "bilinear" is not."""
    if not isinstance(stage, Mapping) or not isinstance(stage.get("workdir"), str) or "\0" in stage["workdir"]:
        return None
    return pathlib.Path(os.path.normpath(pathlib.Path(folder) / stage["workdir"]))


def files(row: Mapping) -> dict[str, str]:
    """Returns the files of a row, path within the folder -> SHA-256."""
    pairs = (("image", "sha256"), ("heights", "heights_sha256"), ("label", "label_sha256"))
    return {row[file]: row[sum] for file, sum in pairs if row[file]}
