"""Ids that tell no patient's name: what a run writes of its scans once they are of patients, and the file that says who is who."""

import dataclasses
import hashlib
import hmac
import os
import pathlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from microscopy import fields, levels
from microscopy.atomic import write_json
from microscopy.preparation import Prepared
from microscopy.scan import Refused
from training import checkpoints, devices, logbook
from training import workdir as workdirs
from training.errors import RunError
from training.workdir import read_object

FILE = "names.json"
"""The file of a workdir that holds the salt and which id is which file: to be kept, and not to be passed on."""

RECORDS = ("real.json", "crops.json", "generation.json")
"""Files by which a folder is known to hold images that this program has cut, generated and named by numbers."""

WITHHELD = "name and reason withheld; --config.data.names=true tells them"

_BYTES = 32
_LETTERS = 16


def wanted(data, prepared: Prepared) -> bool:
    """Returns whether scans get other ids: unless `names`, where folders' levels are more than classes, or scans have groups.

    Groups are those of a table, of a tfds set or of `group_by`, this only where it looks at names that others gave.
    """
    if fields.option(data, "names"):
        return False
    by_name = data.group_by and not _own(data.source)
    told = by_name or fields.option(data, "labels") or data.source.startswith("tfds:")
    some = any(scan.group for part in prepared.splits.values() for scan in part)
    return bool(set(levels.parse(fields.option(data, "levels"))) - {levels.CLASS}) or bool(told and some)


def _own(source: str) -> bool:
    """Whether the files of a source have their names from this program: a record of it lies in or above the folder."""
    kind, _, place = source.partition(":")
    folder = pathlib.Path(place).expanduser().absolute()
    return kind == "folder" and any((one / record).is_file() for one in (folder, *folder.parents[:2]) for record in RECORDS)


def source(data, prepared: Prepared) -> str:
    """Returns the source of scans as a report may tell it: without its path where scans get other ids."""
    return f"{data.source.partition(':')[0]} (names withheld)" if wanted(data, prepared) else data.source


def paths(data, prepared: Prepared) -> dict[str, str]:
    """Returns the fields of a config's data section that hold paths, without them where scans get other ids; else none."""
    held = {name: f"{name} (withheld)" for name in ("labels", "select", "masks") if data.get(name)}
    return held | {"source": source(data, prepared)} if wanted(data, prepared) else {}


def in_workdir(config, workdir, prepared: Prepared) -> Prepared:
    """Returns `prepared`, in which, where that is `wanted`, scans and groups have salted ids instead of names and paths.

    The salt is drawn once for a workdir and kept in its names.json with the names, which only its owner may read. Processes that write
    nothing get `prepared` as it is, and so does a run that was begun by its scans' names, as earlier versions did, and goes on by them.
    RunError where that file cannot be read.
    """
    if not (pathlib.Path(workdir) / FILE).exists() and checkpoints.steps(workdir):
        return prepared
    return _by(pathlib.Path(workdir) / FILE, config, prepared)


def share(workdir, stage) -> None:
    """Lets a stage that has no ids yet call its scans as the workdir above it does: names.json is copied into the stage's folder."""
    path, known = pathlib.Path(stage) / FILE, pathlib.Path(workdir) / FILE
    if known.exists() and not path.exists() and not checkpoints.steps(stage):
        found = read_object(known)
        _keep(path, {}, _salt(known, found), found["names"])


def beside(config, folder, prepared: Prepared) -> Prepared:
    """Returns `prepared` as `in_workdir` does, for a folder that is passed on: its salt and names are in FOLDER.names.json beside it."""
    folder = pathlib.Path(folder).absolute()
    return _by(folder.parent / f"{folder.name}.{FILE}", config, prepared)


def _by(path: pathlib.Path, config, prepared: Prepared) -> Prepared:
    if not wanted(config.data, prepared) or not devices.primary():
        return prepared
    known = read_object(path) if path.exists() else {"salt": secrets.token_hex(_BYTES)}
    salt = _salt(path, known)
    scans = [scan for part in prepared.splits.values() for scan in part]
    names = {pseudonym(scan.id, salt): scan.file or scan.id for scan in scans}
    names |= {pseudonym(scan.group, salt): scan.group for scan in scans if scan.group}
    names |= {pseudonym(item.file, salt): f"{item.file}: {item.reason}" for item in prepared.refused}
    _keep(path, known, salt, names)
    return hidden(prepared, salt)


