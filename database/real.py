"""Real images as those of a database are: crops of the training scans, crops of scans no stage was trained on, and these scans whole.

All are in the generator's map of values and at its pixel size, so that a network or a score sees nothing but what the images show.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import cv2
import jax
import numpy as np

import input_pipeline
from microscopy.atomic import write_bytes, write_json
from microscopy.normalisation import ValueMap
from microscopy.pictures import encode_png, to_uint8
from microscopy.preparation import Prepared
from microscopy.scan import DataError, Scan
from microscopy.writing import encode_tiff
from segmentation.whole import sized
from training.errors import RunError
from training.signals import Stop

CHUNK = 32
TRAIN, SCORED, WHOLE = "train", "scored", "whole"
RECORD = "real.json"


@dataclasses.dataclass(frozen=True)
class Target:
    """What the images are like: pixels to a side, the map of values with the nm per pixel of that side, whether scans have masks."""

    size: int
    value_map: ValueMap
    masks: bool


def target(prepared: Prepared, size: int, masks: bool) -> Target:
    """Returns the Target of images of `size` px to a side that show a crop of the scans."""
    nm = prepared.value_map.nm_per_pixel
    scaled = nm and tuple(one * side / size for one, side in zip(nm, prepared.size, strict=True))
    return Target(size, dataclasses.replace(prepared.value_map, nm_per_pixel=scaled), masks)


def write(folder: pathlib.Path, prepared: Prepared, left_out: Mapping, data, like: Target, section, seed: int, stop: Stop) -> None:
    """Writes train/, scored/, whole/ and last real.json to the folder; files that are there are written again, to the same bytes.

    `left_out` is what real.json says of scans that were not taken; `data` is the data section that the scans were prepared by; `section`
    has `num_crops` and `num_scored`. A crop is a function of (seed, its number). DataError where no scan is held out.
    """
    numbered = {scan.id: number for number, scan in enumerate(sorted(_all(prepared), key=lambda scan: scan.id))}
    unseen = unseen_scans(prepared)
    check(prepared)
    for stream, (name, scans, num) in enumerate(
        ((TRAIN, prepared.splits["train"], section.num_crops), (SCORED, unseen, section.num_scored))
    ):
        _crops(folder / name, scans, numbered, num, prepared, data, like, jax.random.fold_in(jax.random.key(seed), stream), stop)
    for scan in unseen if stop.signal is None else ():
        _write(folder / WHOLE, f"{numbered[scan.id]:04d}", *whole(scan, prepared, like), like)
    if stop.signal is None:
        splits = [(split, scan) for split, scans in prepared.splits.items() for scan in scans]
        rows = {f"{numbered[s.id]:04d}": {"id": s.id, "file": s.file, "sha256": s.sha256, "split": split} for split, s in splits}
        nm = like.value_map.nm_per_pixel
        facts = {"scans": dict(sorted(rows.items())), "crop": list(prepared.crop), "size": like.size, "nm_per_pixel": nm}
        facts |= {"num_crops": section.num_crops, "num_scored": section.num_scored, "seed": seed, "masks": like.masks}
        _stored(folder / RECORD, lambda path: write_json(path, {**facts, **left_out}))


def check(prepared: Prepared) -> None:
    """Raises DataError where no scan is left to judge by."""
    if not unseen_scans(prepared):
        raise DataError(
            "no scan is held out, so nothing generated can be judged: three scans or groups at least are needed, "
            "and config.data.held_out or test above 0."
        )


def unseen_scans(prepared: Prepared) -> list[Scan]:
    """Returns the held-out and the test scans: no stage is trained on one of them."""
    return [*prepared.splits["held_out"], *prepared.splits["test"]]


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns real.json and, where it stands, all images, masks and heights, sorted.

    Hidden files are no part of it: what a file manager or a killed process left there nobody reads.
    """
    if not (folder / RECORD).is_file():
        return [folder / RECORD]
    found = (path for name in (TRAIN, SCORED, WHOLE) for path in (folder / name).rglob("*") if path.is_file())
    return [folder / RECORD, *sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))]


def _all(prepared: Prepared) -> list[Scan]:
    return [scan for scans in prepared.splits.values() for scan in scans]


def _crops(folder, scans, numbered, num, prepared, data, like: Target, key, stop: Stop) -> None:
    section = data.copy_and_resolve_references()
    with section.unlocked():
        section.update({"height": like.size, "width": like.size, "use_masks": like.masks, "boundary_weight": 0.0, "label_field": "none"})
    arrays = jax.tree.map(jax.numpy.asarray, input_pipeline.resident(scans, prepared, section))
    cut = jax.jit(functools.partial(input_pipeline.crops, crop=prepared.crop, height=like.size, width=like.size))
    for start in range(0, num, CHUNK):
        if stop.signal is not None:
            return
        place = input_pipeline.draw(jax.random.fold_in(key, start), arrays, CHUNK, prepared.crop, data.rotation, data.mirror)
        batch = jax.device_get(cut(arrays, place))
        for i, index in enumerate(np.asarray(place["scan"])[: num - start]):
            name = f"{numbered[scans[index].id]:04d}_{start + i:06d}"
            _write(folder, name, batch["image"][i], batch["mask"][i] if like.masks else None, like)


def whole(scan: Scan, prepared: Prepared, like: Target) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns (image (h, w, c) in [-1, 1], mask int32 (h, w) or None) of a whole scan at the target's pixel size."""
    ratio = like.size / prepared.crop[0]
    size = tuple(round(side * ratio) for side in scan.pixels.shape[:2])
    image = sized(prepared.value_map.to_unit(scan.pixels if scan.pixels.ndim == 3 else scan.pixels[..., None]), size)
    image = image.reshape(*size, -1)
    if not like.masks:
        return image, None
    ids, labels = np.unique(scan.mask, return_inverse=True)
    labels = labels.reshape(scan.mask.shape).astype(np.float64)  # resized by nearest neighbour, which OpenCV has for no int32
    return image, ids[cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST).astype(np.int64)]


def _write(folder: pathlib.Path, name: str, image: np.ndarray, mask: np.ndarray | None, like: Target) -> None:
    image = image[..., 0] if image.shape[-1] == 1 else image
    contents = {f"images/{name}.png": encode_png(to_uint8(image))}
    if like.value_map.unit == "nm":
        contents[f"heights/{name}.tiff"] = encode_tiff(like.value_map.from_unit(image), like.value_map.nm_per_pixel, "nm")
    if mask is not None:
        contents[f"masks/{name}.png"] = encode_png(_few(mask))
    for path, content in contents.items():
        _stored(folder / path, lambda path, content=content: write_bytes(path, content))


def _few(mask: np.ndarray) -> np.ndarray:
    """The instances numbered from 1 on, uint16."""
    ids, labels = np.unique(mask, return_inverse=True)
    labels = labels.reshape(mask.shape) + (ids[0] != 0)
    if labels.max() > np.iinfo(np.uint16).max:
        raise DataError(f"a scan's mask has {labels.max()} instances, a 16-bit PNG can number {np.iinfo(np.uint16).max}.")
    return labels.astype(np.uint16)


def _stored(path: pathlib.Path, put) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.\nFree space, and the same command goes on.") from error
