"""Scans from a folder of image files."""

import dataclasses
import difflib
import hashlib
import logging
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from microscopy.channels import label
from microscopy.formats import read_content, why
from microscopy.labelme import is_labelme, read_labelme
from microscopy.masks import as_instances, read_mask
from microscopy.native import is_native, is_scan_file, read_channel
from microscopy.scan import DataError, Refused, Scan


@dataclasses.dataclass(frozen=True)
class _Options:
    max_pixels: int
    margins: tuple[int, int, int, int]
    nm_per_pixel: tuple[float, float] | None
    channel: str


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
) -> tuple[list[Scan], list[Refused]]:
    """Returns the folder's images as Scans sorted by id, and the files refused (none unless `skip_bad`).

    Which files: the images in the folder itself (id = stem, no label), and those one level of sub-folders down, whose
    name is the class label (id = "label/stem"). Deeper levels, hidden files, folders called `masks`, files without an
    image suffix and the program's own folders are passed over: a run's workdir, generated images, a folder of crops, what
    inspection wrote, known by the files they hold. A folder with `images/` (or `image/`) inside stands for that one.

    `masks`: a folder with a mask of the same stem (or "label/stem") for some or all images; None looks for `masks/`
    inside the folder, inside a class folder, then beside the folder, and for images without one Labelme's STEM.json beside the image;
    "" reads none. Masks are read by `read_mask` and become int32 instance maps by `as_instances`: numbered ones stay as stored, binary
    ones are split into connected regions. A folder of masks may hold Labelme's JSON files too, read by `read_labelme`.
    `margins` (top, right, bottom, left, px) are cut from image and mask (info bars). `nm_per_pixel`: one number or (y, x).
    `select`: a text file with one id, stem or file name a line (empty lines and those that start with # are passed over): only
    these are read.
    `channel` is the one taken from an instrument's file, by `channels.choose`; heights come in nm. `nm_per_pixel` is the file's where
    none is given. Lines of an unfinished scan are cut off and noted. Instrument's files of one stem have their whole
    names as ids and the stem as group. Scans have the SHA-256 of the file's bytes; photographs have the unit "grey".

    Raises DataError, naming the file, for the first image or mask that cannot be read, two images with one id, and a
    mask of another size; with `skip_bad` these are returned as Refused. A folder that is missing, no folder, or
    without one readable image, an unknown id in `select`, masks of which none fits, wrong `margins` or `nm_per_pixel`: always DataError.
    """
    options = _Options(max_pixels, _checked_margins(margins), checked_scale(nm_per_pixel), channel)
    root = image_root(existing_folder(path))
    images = _listing(root)
    if not images:
        raise DataError(f"{root}: holds no image{_suffixes_found(root)}; give a folder of PNG, JPEG, TIFF, NPY or scanning-probe files")
    mask_files = _mask_files(root, masks, images)
    if select is not None:
        images = _selected(images, select)
    scans, refused = [], []
    for id, files in sorted(images.items()):
        try:
            scans.append(_read_scan(id, files, mask_files.get(id, []), options))
        except DataError as error:
            if not skip_bad:
                raise
            refused.extend(Refused(str(file), str(error).removeprefix(f"{file}: ")) for file in files)
    if not scans:
        raise DataError(f"{root}: none of its {len(refused)} images can be read; the first: {refused[0].file}: {refused[0].reason}")
    return scans, refused


def list_scans(path: str | os.PathLike) -> dict[str, pathlib.Path]:
    """Returns id -> file, sorted: the file itself, or the images that `read_folder` would find in the folder.

    The id is the stem ("label/stem" in a sub-folder); files of one stem have their whole names. DataError where there is neither a file
    nor a folder, no image in the folder, or two files would have one id.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_file():
        return {path.stem: path}
    root = image_root(existing_folder(path))
    pairs = []
    for id, files in _listing(root).items():
        pairs += [(id, files[0])] if len(files) == 1 else [(f"{id}{file.suffix}", file) for file in files]
    found = dict(sorted(pairs))
    if not found:
        raise DataError(f"{root}: holds no image{_suffixes_found(root)}; give a folder of PNG, JPEG, TIFF, NPY or scanning-probe files")
    for id, file in pairs:
        if found[id] != file:
            raise DataError(f"{file}: would have the same name as {found[id].name}; rename one")
    return found


def list_masks(path: str | os.PathLike, masks: str | os.PathLike | None = None) -> dict[str, pathlib.Path]:
    """Returns id -> mask file of a folder's images, where `read_folder` looks for them; of several of one stem the first. Its errors."""
    root = image_root(existing_folder(path))
    return {id: files[0] for id, files in _mask_files(root, masks, _listing(root)).items()}