def _keep(path: pathlib.Path, known: dict, salt: bytes, names: dict[str, str]) -> None:
    new = {"note": "Not to be passed on: this tells whose scans they are.", "salt": salt.hex(), "names": names}
    if new != known:
        with logbook.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.chmod(write_json(path, new), 0o600)


def unsaved(config, prepared: Prepared) -> Prepared:
    """Returns `prepared` as `in_workdir` does where there is no folder: its ids are of this call alone, and nothing says who they are."""
    return hidden(prepared, secrets.token_bytes(_BYTES)) if wanted(config.data, prepared) else prepared


def renaming(workdir, output) -> Callable[..., dict[str, Any]] | None:
    """Returns renamed(found, keep=True): found things by salted ids instead of names, for predictions of a run whose scans have such ids.

    None where they have none. The salt is the workdir's, so a scan of the run keeps its id where it is named alike; the class that its
    folders tell is kept, where it is one of the run's. Each call, unless `keep` is False, adds what it was given, {name: what tells whose
    it is}, to OUTPUT.names.json beside the folder `output`. RunError where a file of names cannot be read or written.
    """
    source, folder = pathlib.Path(workdir) / FILE, pathlib.Path(output).absolute()
    if not source.exists():
        return None
    salt, path = _salt(source, read_object(source)), folder.parent / f"{folder.name}.{FILE}"
    classes = workdirs.read_classes(workdir) if (pathlib.Path(workdir) / "classes.json").exists() else ()
    depth = levels.parse(fields.option(workdirs.read_config(workdir).data, "levels")) if classes else ()

    def renamed(found: Mapping[str, Any], keep: bool = True) -> dict[str, Any]:
        ids = {name: _within(name, levels.class_of(name, depth), classes, salt) for name in found}
        if not keep:
            return {ids[name]: told for name, told in found.items()}
        known = read_object(path) if path.exists() else {}
        names = known.get("names", {}) | {ids[name].rpartition("/")[2]: str(told) for name, told in found.items()}
        _keep(path, known, salt, names)
        return {ids[name]: told for name, told in found.items()}

    return renamed


def _within(name: str, own: str | None, classes: tuple[str, ...], salt: bytes) -> str:
    return f"{own}/{pseudonym(name, salt)}" if own in classes else pseudonym(name, salt)


def _salt(path: pathlib.Path, known: dict) -> bytes:
    try:
        salt = bytes.fromhex(known["salt"])
    except (KeyError, TypeError, ValueError):
        salt = b""
    if len(salt) != _BYTES:
        raise RunError(f"{path} cannot be read: it holds no salt.\nRestore it from a backup, or begin anew in another folder.")
    return salt


def salt_of(workdir) -> bytes | None:
    """Returns the salt of a workdir's names.json, None where it has none; RunError where it cannot be read."""
    path = pathlib.Path(workdir) / FILE
    return _salt(path, read_object(path)) if path.exists() else None


def pseudonym(name: str, salt: bytes) -> str:
    """Returns the first 16 hexadecimal digits of the name's HMAC-SHA-256 (RFC 2104) under the salt."""
    return hmac.new(salt, name.encode(), hashlib.sha256).hexdigest()[:_LETTERS]


def hidden(prepared: Prepared, salt: bytes) -> Prepared:
    """Returns `prepared` with salted ids and groups, no file names, and refused files without their reasons, which may tell names."""

    def renamed(scan):
        group = pseudonym(scan.group, salt) if scan.group else None
        return dataclasses.replace(scan, id=pseudonym(scan.id, salt), file="", group=group)

    splits = {name: [renamed(scan) for scan in part] for name, part in prepared.splits.items()}
    facts = {pseudonym(id, salt): {**found, "file": ""} for id, found in prepared.facts.items()}
    refused = [Refused(pseudonym(item.file, salt), WITHHELD, item.misfit) for item in prepared.refused]
    return dataclasses.replace(prepared, splits=splits, facts=facts, refused=refused)
