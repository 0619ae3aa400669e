"""Which files of a folder are scans and which their masks: ids, classes and other levels of folders."""

import contextlib
import difflib
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator

from microscopy import coco
from microscopy.formats import why
from microscopy.labelme import is_labelme
from microscopy.native import is_native, is_scan_file
from microscopy.scan import DataError

MOST_DEEP = 8
"""Levels of folders that are looked through: one that holds a link to itself has no end."""

_MOST_FOLDERS = 1_000

Files = dict[str, list[pathlib.Path]]


def list_scans(path: str | os.PathLike, *, any_depth: bool = False) -> dict[str, pathlib.Path]:
    """Returns id -> file, sorted: the file itself, or the images that `read_folder` would find in the folder.

    With `any_depth`, where it would find none, those in folders in folders. The id is the stem ("label/stem" in a sub-folder); files of
    one stem have their whole names. DataError where there is neither a file nor a folder, no image in the folder, or two files would have
    one id.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_file():
        return {path.stem: path}
    root = image_root(existing_folder(path, "file or folder"))
    found = list_files(root)
    for prefix, folder in folders_below(root) if any_depth and not found else ():
        found.update(list_files(folder, prefix, deep=False))
    return first_files(root, found)


def folders_below(root: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """Yields (prefix of ids, folder) of the folders in a folder that may hold scans, and of those in them, the upper ones first."""
    waiting = [("", root)]
    for _ in range(MOST_DEEP):
        waiting = [(f"{prefix}{below.name}/", below) for prefix, folder in waiting for below in sub_folders(folder)]
        yield from waiting


def first_files(root: pathlib.Path, listed: Files) -> dict[str, pathlib.Path]:
    """Returns id -> file, sorted, of listed files, those of one stem with their whole names as ids; the errors of `list_scans`."""
    pairs = []
    for id, files in listed.items():
        pairs += [(id, files[0])] if len(files) == 1 else [(f"{id}{file.suffix}", file) for file in files]
    found = dict(sorted(pairs))
    if not found:
        raise no_image(root)
    for id, file in pairs:
        if found[id] != file:
            raise DataError(f"{file}: would have the same name as {found[id].name}; rename one")
    return found


def list_masks(path: str | os.PathLike, masks: str | os.PathLike | None = None) -> dict[str, pathlib.Path]:
    """Returns id -> mask file of a folder's images, where `read_folder` looks for them; of several of one stem the first. Its errors."""
    root = image_root(existing_folder(path))
    return {id: files[0] for id, files in mask_files(root, masks, list_files(root)).items()}


def no_image(root: pathlib.Path) -> DataError:
    """Returns the error of a folder without images, with the first folder that holds some deeper down, else the suffixes that it holds."""
    deeper = None
    with contextlib.suppress(OSError):  # of a folder that may not be read
        deeper = next((folder for _, folder in itertools.islice(folders_below(root), _MOST_FOLDERS) if any(images_in(folder))), None)
    if deeper:
        return DataError(
            f"{root}: holds no image; images lie deeper, in {deeper}: give that folder, or name its levels (config.data.levels)"
        )
    suffixes = sorted({entry.suffix for entry in root.iterdir() if not entry.name.startswith(".") and entry.suffix})[:5]
    only = f" (only {', '.join(suffixes)})" if suffixes else ""
    return DataError(f"{root}: holds no image{only}; give a folder of PNG, JPEG, TIFF, NPY or scanning-probe files")


def existing_folder(path: str | os.PathLike, wanted: str = "folder") -> pathlib.Path:
    """Returns the path, ~ expanded, where it is a folder that may be listed.

    Raises DataError otherwise: for a missing one, called `wanted`, with the nearest name that exists beside it.
    """
    folder = pathlib.Path(path).expanduser()
    try:
        with os.scandir(folder):
            if not os.access(folder, os.R_OK | os.X_OK):
                raise PermissionError("permission denied")
    except FileNotFoundError:
        raise DataError(f"{folder}: no such {wanted}{_nearest(folder, wanted)}; check the path") from None
    except (OSError, ValueError) as error:
        reason = "is a file" if os.path.isfile(folder) else f"cannot be listed ({why(error)})"
        raise DataError(f"{folder}: {reason}; give a folder of images that you may read") from None
    return folder


def _nearest(path: pathlib.Path, wanted: str) -> str:
    while not os.path.isdir(path.parent) and path.parent != path:
        path = path.parent
    try:
        names = [entry.name for entry in os.scandir(path.parent) if entry.is_dir() or wanted != "folder"]
    except OSError:
        names = []
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean {path.parent / close[0]}?)" if close else ""


