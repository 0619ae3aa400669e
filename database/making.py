"""The images of a database: made in chunks by index, judged, enlarged, labelled, scored and written; killed at any moment it goes on.

Image i of a seed's stream is the same whatever is asked for, so what is accepted, its ids and every byte are functions of the facts in
database.json. A chunk that stands whole is recorded in `.making/`; on a resume its files are checked against their SHA-256 and a chunk
that is not whole is made again.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

import resize
from database import gates, index
from microscopy import atomic, thresholds
from microscopy.normalisation import ValueMap
from microscopy.pictures import encode_png, to_uint8
from microscopy.scan import DataError
from microscopy.writing import encode_tiff
from training import sources
from training import workdir as workdirs
from training.errors import ConfigError, RunError
from training.signals import Stop

CHUNK = 64
PARTS = ".making"
SPECK = 768
"""What covers less than the 768th part of an image (12 of 96 x 96 px) is a speck and no particle."""
WORKERS = 4
ENOUGH_JUDGED, MOST_REFUSED = 256, 0.75
"""A generator is given up when of so many images more than this share are near-copies of training scans."""
MAX_LABEL = 65535
FREE = ("generator.workdir", "upscaler.workdir")
"""Facts that may differ on a resume: where the stages lie, not what they are."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What images are made with, all of it loaded once.

    `chunk(k)` gives images 64 k to 64 k + 63 of a seed's stream, float32 (64, h, w, 1) in [-1, 1], and their label fields float32
    (64, h, w), or None. `upscale` takes such images to float32 (64, H, W, 1). `label` takes what `label_origin` names to an int32 instance
    map (H, W): the field (H, W), enlarged bilinearly, for "generated field", the image's values (H, W) for "prelabelled"; None for "".
    """

    chunk: Callable[[int], tuple[np.ndarray, np.ndarray | None]]
    upscale: Callable[[np.ndarray], np.ndarray]
    value_map: ValueMap
    label: Callable[[np.ndarray], np.ndarray] | None = None
    label_origin: str = ""


class Made(NamedTuple):
    """One image finished: `files` has the contents by "image", "heights" and "label", the last two only where there are any."""

    files: dict[str, bytes]
    values: np.ndarray
    labels: np.ndarray | None


def make(folder, facts: Mapping, recipe: Recipe, *, judge: Callable | None = None, real: np.ndarray | None = None, stop=None):
    """Returns the finished `index.Database`, None where `stop` ended it; a finished one of the same facts is returned as it is.

    `facts` as `recipe.describe` gives them. `judge(images) -> gates.Judged` refuses near-copies: they are skipped and listed in
    database.json. With `real`, crops of the training scans (n, h, w) in [-1, 1], collapse is judged. ConfigError where the folder holds
    another database; RunError where nearly all images are near-copies, or a file cannot be written.
    """
    folder, stop = pathlib.Path(folder), stop or Stop()
    if _claimed(folder, facts):
        shutil.rmtree(folder / PARTS, ignore_errors=True)
        return index.read(folder)
    rows, refused, wanted = [], [], facts["num_images"]
    for name in (*index.FOLDERS, PARTS):
        (folder / name).mkdir(exist_ok=True)
    stop.gentle = True  # between two files nothing is half-written
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool, tqdm(total=wanted, unit="image", desc="database") as bar:
        for number in itertools.count():
            if len(rows) == wanted:
                break
            _refuse_memoriser(refused, len(rows) + len(refused))
            part = _stored(folder, number, len(rows)) or _computed(folder, facts, recipe, judge, number, len(rows), pool, stop)
            if part is None:
                print(f"{folder}: interrupted after {len(rows)} images; the same command goes on.")
                return None
            rows, refused = rows + part["rows"], refused + part["refused"]
            bar.update(len(part["rows"]))
    return _finish(folder, facts, rows, refused, real)


def _claimed(folder: pathlib.Path, facts: Mapping) -> bool:
    """Whether the database stands there finished already; the folder is made and its facts are written where there are none."""
    try:
        if not (folder / index.FACTS).exists():
            if found := next((file for name in index.FOLDERS for file in (folder / name).glob("*.*")), None):
                raise ConfigError(f"{folder} holds files, such as {found.name}, without {index.FACTS}.\nUse an empty folder.")
            folder.mkdir(parents=True, exist_ok=True)
            atomic.write_json(folder / index.FACTS, {**facts, "state": "making"})
            return False
    except OSError as error:
        raise RunError(f"{folder} cannot be used: {error.strerror or error}.") from error
    there = index.read_facts(folder)
    finished = there["state"] == "finished"
    old, new = workdirs.flat({name: there.get(name) for name in facts}), workdirs.flat(json.loads(json.dumps(dict(facts))))
    free = (*FREE, *(name for name in new if finished and name.startswith("environment.")), "state")
    changed = [name for name in sorted(old.keys() | new.keys()) if name not in free and old.get(name) != new.get(name)]
    if changed:
        name = changed[0]
        raise ConfigError(
            f"{folder} holds another database: {name} is {str(old.get(name))[:80]} there, {str(new.get(name))[:80]} now.\n"
            "Use another folder, or delete it to make the database anew."
        )
    return finished


def _refuse_memoriser(refused: list[dict], judged: int) -> None:
    if judged >= ENOUGH_JUDGED and len(refused) > MOST_REFUSED * judged:
        worst = max(refused, key=lambda item: item["similarity"])
        raise RunError(
            f"{len(refused)} of {judged} generated images are near-copies of training scans, the closest of {worst['scan']}: the generator "
            "has memorised them.\nTrain it on more scans, with config.train.augment, or for fewer steps."
        )


def _stored(folder: pathlib.Path, number: int, first: int) -> dict | None:
    """The record of a chunk, where it begins at image `first` and all its files stand as it says."""
    try:
        part = json.loads((folder / PARTS / f"{number:06d}.json").read_text())
        whole = part["first"] == first and not any(index.flaw(row, first + place) for place, row in enumerate(part["rows"]))
        whole = whole and all(sources.digest(folder / file) == sum for row in part["rows"] for file, sum in index.files(row).items())
        return part if whole and isinstance(part["refused"], list) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sha256_of_bytes(content: bytes) -> str:
    """Returns the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def _computed(folder, facts, recipe, judge, number, first, pool, stop) -> dict | None:
    """The record of a chunk after its files and the record stand; None where `stop` came first."""
    if stop.signal is not None:
        return None
    images, fields = recipe.chunk(number)
    judged = judge(images) if judge else gates.Judged(np.full(CHUNK, np.nan), [""] * CHUNK, np.zeros(CHUNK, bool))
    if stop.signal is not None:
        return None
    kept = np.flatnonzero(~judged.copied)[: facts["num_images"] - first].tolist()
    # What lies beyond the last image needed is never counted, so that how many are refused follows from the rows.
    seen = kept[-1] + 1 if first + len(kept) == facts["num_images"] else CHUNK
    refused = [
        {"index": number * CHUNK + i, "scan": judged.scan[i], "similarity": float(judged.similarity[i])}
        for i in np.flatnonzero(judged.copied[:seen]).tolist()
    ]
    large, fields = enlarged(recipe, images, fields) if kept else (None, None)

    def one(place: int) -> dict:
        i = kept[place]
        made = finished(recipe, large[i], None if fields is None else fields[i], facts["nm_per_pixel"])
        nearest = {"nearest": judged.scan[i], "nearest_similarity": _known(judged.similarity[i])}
        row = describe(facts, first + place, number * CHUNK + i, made, recipe.label_origin) | nearest
        for kind, content in made.files.items():
            _write(folder / row[kind], content)
        return {name: row[name] for name in index.COLUMNS}

    rows = list(pool.map(one, range(len(kept))))
    part = {"first": first, "rows": rows, "refused": refused}
    _write(folder / PARTS / f"{number:06d}.json", json.dumps(part).encode())
    return part