def read_scan(id: str, file: str | os.PathLike, *, max_pixels: int, channel: str = "") -> Scan:
    """Returns one file as a Scan without mask: pixels, unit, pixel size and channel as `read_folder` has them; its errors."""
    return _read_scan(id, [pathlib.Path(file)], [], _Options(max_pixels, (0, 0, 0, 0), None, channel))


def _read_scan(id: str, files: list[pathlib.Path], mask_files: list[pathlib.Path], options: _Options) -> Scan:
    for paths in (files, mask_files):
        if len(paths) > 1:
            raise DataError(f"{paths[0]}: has the same stem as {paths[1].name}; rename or remove one")
    file = files[0]
    content = read_content(file, max_pixels=options.max_pixels)
    channel, lines, note = read_channel(content, str(file), options.channel, max_pixels=options.max_pixels)
    mask = _read_instances(mask_files[0], file, channel.pixels.shape[:2], lines, options) if mask_files else None
    return Scan(
        id=id,
        pixels=_without_margins(channel.pixels[lines], options.margins, file),
        sha256=hashlib.sha256(content).hexdigest(),
        file=str(file),
        unit=channel.unit or "grey",
        nm_per_pixel=options.nm_per_pixel or channel.nm_per_pixel,
        channel=label(channel),
        mask=mask,
        label=id.split("/")[0] if "/" in id else None,
        group=id.removesuffix(file.suffix) if id.rpartition("/")[2] == file.name else None,
        note=note,
    )


def _read_instances(mask_file: pathlib.Path, file: pathlib.Path, shape: tuple[int, int], lines: slice, options: _Options) -> np.ndarray:
    if mask_file.suffix.lower() == ".json":
        annotated = read_labelme(mask_file, max_pixels=options.max_pixels, shape=shape, image=file)
        if annotated.passed_over:
            logging.getLogger(__name__).warning("%s: passed over: %s", mask_file, "; ".join(annotated.passed_over))
        return _without_margins(annotated.instances[lines], options.margins, file)
    ids = read_mask(mask_file, max_pixels=options.max_pixels)
    if ids.shape != shape:
        sizes = " and ".join(f"{size[1]} x {size[0]}" for size in (ids.shape, shape))
        raise DataError(f"{mask_file}: mask and image {file.name} differ in size ({sizes} px); make a mask of the whole image")
    return as_instances(_without_margins(ids[lines], options.margins, file))


def _without_margins(array: np.ndarray, margins: tuple[int, int, int, int], file: pathlib.Path) -> np.ndarray:
    (top, right, bottom, left), (height, width) = margins, array.shape[:2]
    if top + bottom >= height or left + right >= width:
        raise DataError(f"{file}: margins {margins} (top, right, bottom, left) leave nothing of {width} x {height} pixels; lower them")
    return np.ascontiguousarray(array[top : height - bottom, left : width - right])


def existing_folder(path: str | os.PathLike) -> pathlib.Path:
    """Returns the path, ~ expanded, where it is a folder that may be listed.

    Raises DataError otherwise: for a missing one with the nearest name that exists beside it.
    """
    folder = pathlib.Path(path).expanduser()
    try:
        with os.scandir(folder):
            if not os.access(folder, os.R_OK | os.X_OK):
                raise PermissionError("permission denied")
    except FileNotFoundError:
        raise DataError(f"{folder}: no such folder{_nearest(folder)}; check the path") from None
    except (OSError, ValueError) as error:
        reason = "is a file" if os.path.isfile(folder) else f"cannot be listed ({why(error)})"
        raise DataError(f"{folder}: {reason}; give a folder of images that you may read") from None
    return folder


def _nearest(path: pathlib.Path) -> str:
    while not os.path.isdir(path.parent) and path.parent != path:
        path = path.parent
    try:
        names = [entry.name for entry in os.scandir(path.parent) if entry.is_dir()]
    except OSError:
        names = []
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean {path.parent / close[0]}?)" if close else ""


