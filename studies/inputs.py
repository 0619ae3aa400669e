"""What a training reads, as one SHA-256: kept beside each stage, so that it is finished only while it would read the same again."""

import hashlib
import json
import pathlib

import input_pipeline
from microscopy import fields, levels, listing, sources
from microscopy.atomic import write_json
from training import lineage, pseudonyms
from training.errors import RunError
from training.workdir import read_object

FILE = "inputs.json"


def digest(data) -> str:
    """Returns the SHA-256, hexadecimal, of all that a config's data section names: images and masks by id and content, tables, lists.

    Not of paths, so a folder may be moved; of a built-in source, which the config says whole, that of nothing. The errors of reading.
    """
    kind, _, place = data.source.partition(":")
    rows: list[tuple[str, ...]] = []
    if kind == "folder":
        rows = _of_folder(place, data)
    elif kind == "tfds":
        for scan in sources.load_scans(data)[0]:
            mask = "" if scan.mask is None else hashlib.sha256(scan.mask.tobytes()).hexdigest()
            rows.append((scan.id, scan.sha256, scan.label or "", scan.group or "", mask))
    return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()


def _of_folder(place: str, data) -> list[tuple[str, ...]]:
    names = levels.parse(fields.option(data, "levels"))
    root, images = levels.listed(place, names)
    images = listing.selected(images, data.select) if data.select else images
    found = {"image": images}
    if fields.needs_masks(data):
        masks = data.masks or None
        known = levels.level_masks(root, names, masks, images) if names else listing.mask_files(root, masks, images)
        found["mask"] = {id: files for id, files in known.items() if id in images}
    listed = [(kind, id, file) for kind, files in found.items() for id, several in files.items() for file in several]
    sums = {file: _sum(file) for file in {file for _, _, file in listed}}  # one COCO file is the mask of many
    rows = [(kind, id, file.name, sums[file]) for kind, id, file in listed]
    table = fields.option(data, "labels")
    return [*rows, *([("labels", _sum(pathlib.Path(table).expanduser()))] if table else [])]


def _sum(path: pathlib.Path) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def keep(folder: pathlib.Path, data) -> None:
    """Writes FOLDER/inputs.json: the digest of what the stage is about to read."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, {"sha256": digest(data)})


def same(stage, folder: pathlib.Path, finished: bool) -> bool:
    """Returns whether a stage, its config `stage`, would read what it was trained on.

    By FOLDER/inputs.json. Where there is none, which earlier versions did not write: by the scans and splits of lineage.json where it is
    `finished`, and inputs.json is written then; else True, since going on compares them itself.
    """
    path = folder / FILE
    if path.exists():
        return read_object(path).get("sha256") == digest(stage.data)
    if not finished:
        return True
    prepared = pseudonyms.in_workdir(stage, folder, input_pipeline.prepare(stage))
    try:
        lineage.compare(folder, prepared.splits)
    except RunError:
        return False
    keep(folder, stage.data)
    return True