def enlarged(recipe: Recipe, images: np.ndarray, fields: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns (images float32 (64, H, W), label fields enlarged to them bilinearly or None) of a whole chunk.

    A whole one always: another batch size would change floats by one unit in the last place.
    """
    large = np.asarray(recipe.upscale(images), np.float32)[..., 0]
    if fields is None:
        return large, None
    return large, np.asarray(resize.bilinear(fields[..., None], *large.shape[1:]))[..., 0]


def finished(recipe: Recipe, image: np.ndarray, field: np.ndarray | None, nm_per_pixel: float | None) -> Made:
    """Returns one image (H, W) in [-1, 1] as it is stored (`Made`): values in the map's unit, instances, and the files' contents."""
    values = recipe.value_map.from_unit(image)
    files = {"image": encode_png(to_uint8(image))}
    if recipe.value_map.unit == "nm":
        files["heights"] = encode_tiff(values, None if nm_per_pixel is None else (nm_per_pixel, nm_per_pixel), "nm")
    labels = None
    if recipe.label is not None:
        labels = recipe.label(values if recipe.label_origin == "prelabelled" else field)
        if labels.max() > MAX_LABEL:
            raise DataError(
                f"a generated image has {labels.max()} instances, and a label file numbers {MAX_LABEL}: train the generator longer."
            )
        files["label"] = encode_png(labels.astype(np.uint16))
    return Made(files, values, labels)


def describe(facts: Mapping, id: int, number: int, made: Made, label_origin: str) -> dict:
    """Returns the row of image `number` of the seed's stream under the id, without its nearest neighbour."""
    id, sums = f"{id:06d}", {kind: sha256_of_bytes(content) for kind, content in made.files.items()}
    names = {"image": f"images/{id}.png", "heights": f"heights/{id}.tiff", "label": f"labels/{id}.png"}
    row = {"id": id, "seed": facts["seed"], "index": number, "label_origin": label_origin, **provenance(_frozen(facts))}
    for kind, name in names.items():
        column = "sha256" if kind == "image" else f"{kind}_sha256"
        row |= {kind: name, column: sums[kind]} if kind in sums else {kind: "", column: ""}
    row["split"] = "held_out" if share_of(facts["seed"], id) < facts.get("held_out", 0.0) else "train"
    return row | scores(made.values, made.labels, facts["nm_per_pixel"])


def _frozen(facts: Mapping) -> str:
    return json.dumps({name: facts[name] for name in ("generator", "upscaler", "sources", "nm_per_pixel")})


@functools.lru_cache(4)
def provenance(facts: str) -> dict:
    """Returns the columns that all rows of a database share; `facts` as JSON."""
    facts = json.loads(facts)
    generator, upscaler = facts["generator"], facts["upscaler"]
    return {
        "checkpoint": _named(generator),
        "weights_sha256": generator["weights_sha256"],
        "config_sha256": generator["config_sha256"],
        "upscaler": upscaler if isinstance(upscaler, str) else _named(upscaler),
        "sources": json.dumps([scan["id"] for scan in facts["sources"]], ensure_ascii=False),
        "nm_per_pixel": facts["nm_per_pixel"],
    }


def _named(stage: Mapping) -> str:
    return f"{pathlib.PurePath(stage['workdir']).name}@{stage['step']}"


def share_of(seed: int, id: str) -> float:
    """Returns a number in [0, 1) that is uniform over ids and depends on seed and id alone: the split of an image."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{id}".encode()).digest()[:6]) / 2**48


def scores(values: np.ndarray, labels: np.ndarray | None, nm_per_pixel: float | None) -> dict:
    """Returns `particles`, `mean_diameter`, `coverage` and `roughness` of one image (h, w) in nm or grey levels.

    Particles are the instances of `labels` (h, w), or where there are none what `thresholds.footprint_mask` finds; specks (`SPECK`) are
    left out. The mean diameter, in nm where `nm_per_pixel` is given, else in pixels, is that of the discs of the areas of the particles
    not cut by the border, None where there are none; `coverage`, 0..1, is of all. `roughness` is Sq (ISO 25178-2), in the values' unit.
    """
    labels = thresholds.instances(thresholds.footprint_mask(values)) if labels is None else labels
    areas = np.bincount(labels.ravel())
    areas[0], border = 0, np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    large = areas >= max(1, labels.size // SPECK)
    whole = large.copy()
    whole[border] = False
    diameters = 2 * np.sqrt(areas[whole] / math.pi) * (nm_per_pixel or 1.0)
    found = {"particles": int(large.sum()), "mean_diameter": float(diameters.mean()) if diameters.size else None}
    return found | {"coverage": float(areas[large].sum() / labels.size), "roughness": float(np.std(values, dtype=np.float64))}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _write(path: pathlib.Path, content: bytes) -> None:
    try:
        atomic.write_bytes(path, content)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.\n{index.AGAIN}") from error


def _finish(folder: pathlib.Path, facts: Mapping, rows: list[dict], refused: list[dict], real: np.ndarray | None) -> index.Database:
    found = {"refused": refused}
    if real is not None and len(rows) > 1:
        shown = [cv2.imread(str(folder / row["image"]), cv2.IMREAD_UNCHANGED) for row in rows[: gates.MAX_COMPARED]]
        found["diversity"] = gates.diversity(shown, real)
        print(gates.diversity_text(found["diversity"]))
    index.write(folder, {**facts, **found}, rows)
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    for name in index.FOLDERS:
        for stray in (folder / name).glob(".*.tmp"):  # of a killed process
            stray.unlink(missing_ok=True)
    if refused:
        worst = max(refused, key=lambda item: item["similarity"])
        print(f"{len(refused)} near-copies of training scans refused, the closest ({worst['similarity']:.3f}) of {worst['scan']}.")
    return index.read(folder)