def image_root(folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder that holds the scans of `folder`: its `images` or `image` where it has no image itself, else itself."""
    for name in ("images", "image"):
        if os.path.isdir(folder / name) and not any(_images_in(folder)):
            return existing_folder(folder / name)
    return folder


def _images_in(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for file in folder.iterdir():
        if is_scan_file(file) and not file.name.startswith(".") and not os.path.isdir(file):
            yield file


def _sub_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    if os.path.isfile(folder / "generation.json"):  # generated images: below them lie their labels
        return []
    entries = (entry for entry in folder.iterdir() if os.path.isdir(entry) and not entry.name.startswith(".") and entry.name != "masks")
    return sorted(entry for entry in entries if not _is_output(entry))


def _is_output(folder: pathlib.Path) -> bool:
    names = ("lineage.json", "metrics.jsonl", "generation.json", "prediction.json", "crops.json", "inspect.json")
    run = os.path.isfile(folder / "config.json") and os.path.isdir(folder / "samples")
    return run or any(os.path.isfile(folder / name) for name in names)


def _listing(root: pathlib.Path, prefix: str = "", *, deep: bool = True) -> dict[str, list[pathlib.Path]]:
    """Returns id -> files, sorted; more than one file where stems collide."""
    found = {}
    for file in sorted(_images_in(existing_folder(root))):
        found.setdefault(prefix + file.stem, []).append(file)
    for id, files in list(found.items()):
        if len(files) > 1 and all(is_native(file) for file in files):
            found |= {prefix + file.name: [file] for file in found.pop(id)}
    for folder in _sub_folders(root) if deep else ():
        found.update(_listing(folder, f"{folder.name}/", deep=False))
    return found


def _annotations(root: pathlib.Path, prefix: str = "", *, deep: bool = True) -> dict[str, list[pathlib.Path]]:
    """Returns id -> Labelme files of a folder and, `deep`, of those one level down."""
    found = {prefix + file.stem: [file] for file in sorted(root.iterdir()) if not file.name.startswith(".") and is_labelme(file)}
    for folder in _sub_folders(root) if deep else ():
        found.update(_annotations(folder, f"{folder.name}/", deep=False))
    return found


def _masks_in(folder: pathlib.Path, prefix: str = "", *, deep: bool = True) -> dict[str, list[pathlib.Path]]:
    found = _listing(folder, prefix, deep=deep)
    for id, files in _annotations(folder, prefix, deep=deep).items():
        found.setdefault(id, []).extend(files)
    return found


def _mask_files(root: pathlib.Path, masks: str | os.PathLike | None, images: dict) -> dict[str, list[pathlib.Path]]:
    if masks == "":
        return {}
    if masks is not None:
        found, named = _masks_in(pathlib.Path(masks)), True
    else:
        found = _masks_in(root / "masks") if os.path.isdir(root / "masks") else {}
        for folder in _sub_folders(root):
            if os.path.isdir(folder / "masks"):
                found.update(_masks_in(folder / "masks", f"{folder.name}/", deep=False))
        named = bool(found)
        beside = root.absolute().parent / "masks"
        if not found and os.path.isdir(beside) and root.name != "masks":
            found = _masks_in(beside)
        found = {id: files for id, files in _annotations(root).items() if id in images} | found
    if named and not found.keys() & images.keys():
        where = masks if masks is not None else root / "masks"
        raise DataError(f"{where}: no mask has the stem of an image of {root}; rename the masks, or leave masks empty")
    return found


def _selected(images: dict[str, list[pathlib.Path]], select: str | os.PathLike) -> dict[str, list[pathlib.Path]]:
    try:
        lines = pathlib.Path(select).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{select}: cannot be read ({why(error)}); give a text file, one id a line") from None
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise DataError(f"{select}: selects nothing; write one image id a line")
    by_stem = {}
    for id, files in images.items():
        for name in {id.split("/")[-1], *(file.name for file in files)}:
            by_stem.setdefault(name, []).append(id)
    wanted = [name if name in images else _only_id(name, by_stem.get(name, []), images, select) for name in names]
    return {id: images[id] for id in wanted}


def _only_id(name: str, ids: list[str], images: dict, select: str | os.PathLike) -> str:
    if len(ids) > 1:
        raise DataError(f"{select}: {name} fits {ids[0]} and {ids[1]}; write one of them")
    if not ids:
        close = difflib.get_close_matches(name, images, n=1)
        nearest = f" (nearest: {close[0]})" if close else ""
        raise DataError(f"{select}: {name} is no image's id{nearest}; correct or remove the line")
    return ids[0]


def _suffixes_found(root: pathlib.Path) -> str:
    suffixes = sorted({entry.suffix for entry in root.iterdir() if not entry.name.startswith(".") and entry.suffix})[:5]
    return f" (only {', '.join(suffixes)})" if suffixes else ""


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
