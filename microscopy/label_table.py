"""A CSV table that says of which class, and of which patient or sample, each image is."""

import csv
import dataclasses
import difflib
import io
import os
import pathlib
from collections.abc import Mapping, Sequence

from microscopy.formats import why
from microscopy.scan import DataError, FieldError, Scan

COLUMNS = {
    "id": ("file", "filename", "image", "imageid", "id"),
    "label": ("label", "class", "classlabel"),
    "group": ("group", "patient", "patientid", "sample", "sampleid"),
}
DELIMITERS = (",", ";", "\t")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: its number in the file, the image's id or file name, its class, its group ("": none)."""

    line: int
    id: str
    label: str
    group: str


def read_table(path: str | os.PathLike) -> list[Row]:
    """Returns the rows of a CSV file with a header: an id or file column, a label column, optionally one of groups, in any order.

    Headers are compared without case, blanks and underscores with `COLUMNS`; other columns are passed over, and so are empty lines. Columns
    are divided by what gives the header most of these: commas, semicolons or tabs. DataError, with file and line, for what cannot be read,
    a column missing or there twice, a row with more or fewer fields than the header, without id or label, or with an id that came before.
    """
    numbered = _numbered(path)
    if not numbered:
        raise DataError(f"{path}: is empty; give a header such as file,label,group and a row an image")
    line, header = numbered[0]
    place = _columns(f"{path}, line {line}", header)
    rows, seen = [], {}
    for line, fields in numbered[1:]:
        where = f"{path}, line {line}"
        if len(fields) != len(header):
            raise DataError(f"{where}: has {len(fields)} fields, the header {len(header)}; correct the line")
        row = Row(line, *(fields[place[name]].strip() if name in place else "" for name in COLUMNS))
        for name in ("id", "label"):
            if not getattr(row, name):
                raise DataError(f"{where}: has no {name}; fill it in or remove the line")
        if row.id in seen:
            raise DataError(f"{where}: {row.id} stands in line {seen[row.id]} already; remove one")
        seen[row.id] = line
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: has a header but no row; write a row an image")
    return rows


def _numbered(path: str | os.PathLike) -> list[tuple[int, list[str]]]:
    """(line number, fields) of the lines that are not empty."""
    try:
        text = pathlib.Path(path).expanduser().read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=_delimiter(text))
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8; save it as CSV in UTF-8 with columns file,label") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({why(error)}); give a CSV file in UTF-8 with columns file,label") from None
    numbered = []
    try:
        for fields in reader:
            if "\0" in "".join(fields):
                raise csv.Error("a null byte")
            if any(field.strip() for field in fields):
                numbered.append((reader.line_num, fields))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: is no CSV ({error}); correct the line") from None
    return numbered


def _delimiter(text: str) -> str:
    line = next((line[:10_000] for line in text.splitlines() if line.strip(" ,;\t")), "")

    def known(delimiter: str) -> tuple[int, int]:
        names = {_plain(field) for field in next(csv.reader([line], delimiter=delimiter), [])}
        return sum(not names.isdisjoint(words) for words in COLUMNS.values()), len(names)

    return max(DELIMITERS, key=known)


def _plain(field: str) -> str:
    return "".join(letter for letter in field.lower() if letter not in " _-")


def _columns(where: str, header: list[str]) -> dict[str, int]:
    names = [_plain(field) for field in header]
    place = {}
    for column, words in COLUMNS.items():
        found = [number for number, name in enumerate(names) if name in words]
        if len(found) > 1:
            raise DataError(f"{where}: {header[found[0]]} and {header[found[1]]} could both be the {column}; rename one")
        if found:
            place[column] = found[0]
        elif column != "group":
            raise DataError(f"{where}: no column {words[0]} (only {', '.join(header)}); known are {', '.join(words)}")
    return place


def labelled(scans: list[Scan], path: str | os.PathLike, files: Mapping[str, Sequence[pathlib.Path]]) -> list[Scan]:
    """Returns the scans with class and group of the table `path`; those without a row have no class, and keep their group.

    `files` (id -> files) are all images there are, of which `scans` may be some. A row names one by its id, by its file name with or
    without suffix, by its absolute path, or by its number, whatever the zeros before it. DataError, naming file and line, for a row that
    fits none or two of them, or one that another row has named.
    """
    names = {}
    for id in sorted(files):
        for name in {id, id.rpartition("/")[2]}:
            names.setdefault(name, []).append(id)
            if name.isdecimal():
                names.setdefault(int(name), []).append(id)
    found = {}
    rows = read_table(path)
    if any(os.path.isabs(row.id) for row in rows):
        for id, own in files.items():
            for file in own:
                names.setdefault(os.path.realpath(file), []).append(id)
    for row in rows:
        id = _id(row, names, f"{path}, line {row.line}")
        if id in found:
            raise DataError(f"{path}, line {row.line}: {row.id} is {id}, as line {found[id].line} says already; remove one")
        found[id] = row
    return [
        dataclasses.replace(scan, label=found[scan.id].label, group=found[scan.id].group or scan.group)
        if scan.id in found
        else dataclasses.replace(scan, label=None)
        for scan in scans
    ]


def _id(row: Row, names: dict, where: str) -> str:
    suffix = pathlib.PurePath(row.id).suffix
    stem = row.id.removesuffix(suffix)
    number = int(row.id) if row.id.isascii() and row.id.isdecimal() else None
    fitting = next((names[name] for name in (row.id, stem, number) if name in names), [])
    if os.path.isabs(row.id):
        fitting = names.get(os.path.realpath(row.id), [])
        if not fitting:
            raise DataError(f"{where}: {row.id} is no image in the folder of the scans; correct or remove the line")
    if not fitting:
        close = difflib.get_close_matches(row.id, [name for name in names if isinstance(name, str)], n=1)
        raise DataError(f"{where}: {row.id} is no image{f' (nearest: {close[0]})' if close else ''}; correct or remove the line")
    if len(set(fitting)) > 1:
        raise DataError(f"{where}: {row.id} fits {fitting[0]} and {fitting[1]}; write one of them")
    return fitting[0]


def of_classes(scans: list[Scan], wanted: str) -> list[Scan]:
    """Returns the scans of the classes that `config.data.classes` names, divided by commas; FieldError for one that no scan has."""
    names, have = [name.strip() for name in wanted.split(",")], {scan.label for scan in scans if scan.label is not None}
    for name in names:
        if name not in have:
            close = difflib.get_close_matches(name, have, n=1)
            nearest = f" (nearest: {close[0]})" if close else ""
            known = f"the classes are {', '.join(sorted(have)[:12])}" if have else "no scan has a class"
            raise FieldError(f"config.data.classes={wanted!r}: no scan is of the class {name!r}{nearest}; {known}.")
    return [scan for scan in scans if scan.label in names]
