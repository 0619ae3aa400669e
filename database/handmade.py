"""Labels drawn or corrected by hand (Labelme) taken into a database, the route of the publication."""

import itertools
import pathlib

import cv2
import numpy as np

from database import index, making
from database.index import Database
from microscopy.atomic import write_bytes
from microscopy.labelme import read_labelme
from microscopy.pictures import encode_png
from training.errors import ConfigError, RunError


def adopt(database: Database, folder: pathlib.Path) -> int:
    """Returns how many rows got the label that a Labelme file ID.json in `folder` draws, with origin "hand", their scores measured anew.

    All files are read before one is written. Each label is written whole, the index last; interrupted, the same command goes on.
    ConfigError where the folder is none or holds no such file, DataError for a file that does not fit its image, RunError where a file
    cannot be written.
    """
    if not folder.is_dir():
        raise ConfigError(f"--labels={folder}: no such folder.")
    found = {row["id"]: folder / f"{row['id']}.json" for row in database.rows if (folder / f"{row['id']}.json").is_file()}
    if not found:
        raise ConfigError(f"--labels={folder}: holds no Labelme file named as an image of the database, such as 000000.json.")
    shape = tuple(database.facts["size"])
    labels = {id: read_labelme(path, max_pixels=2**28, shape=shape, image=path.with_suffix(".png")).instances for id, path in found.items()}
    rows = [dict(row) for row in database.rows]
    try:
        (database.folder / "labels").mkdir(exist_ok=True)
        for row in rows:
            if row["id"] in labels:
                content = encode_png(labels[row["id"]].astype(np.uint16))
                row |= {"label": f"labels/{row['id']}.png", "label_sha256": making.sha256_of_bytes(content), "label_origin": "hand"}
                scores = making.scores(_values(database, row), labels[row["id"]], database.facts["nm_per_pixel"])
                row |= {name: scores[name] for name in ("particles", "mean_diameter", "coverage")}
                write_bytes(database.folder / row["label"], content)
        index.write(database.folder, database.facts, rows)
    except OSError as error:
        raise RunError(f"{database.folder}: cannot be written ({error.strerror or error}); the same command goes on.") from error
    return len(labels)


def set_aside(folder: pathlib.Path) -> None:
    """Renames a database with labels drawn by hand to FOLDER.by-hand, or the first FOLDER.by-hand-N that is free, and says so.

    Labels are of no use without their images, so the whole folder is kept. A database that was finished and cannot be read is taken for one
    with such labels. Any other is left where it is. RunError where the disk refuses.
    """
    if not _has_hand(folder):
        return
    names = itertools.chain([f"{folder.name}.by-hand"], (f"{folder.name}.by-hand-{number}" for number in itertools.count(2)))
    aside = next(path for path in map(folder.with_name, names) if not path.exists())
    try:
        folder.rename(aside)
    except OSError as error:
        raise RunError(f"{folder} cannot be renamed to {aside.name}: {error.strerror or error}.") from error
    print(f"{folder}: labels drawn by hand are not deleted; the database that holds them is now {aside}.", flush=True)


def _has_hand(folder: pathlib.Path) -> bool:
    try:
        if index.read_facts(folder)["state"] != "finished":
            return False
    except RunError:
        return (folder / index.TABLE).exists()  # written last
    try:
        return any(row["label_origin"] == "hand" for row in index.read(folder).rows)
    except RunError:
        return True


def _values(database: Database, row) -> np.ndarray:
    """The image's grey levels, float64 (h, w); RunError where it cannot be read."""
    image = cv2.imread(str(database.folder / row["image"]), cv2.IMREAD_UNCHANGED)
    if image is None or image.shape != tuple(database.facts["size"]):
        raise RunError(f"{row['image']}: cannot be read.\npython -m database.catalogue verify DIR --repair makes it again.")
    return image.astype(np.float64)