def image_root(folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder that holds the scans of `folder`: its `images` or `image` where it has no image itself, else itself."""
    for name in ("images", "image"):
        if os.path.isdir(folder / name) and not any(images_in(folder)):
            return existing_folder(folder / name)
    return folder


def images_in(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the files of a folder that are images by their suffix or content, hidden ones left out."""
    for file in folder.iterdir():
        if is_scan_file(file) and not file.name.startswith(".") and not os.path.isdir(file):
            yield file


def sub_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders that may hold scans, sorted: not hidden, not called masks, not written by this program."""
    if os.path.isfile(folder / "generation.json") and any(images_in(folder)):  # beside generated images lie their labels
        return []
    entries = (entry for entry in folder.iterdir() if os.path.isdir(entry) and not entry.name.startswith(".") and entry.name != "masks")
    return sorted(entry for entry in entries if not _is_output(entry))


def _is_output(folder: pathlib.Path) -> bool:
    names = ("lineage.json", "metrics.jsonl", "generation.json", "prediction.json", "crops.json", "inspect.json")
    run = os.path.isfile(folder / "config.json") and os.path.isdir(folder / "samples")
    return run or any(os.path.isfile(folder / name) for name in names)


def list_files(root: pathlib.Path, prefix: str = "", *, deep: bool = True) -> Files:
    """Returns id -> files of a folder and, `deep`, of those one level down; more than one file where stems collide."""
    found = {}
    for file in sorted(images_in(existing_folder(root))):
        found.setdefault(prefix + file.stem, []).append(file)
    for id, files in list(found.items()):
        if len(files) > 1 and all(is_native(file) for file in files):
            found |= {prefix + file.name: [file] for file in found.pop(id)}
    for folder in sub_folders(root) if deep else ():
        found.update(list_files(folder, f"{folder.name}/", deep=False))
    return found


def annotations(root: pathlib.Path, prefix: str = "", *, deep: bool = True) -> Files:
    """Returns id -> Labelme files of a folder and, `deep`, of those one level down."""
    found = {prefix + file.stem: [file] for file in sorted(root.iterdir()) if not file.name.startswith(".") and is_labelme(file)}
    for folder in sub_folders(root) if deep else ():
        found.update(annotations(folder, f"{folder.name}/", deep=False))
    return found


def masks_in(folder: pathlib.Path, prefix: str = "", *, deep: bool = True) -> Files:
    """Returns id -> files that may be masks: images and Labelme's files, listed as by `list_files`."""
    found = list_files(folder, prefix, deep=deep)
    for id, files in annotations(folder, prefix, deep=deep).items():
        found.setdefault(id, []).extend(files)
    return found


def coco_files(path: str | os.PathLike, images: Files) -> Files:
    """Returns id -> [the COCO file] of the images that it lists, by `coco_names`; one it lists that is not there has its name as id."""
    path = pathlib.Path(path).expanduser()
    return {id: [path] for id in coco_names(path, coco.file_names(path), images)}


def coco_names(path: pathlib.Path, names: Iterable[str], images: Files) -> dict[str, str]:
    """Returns id -> the file_name of a COCO file that stands for it: that of its folders and stem, or else that of its stem.

    A name of no image has itself, without suffix, as id. DataError, naming the file, for names that fit two images, or two that fit one.
    """
    by_stem, found = {}, {}
    for id, files in images.items():
        by_stem.setdefault(files[0].stem, []).append(id)
    exact = {name: _with_folders(name, by_stem, images) for name in names}
    sure = {id for ids in exact.values() for id in ids}
    for name, ids in exact.items():
        place = pathlib.PurePosixPath(name.replace("\\", "/"))
        ids = ids or [id for id in by_stem.get(place.stem, []) if id not in sure] or [str(place.parent / place.stem)]
        if len(ids) > 1:
            raise DataError(f"{path}: file_name {name[:80]!r} fits {ids[0]} and {ids[1]}; write its folder before it")
        if ids[0] in found:
            raise DataError(f"{path}: {found[ids[0]][:80]!r} and {name[:80]!r} have the same stem; write their folders, or remove one")
        found[ids[0]] = name
    return found


def _with_folders(name: str, by_stem: dict[str, list[str]], images: Files) -> list[str]:
    """The ids of the images whose path ends with the name, folders included, whatever the suffixes; a name without folder is none's."""
    place = pathlib.PurePosixPath(name.replace("\\", "/"))
    parts = (*place.parent.parts, place.stem)
    ids = by_stem.get(place.stem, []) if len(parts) > 1 else []
    paths = {id: (*images[id][0].absolute().parent.parts, place.stem) for id in ids}
    return [id for id, path in paths.items() if tuple(id.split("/")) == parts or path[-len(parts) :] == parts]


def mask_files(root: pathlib.Path, masks: str | os.PathLike | None, images: Files) -> Files:
    """Returns id -> mask files of the images of `root`, looked for as `folder.read_folder` says; DataError where `masks` has none.

    Of a COCO file `masks` it is that one for each.
    """
    if masks == "":
        return {}
    if masks is not None:
        found, named = coco_files(masks, images) if coco.is_coco(masks) else masks_in(pathlib.Path(masks)), True
    else:
        found = masks_in(root / "masks") if os.path.isdir(root / "masks") else {}
        for folder in sub_folders(root):
            if os.path.isdir(folder / "masks"):
                found.update(masks_in(folder / "masks", f"{folder.name}/", deep=False))
        named = bool(found)
        beside = root.absolute().parent / "masks"
        if not found and os.path.isdir(beside) and root.name != "masks":
            found = masks_in(beside)
        found = {id: files for id, files in annotations(root).items() if id in images} | found
    if named and not found.keys() & images.keys():
        where = masks if masks is not None else root / "masks"
        raise DataError(f"{where}: no mask has the stem of an image of {root}; rename the masks, or leave masks empty")
    return found


def selected(images: Files, select: str | os.PathLike) -> Files:
    """Returns the images that the text file `select` names, by id, stem or file name; DataError for a line that fits none or two."""
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
