"""Scans from a folder of image files."""

import dataclasses
import hashlib
import logging
import os
import pathlib
from collections.abc import Callable

import numpy as np

from microscopy import coco
from microscopy.channels import label
from microscopy.formats import read_content
from microscopy.labelme import Annotated, read_labelme
from microscopy.levels import level_masks, listed, meaning
from microscopy.listing import Files, coco_names, mask_files, selected
from microscopy.listing import existing_folder as existing_folder
from microscopy.listing import image_root as image_root
from microscopy.listing import list_masks as list_masks
from microscopy.listing import list_scans as list_scans
from microscopy.masks import as_instances, read_mask
from microscopy.native import read_channel
from microscopy.scan import AllRefused, DataError, Refused, Scan

Paint = Callable[[], Annotated]


@dataclasses.dataclass(frozen=True)
class _Options:
    max_pixels: int
    margins: tuple[int, int, int, int]
    nm_per_pixel: tuple[float, float] | None
    channel: str
    levels: tuple[str, ...] = ()


def read_folder(
    path: str | os.PathLike,
    *,
    max_pixels: int,
    margins: tuple[int, int, int, int] = (0, 0, 0, 0),
    nm_per_pixel: float | tuple[float, float] | None = None,
    masks: str | os.PathLike | None = None,
    select: str | os.PathLike | None = None,
    skip_bad: bool = False,
    channel: str = "",
    levels: tuple[str, ...] = (),
    kept: Callable[[Scan], Scan] = lambda scan: scan,
) -> tuple[list[Scan], list[Refused]]:
    """Returns the folder's images as Scans sorted by id, and the files refused (none unless `skip_bad`).

    Which files: the images in the folder itself (id = stem, no label), and those one level of sub-folders down, whose
    name is the class label (id = "label/stem"). Deeper levels, hidden files, folders called `masks`, files without an
    image suffix and the program's own folders are passed over: a run's workdir, generated images, a folder of crops, what
    inspection wrote, known by the files they hold. A folder with `images/` (or `image/`) inside stands for that one.
    With `levels`, the names of levels of folders from `levels.parse`, the images lie below them, id = "a/b/stem", and class and group
    are the folders of the levels so called.

    `masks`: a folder with a mask of the same stem (or "label/stem") for some or all images; None looks for `masks/`
    inside the folder, inside a class folder, then beside the folder, and for images without one Labelme's STEM.json beside the image;
    "" reads none. Masks are read by `read_mask` and become int32 instance maps by `as_instances`: numbered ones stay as stored, binary
    ones are split into connected regions. A folder of masks may hold Labelme's JSON files too, read by `read_labelme`. Instead of a folder
    `masks` may name a COCO file: images that it lists are matched by `listing.coco_names`, those without an annotation are background.
    `margins` (top, right, bottom, left, px) are cut from image and mask (info bars). `nm_per_pixel`: one number or (y, x).
    `select`: a text file with one id, stem or file name a line (empty lines and those that start with # are passed over): only
    these are read.
    `channel` is the one taken from an instrument's file, by `channels.choose`; heights come in nm. `nm_per_pixel` is the file's where
    none is given. Lines of an unfinished scan are cut off and noted; its mask may have them or not. Instrument's files of one stem have
    their whole names as ids and the stem as group. Scans have the SHA-256 of the file's bytes; photographs have the unit "grey".
    `kept(scan)` is what is held of each scan once it is read, all of it unless another function is given.

    Raises DataError, naming the file, for the first image or mask that cannot be read, two images with one id, and a
    mask of another size; with `skip_bad` these are returned as Refused. A folder that is missing, no folder, or
    without one readable image (AllRefused), an unknown id in `select`, masks of which none fits, wrong `margins` or `nm_per_pixel`: always
    DataError.
    """
    options = _Options(max_pixels, _checked_margins(margins), checked_scale(nm_per_pixel), channel, levels)
    root, images = listed(path, levels)
    mask_paths = level_masks(root, levels, masks, images) if levels else mask_files(root, masks, images)
    painted = _of_coco(masks, images, max_pixels) if masks and coco.is_coco(masks) else {}
    if select is not None:
        images = selected(images, select)
    scans, refused = [], []
    for id, files in sorted(images.items()):
        try:
            scans.append(kept(_read_scan(id, files, mask_paths.get(id, []), options, painted.get(id))))
        except DataError as error:
            if not skip_bad:
                raise
            refused.extend(Refused(str(file), str(error).removeprefix(f"{file}: ")) for file in files)
    if not scans:
        first = f"{refused[0].file}: {refused[0].reason}"
        raise AllRefused(f"{root}: none of its {len(refused)} images can be read; the first: {first}", refused)
    return scans, refused


