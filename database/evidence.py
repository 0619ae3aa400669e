"""What a chain's workdir holds, as its report shows it: read as it stands, whatever is not there yet left out."""

import csv
import json
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np

from microscopy import formats, masks
from microscopy.normalisation import ValueMap
from microscopy.scan import DataError
from training import pseudonyms
from training import workdir as workdirs
from training.errors import RunError

TRAINED = {
    "dcgan": "learns images from noise",
    "superres_before": "learns upscaling, on pixels",
    "superres": "the same, fine-tuned on the training scans",
    "unet_database": "learns particles from the database",
    "unet_real": "learns particles from real crops",
}
STAGES = TRAINED | {
    "real": "cuts real crops",
    "database": "makes, upscales, labels and judges the images",
    "scores": "compares them with unseen scans",
    "downstream": "judges both U-Nets on unseen scans",
}
"""Stages and what each does; those that are trained first."""
MOST_PIXELS = 100_000_000
PER_ONE = 127.5
"""Grey levels of an 8-bit image for 1 of [-1, 1]."""


class Chain(NamedTuple):
    """A workdir as it stands. `rows` are index.csv's (text as stored), `facts` database.json, `status` status.json, {} where absent.

    `scores` and `downstream` are scores.json and downstream.json; `config` is that of the generator's run, `value_map` its map, or None.
    """

    workdir: pathlib.Path
    rows: list[dict[str, str]]
    facts: dict
    scores: dict
    downstream: dict
    status: dict
    config: Any
    value_map: ValueMap | None

    @property
    def folder(self) -> pathlib.Path:
        """The database."""
        return self.workdir / "database"

    @property
    def upscaler(self) -> str:
        """bilinear or SRGAN, "" where it is not known."""
        told = self.facts.get("upscaler") or (self.rows[0].get("upscaler", "") if self.rows else "")
        return "" if not told else "bilinear" if told == "bilinear" else "SRGAN"

    @property
    def unit(self) -> str:
        """nm of heights, grey of photographs, another signal's."""
        return self.value_map.unit if self.value_map else str(self.facts.get("unit") or "grey")

    @property
    def simulated(self) -> bool:
        """Whether no scan of anybody's is behind it."""
        return self.config is not None and self.config.data.source.partition(":")[0] not in ("folder", "tfds")


def read(workdir) -> Chain:
    """Returns the chain of a workdir; RunError where a file of it is damaged."""
    workdir = pathlib.Path(workdir)
    paths = [workdir / "database" / "database.json", *(workdir / f"{name}.json" for name in ("scores", "downstream", "status"))]
    found = [workdirs.read_object(path) if path.exists() else {} for path in paths]
    run = workdir / "dcgan"
    config = workdirs.read_config(run) if (run / "config.json").exists() else None
    value_map = workdirs.read_value_map(run) if (run / "normalisation.json").exists() else None
    return Chain(workdir, index_rows(workdir / "database"), *found, config, value_map)


