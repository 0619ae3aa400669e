"""What the database is for: a U-Net trained on it and one trained on real crops, judged on the same scans that no stage was trained on."""

import dataclasses
import pathlib

import jax
import numpy as np

from database.real import RECORD, WHOLE, Target, unseen_scans
from microscopy import folder as folders
from microscopy.atomic import finite, write_json
from microscopy.normalisation import ValueMap
from microscopy.other_scans import with_held_out
from microscopy.pictures import outlined, to_uint8, write_png
from microscopy.preparation import Prepared
from microscopy.scan import Scan
from segmentation import exported, instances, judged, supervised
from segmentation.whole import make_whole
from training import checkpoints, lineage, prediction
from training import workdir as workdirs
from training.errors import RunError
from training.task import Data, Evaluation

SHOWN = {"unet_database": "database", "unet_real": "real"}
"""Stage -> what its U-Net is called."""
NO_MASKS = "The scans have no masks, so nothing can be judged; the picture shows what the U-Net of the database finds."


def write(workdir: pathlib.Path, names: tuple[str, ...], prepared: Prepared, checkpoint: str) -> None:
    """Writes downstream.json and a picture of each of the U-Nets `names` at work on whole scans.

    Raises RunError, naming the scan, where one of these scans is behind a U-Net: behind the images it was trained on included.
    """
    for name in names:
        lineage.refuse_trained_on(workdir / name, unseen_scans(prepared))
    scans, rows, pictures, notes = {}, {}, {}, []
    for name in names:
        by, path = SHOWN[name], workdir / f"downstream_{SHOWN[name]}.png"
        if prepared.splits["train"][0].mask is None:
            picture, notes = _found(workdir, name, prepared, checkpoint), [NO_MASKS]
        else:
            evaluation = _evaluation(workdir, name, checkpoint)
            table, *_ = [rows for title, rows in evaluation.tables.items() if title.endswith("means")]
            rows = {by: {**table[0], "by": by}, **{row["by"]: row for row in table[1:]}} | rows
            scans = {"protocol": evaluation.protocol}
            picture = evaluation.figures["segmentation"]
        pictures[by] = path.name
        _stored(path, lambda path, picture=picture: write_png(path, picture))
    order = sorted(rows, key=lambda by: list(SHOWN.values()).index(by) if by in SHOWN.values() else len(SHOWN))
    facts = {"scans": [scan.id for scan in unseen_scans(prepared)], "checkpoint": checkpoint, **scans}
    facts |= {"rows": [rows[by] for by in order], "pictures": pictures, "note": " ".join(notes)}
    _stored(workdir / "downstream.json", lambda path: write_json(path, finite(facts)))


def files(workdir: pathlib.Path, names: tuple[str, ...]) -> tuple[pathlib.Path, ...]:
    """Returns what `write` and `export` write."""
    pictures = (workdir / f"downstream_{SHOWN[name]}.png" for name in names)
    return workdir / "downstream.json", *pictures, workdir / "unet_database.safetensors"


def _opened(workdir: pathlib.Path, name: str, checkpoint: str):
    """(config, state, Prepared that knows crop and map, but no scan) of a trained U-Net."""
    folder = workdir / name
    config = workdirs.read_config(folder)
    step = checkpoints.choose(folder, checkpoint, "config.stages.downstream.checkpoint=")
    state, _ = checkpoints.restore_for_inference(folder, supervised.make_task(config), str(step))
    data, value_map = config.data, workdirs.read_value_map(folder)
    crop = (round(data.crop * data.height / max(data.height, data.width)), round(data.crop * data.width / max(data.height, data.width)))
    return config, state, Prepared({"train": [], "held_out": [], "test": []}, value_map, crop, [], {}, size=(data.height, data.width))


def _evaluation(workdir: pathlib.Path, name: str, checkpoint: str) -> Evaluation:
    config, state, own = _opened(workdir, name, checkpoint)
    task = supervised.make_task(config)
    found, numbered = with_held_out(config, own, str(_whole(workdir))), workdirs.read_object(workdir / "real" / RECORD)["scans"]
    named = [dataclasses.replace(scan, id=numbered[scan.id]["id"]) for scan in found.splits["held_out"]]
    data = Data(None, None, None, None, dataclasses.replace(found, splits={**found.splits, "held_out": named}))
    return task.evaluate(state, task.frozen, data, jax.random.key(config.seed))


def _whole(workdir: pathlib.Path) -> pathlib.Path:
    folder = workdir / "real" / WHOLE
    return folder / "heights" if (folder / "heights").is_dir() else folder / "images"


def _found(workdir: pathlib.Path, name: str, prepared: Prepared, checkpoint: str) -> np.ndarray:
    """The first unseen scan with the outlines of what a U-Net finds in it."""
    config, state, own = _opened(workdir, name, checkpoint)
    probability, parts = supervised.make_probability(config), supervised.inference(state)
    whole = make_whole(supervised.make_network(config), lambda image: probability(*parts, image), own.crop[0] / config.data.height)
    id, file = next(iter(folders.list_scans(_whole(workdir)).items()))
    scan: Scan = folders.read_scan(id, file, max_pixels=config.data.max_pixels)
    image = judged.unit_image(scan, own)
    found = instances.from_probability(whole(image), min_area=config.eval.min_area)
    return outlined(to_uint8(image)[..., 0] if image.shape[-1] == 1 else to_uint8(image), found)


def export(workdir: pathlib.Path, data, prepared: Prepared, like: Target, checkpoint: str) -> None:
    """Writes WORKDIR/unet_database.safetensors: the U-Net of the database for scans as they come, by the levelling and margins of `data`.

    Its own training images were levelled, mapped and brought to their pixel size before; the exported config and map say how scans are.
    """
    folder, path = workdir / "unet_database", workdir / "unet_database.safetensors"
    config, own = workdirs.read_config(folder).unlock(), workdirs.read_value_map(folder)
    value_map = for_scans(config, own, data, prepared, like)
    exported.write(config.lock(), folder, prediction.Request(str(folder), str(path), checkpoint), value_map)


def for_scans(config, own: ValueMap, data, prepared: Prepared, like: Target) -> ValueMap:
    """Returns the map of the exported U-Net after the data section of its `config` says how scans that `data` describes come to it.

    `own` is the map of its training images. Heights state their nm per pixel there, too; images do not, so what a crop is and, where
    scans have a scale, the nm per pixel are those of the scans.
    """
    names = ("levelling", "margins", "channel", "channels", "nm_per_pixel")
    config.data.update({name: data[name] for name in names})
    if like.value_map.unit == "nm":
        return own
    section, nm = config.data, like.value_map.nm_per_pixel
    part = section.crop / max(section.height, section.width)
    section.crop = round(max(prepared.crop) * section.crop / like.size)
    return dataclasses.replace(through(own, prepared.value_map), nm_per_pixel=nm and tuple(side * part for side in nm))


def through(second: ValueMap, first: ValueMap) -> ValueMap:
    """Returns the map of the scans' own values that equals `first`, its -1 .. 1 stored as 0 .. 255, and then `second`."""
    low, high = (float((first.high - first.low) * level / 255 + first.low) for level in (second.low, second.high))
    return dataclasses.replace(first, low=low, high=high, nm_per_pixel=None)


def _stored(path: pathlib.Path, put) -> None:
    try:
        put(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.\nFree space, and the same command goes on.") from error
