"""A database in the forms other programs read: COCO, Labelme, TensorFlow Datasets (array_record) and plain folders.

Every file is checked against its SHA-256 on the way, and the output appears under its name whole or not at all.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import shutil
from collections.abc import Callable

import cv2
import numpy as np

from database import index, making
from database.index import Database
from microscopy import atomic, coco, labelme
from microscopy.labelme import Annotated
from training.errors import ConfigError, RunError

LABEL = "particle"
TFDS_NAME = "scanforge_database"


def exported(database: Database) -> Database:
    """Returns what of a database is exported: all rows where all have labels or none has, else those that have one."""
    labelled = [row for row in database.rows if row["label"]]
    return dataclasses.replace(database, rows=labelled) if labelled else database


def export(database: Database, form: str, output) -> pathlib.Path:
    """Returns the folder `output` after what `exported` gives of the database stands there as `form`, one of `FORMS`.

    coco: images/ and annotations.json. labelme: each image beside its JSON. folder: train/ and held_out/, each with images/, masks/ and,
    where units are known, heights/, as `folder:PATH` reads them. tfds: the set `scanforge_database` in array_record, splits train and
    held_out, features id, image and mask as encoded bytes. ConfigError where the output is there already or the form is none; RunError
    where a file is not what its row says, where labels are needed and there are none, or the disk refuses.
    """
    if form not in FORMS:
        raise ConfigError(f"--format={form}: choose {', '.join(FORMS)}.")
    output = pathlib.Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"--output={output}: is there already; name a new folder.")
    if form in ("coco", "labelme") and not any(row["label"] for row in database.rows):
        raise RunError(
            f"{database.folder}: has no labels to export as {form}.\nExport it as a folder, or label it first (docs/database.md)."
        )
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        FORMS[form](exported(database), temporary)
        if output.exists():
            output.rmdir()
        os.replace(temporary, output)
    except OSError as error:
        raise RunError(f"--output={output}: cannot be written ({error.strerror or error}); free space or name another folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return output


def content(database: Database, row, kind: str) -> bytes:
    """Returns the content of a row's "image", "heights" or "label"; RunError where it is not what its SHA-256 says."""
    path = database.folder / row[kind]
    try:
        found = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error}).\n{_REMEDY}") from error
    if making.sha256_of_bytes(found) != index.files(row)[row[kind]]:
        raise RunError(f"{path}: was changed since it was made (its SHA-256 is not the index's).\n{_REMEDY}")
    return found


_REMEDY = "python -m database.catalogue verify DIR --repair makes it again."


def instances(database: Database, row) -> np.ndarray:
    """Returns the instance map int32 (h, w) of a row, all 0 where it has no label."""
    if not row["label"]:
        return np.zeros(database.facts["size"], np.int32)
    return cv2.imdecode(np.frombuffer(content(database, row, "label"), np.uint8), cv2.IMREAD_UNCHANGED).astype(np.int32)


def _coco(database: Database, output: pathlib.Path) -> None:
    found = {}
    (output / "images").mkdir()
    for row in database.rows:
        name = f"{row['id']}.png"
        _put(output / "images" / name, content(database, row, "image"))
        ids, labels = np.unique(instances(database, row), return_inverse=True)
        found[name] = Annotated(_consecutive(ids, labels, database), (LABEL,) * int((ids > 0).sum()), name)
    coco.write_coco(output / "annotations.json", found)


def _consecutive(ids: np.ndarray, labels: np.ndarray, database: Database) -> np.ndarray:
    """Instances numbered 1.. without gaps; `labels` are places in `ids`, which begins with 0 only where there is background."""
    return (labels.reshape(database.facts["size"]) + (ids[0] > 0)).astype(np.int32)


def _labelme(database: Database, output: pathlib.Path) -> None:
    for row in database.rows:
        _put(output / f"{row['id']}.png", content(database, row, "image"))
        labelme.write_labelme(output / f"{row['id']}.json", instances(database, row), labels=LABEL, image=f"{row['id']}.png")


def _folder(database: Database, output: pathlib.Path) -> None:
    names = {"image": "images", "heights": "heights", "label": "masks"}
    for row in database.rows:
        for kind, name in names.items():
            if row[kind]:
                (output / row["split"] / name).mkdir(parents=True, exist_ok=True)
                _put(output / row["split"] / name / pathlib.PurePath(row[kind]).name, content(database, row, kind))
    _put(output / index.TEXT, index.encode_text(database.rows))


def _tfds(database: Database, output: pathlib.Path) -> None:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise RunError(f"--format=tfds needs tensorflow-datasets, which cannot be imported ({error}).") from error
    tfds.disable_progress_bar()
    shape = (*database.facts["size"], 1)
    features = {"id": tfds.features.Text(), "image": tfds.features.Image(shape=shape, encoding_format="png")}
    labelled = any(row["label"] for row in database.rows)
    if labelled:
        features["mask"] = tfds.features.Image(shape=shape, dtype=np.uint16, encoding_format="png")

    def examples(split: str):
        for row in database.rows:
            if row["split"] == split:
                example = {"id": row["id"], "image": io.BytesIO(content(database, row, "image"))}
                if labelled:
                    example["mask"] = io.BytesIO(content(database, row, "label"))
                yield row["id"], example

    builder = _builder(tfds, tfds.features.FeaturesDict(features), examples, {row["split"] for row in database.rows})
    set_of_files = builder(data_dir=str(output), file_format="array_record")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it tells the path of the temporary folder as the set's
            set_of_files.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
        shutil.rmtree(output / "downloads", ignore_errors=True)  # which it makes, though nothing is downloaded
    except (ImportError, NotImplementedError) as error:
        raise RunError(f"--format=tfds: array_record cannot be written here ({error}); it exists for Linux alone.") from error


def _builder(tfds, features, examples: Callable, splits: set[str]) -> type:
    """The class tfds wants a set to be."""

    class ScanforgeDatabase(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # one may follow another in a process
        """Generated microscope images with their instances."""

        __module__ = "scanforge"  # for a dotted module name tfds 4.9.10 needs importlib_resources, which it does not install
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in sorted(splits)}

        def _generate_examples(self, split):
            return examples(split)

    return ScanforgeDatabase


def _put(path: pathlib.Path, found: bytes) -> None:
    atomic.write_bytes(path, found)


FORMS = {"coco": _coco, "labelme": _labelme, "tfds": _tfds, "folder": _folder}