def index_rows(folder: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of index.csv as text, [] where there is none; RunError where it cannot be read."""
    path = folder / "index.csv"
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [{name: value or "" for name, value in row.items() if name} for row in csv.DictReader(file) if row.get("id")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read: {error}.\nRestore it from a backup, or build the database anew.") from error


def number(row: dict[str, str], name: str) -> float:
    """Returns a column's number, NaN where there is none."""
    try:
        return float(row.get(name) or "nan")
    except ValueError:
        return math.nan


def nm_per_pixel(chain: Chain) -> float | None:
    """Returns the size of the database's pixels, None where it is not known."""
    nm = number(chain.rows[0], "nm_per_pixel") if chain.rows else math.nan
    return nm if math.isfinite(nm) and nm > 0 else None


def withheld(chain: Chain) -> bool:
    """Returns whether the scans' names are withheld: a page that is passed on tells neither them nor where they lie."""
    return any((folder / pseudonyms.FILE).exists() for folder in (chain.workdir, chain.workdir / "dcgan"))


def source_ids(row: dict[str, str]) -> list[str]:
    """Returns the ids of the scans behind a row."""
    try:
        listed = json.loads(row.get("sources") or "[]")
    except ValueError:
        return []
    return [str(one) for one in listed] if isinstance(listed, list) else []


def spread(things: list, count: int) -> list:
    """Returns `count` of the things, evenly over their order; all where they are fewer."""
    return [things[index * len(things) // count] for index in range(count)] if len(things) > count else list(things)


def inside(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """Returns the file that is named, None where none is, where it lies outside the folder, and where it is not there."""
    path = folder / name
    return path if name and path.resolve().is_relative_to(folder.resolve()) and path.is_file() else None


def pixels(path: pathlib.Path | None) -> np.ndarray | None:
    """Returns an image file's pixels, None where it is not there or damaged."""
    try:
        return formats.read_image(path, max_pixels=MOST_PIXELS) if path and path.is_file() else None
    except DataError:
        return None


def picture(chain: Chain, row: dict[str, str]) -> np.ndarray | None:
    """Returns the 8-bit image of a row, (h, w) or (h, w, 3), None where it is not there or damaged."""
    found = pixels(inside(chain.folder, row.get("image", "")))
    return found if found is not None and found.dtype == np.uint8 else None


def labels(chain: Chain, row: dict[str, str]) -> np.ndarray | None:
    """Returns the int32 instance map (h, w) of a row, None where there is none."""
    path = inside(chain.folder, row.get("label", ""))
    try:
        return masks.read_mask(path, max_pixels=MOST_PIXELS) if path else None
    except DataError:
        return None


def surface(chain: Chain, image: pathlib.Path | None, heights: pathlib.Path | None) -> np.ndarray | None:
    """Returns float32 (h, w) in the scans' unit: the heights where there is a file of them, else the 8-bit image mapped back.

    None where there is neither, or what there is cannot be drawn: values that are not finite, one row or column.
    """
    found = pixels(heights)
    if found is None:
        found = pixels(image)
        if found is None:
            return None
        unit = found.astype(np.float32) / PER_ONE - 1
        found = chain.value_map.from_unit(unit) if chain.value_map else unit
    found = grey(found).astype(np.float32)
    return found if min(found.shape) > 1 and np.isfinite(found).all() else None


def generated_surface(chain: Chain, row: dict[str, str]) -> np.ndarray | None:
    """Returns `surface` of a row."""
    return surface(chain, *(inside(chain.folder, row.get(name, "")) for name in ("image", "heights")))


def real_files(chain: Chain, kind: str) -> list[pathlib.Path]:
    """Returns the images of W/real/`kind` in the order of their names: train, scored or whole."""
    return sorted((chain.workdir / "real" / kind / "images").glob("*.png"))


def real_name(chain: Chain, image: pathlib.Path) -> str:
    """Returns the id of the scan that one of `real_files` is cut from, its number where real.json does not say."""
    number, scans = image.stem.partition("_")[0], real_record(chain).get("scans")
    known = scans.get(number) if isinstance(scans, dict) else None
    return str(known.get("id", number)) if isinstance(known, dict) else number


def real_record(chain: Chain) -> dict:
    """Returns W/real/real.json, {} where there is none."""
    path = chain.workdir / "real" / "real.json"
    return workdirs.read_object(path) if path.exists() else {}


def real_surface(chain: Chain, image: pathlib.Path) -> np.ndarray | None:
    """Returns `surface` of one of `real_files`."""
    heights = image.parents[1] / "heights" / f"{image.stem}.tiff"
    return surface(chain, image, heights)


def grey(found: np.ndarray) -> np.ndarray:
    """Returns (h, w): the one channel there is, or the mean of several."""
    return found if found.ndim == 2 else found.mean(axis=2)


def stage(workdir: pathlib.Path, name: str) -> dict[str, dict]:
    """Returns status, config, lineage and evaluation of a stage as stored, {} for each that is not there; RunError where one is damaged."""
    paths = {kind: workdir / name / f"{kind}.json" for kind in ("status", "config", "lineage", "evaluation")}
    return {kind: workdirs.read_object(path) if path.exists() else {} for kind, path in paths.items()}