def read_scan(id: str, file: str | os.PathLike, *, max_pixels: int, channel: str = "") -> Scan:
    """Returns one file as a Scan without mask: pixels, unit, pixel size and channel as `read_folder` has them; its errors."""
    return _read_scan(id, [pathlib.Path(file)], [], _Options(max_pixels, (0, 0, 0, 0), None, channel))


def _of_coco(path: str | os.PathLike, images: Files, max_pixels: int) -> dict[str, Paint]:
    path = pathlib.Path(path).expanduser()
    paint = coco.open_coco(path, max_pixels=max_pixels)
    return {id: paint[name] for id, name in coco_names(path, paint, images).items()}


def _read_scan(id: str, files: list[pathlib.Path], mask_files: list[pathlib.Path], options: _Options, paint: Paint | None = None) -> Scan:
    for paths in (files, mask_files):
        if len(paths) > 1:
            raise DataError(f"{paths[0]}: has the same stem as {paths[1].name}; rename or remove one")
    file = files[0]
    content = read_content(file, max_pixels=options.max_pixels)
    channel, lines, note = read_channel(content, str(file), options.channel, max_pixels=options.max_pixels)
    mask = _read_instances(mask_files[0], file, channel.pixels.shape[:2], lines, options, paint) if mask_files else None
    name, group = meaning(id, options.levels) if options.levels else (id.split("/")[0] if "/" in id else None, None)
    return Scan(
        id=id,
        pixels=_without_margins(channel.pixels[lines], options.margins, file),
        sha256=hashlib.sha256(content).hexdigest(),
        file=str(file),
        unit=channel.unit or "grey",
        nm_per_pixel=options.nm_per_pixel or channel.nm_per_pixel,
        channel=label(channel),
        mask=mask,
        label=name,
        group=group or (id.removesuffix(file.suffix) if id.rpartition("/")[2] == file.name else None),
        note=note,
    )


def _read_instances(
    mask_file: pathlib.Path, file: pathlib.Path, shape: tuple[int, int], lines: slice, options: _Options, paint: Paint | None
) -> np.ndarray:
    cut = (len(range(*lines.indices(shape[0]))), shape[1])
    if mask_file.suffix.lower() == ".json":
        annotated = paint() if paint else read_labelme(mask_file, max_pixels=options.max_pixels, shape=shape, cut=cut, image=file)
        where = f"{mask_file}: {annotated.image}" if paint else mask_file
        if annotated.instances.shape not in (shape, cut):
            sizes = [f"{size[1]} x {size[0]}" for size in (annotated.instances.shape, shape)]
            raise DataError(f"{where}: annotates {sizes[0]} px, its image has {sizes[1]}; annotate the image that you train on")
        if annotated.passed_over:
            logging.getLogger(__name__).warning("%s: passed over: %s", where, "; ".join(annotated.passed_over))
        return _without_margins(_measured(annotated.instances, cut, lines), options.margins, file)
    ids = read_mask(mask_file, max_pixels=options.max_pixels)
    if ids.shape not in (shape, cut):
        sizes = " and ".join(f"{size[1]} x {size[0]}" for size in (ids.shape, shape))
        raise DataError(f"{mask_file}: mask and image {file.name} differ in size ({sizes} px); make a mask of the whole image")
    return as_instances(_without_margins(_measured(ids, cut, lines), options.margins, file))


def _measured(mask: np.ndarray, cut: tuple[int, int], lines: slice) -> np.ndarray:
    """The lines of a mask that its scan has: a mask made of the scan as it is read, as `tools.prelabel` makes them, has no others."""
    return mask if mask.shape == cut else mask[lines]


def _without_margins(array: np.ndarray, margins: tuple[int, int, int, int], file: pathlib.Path) -> np.ndarray:
    (top, right, bottom, left), (height, width) = margins, array.shape[:2]
    if top + bottom >= height or left + right >= width:
        raise DataError(f"{file}: margins {margins} (top, right, bottom, left) leave nothing of {width} x {height} pixels; lower them")
    return np.ascontiguousarray(array[top : height - bottom, left : width - right])


def _checked_margins(margins: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    values = tuple(margins)
    if len(values) != 4 or any(isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0 for value in values):
        raise DataError(f"margins: {margins} is wrong; give whole pixels from 0 on as (top, right, bottom, left)")
    return tuple(int(value) for value in values)


def checked_scale(nm_per_pixel: float | tuple[float, float] | None) -> tuple[float, float] | None:
    """Returns (y, x) nm per pixel from one number, a pair or None. Raises DataError unless positive and finite."""
    if nm_per_pixel is None:
        return None
    try:
        scale = np.broadcast_to(np.asarray(nm_per_pixel, np.float64), (2,))
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError
    except (TypeError, ValueError):
        raise DataError(f"nm_per_pixel: {nm_per_pixel} is wrong; give one positive number or (y, x)") from None
    return float(scale[0]), float(scale[1])
