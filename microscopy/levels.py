"""Folders in folders, such as PATH/patient/study/images: each level has a name, and one says what is never split, one the class."""

import logging
import os
import pathlib
import re
from collections.abc import Iterator

from microscopy import coco
from microscopy.listing import (
    Files,
    annotations,
    coco_files,
    existing_folder,
    image_root,
    images_in,
    list_files,
    masks_in,
    no_image,
    sub_folders,
)
from microscopy.scan import DataError, FieldError

GROUPS = ("patient", "sample", "group")
CLASS = "class"
_MOST = 6


def parse(text: str) -> tuple[str, ...]:
    """Returns the names of the levels, outermost first, of `config.data.levels`: "patient/study", "class/patient"; () for "".

    FieldError unless they are at most six different words of small letters, one of them `patient`, `sample`, `group` or `class`.
    """
    if not text:
        return ()
    names = tuple(text.split("/"))
    if len(names) > _MOST or len(set(names)) < len(names) or not all(re.fullmatch("[a-z]+", name) for name in names):
        raise FieldError(f"config.data.levels={text!r}: write up to {_MOST} different words, outermost first, such as patient/study.")
    if not {*GROUPS, CLASS} & set(names):
        raise FieldError(f"config.data.levels={text!r}: call one patient, sample or group, or class.")
    return names


def meaning(id: str, names: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Returns (class, group) of an id "a/b/stem" whose folders are of these levels: the group is the first of `GROUPS` that is one."""
    parts = dict(zip(names, id.split("/"), strict=False))
    return parts.get(CLASS), next((parts[name] for name in GROUPS if name in parts), None)


def class_of(id: str, names: tuple[str, ...]) -> str | None:
    """Returns the class that the folders of an id tell: its level's where they have all levels, else the first folder; None without one."""
    folders = id.split("/")[:-1]
    if CLASS in names and len(folders) >= len(names):
        return meaning(id, names)[0]
    return folders[0] if folders else None


def fitting(path: str | os.PathLike, text: str) -> str:
    """Returns the levels `text` (`parse`) where they are several and a folder's images lie so deep, "" where they do not."""
    names = parse(text)
    if len(names) < 2:
        return ""
    try:
        return text if any(any(images_in(folder)) for _, folder in leaves(image_root(existing_folder(path)), names)) else ""
    except DataError:  # an image lies above the last level: `listed` tells what cannot be read
        return ""


def listed(path: str | os.PathLike, names: tuple[str, ...]) -> tuple[pathlib.Path, Files]:
    """Returns (folder, id -> files) of a folder's images, below these levels where there are any; DataError where there is none.

    So is, by name, a class's folder without an image; another, of which so no patient is made, is told in the log.
    """
    root = image_root(existing_folder(path))
    found = list_levels(root, names) if names else list_files(root)
    if not found:
        raise no_image(root)
    depth = names.index(CLASS) if CLASS in names else -1 if names else 0
    classes = {parts[depth] for parts in (id.split("/") for id in found) if 0 <= depth < len(parts) - 1}
    empty = [folder for folder in folders_at(root, depth) if folder.name not in classes]
    if empty and all("/" in id for id in found):  # beside images that lie in the folder itself it is no class's
        raise DataError(f"{empty[0]}: is the folder of a class and holds no image; add some, or remove it")
    for folder in [folder for _, folder in leaves(root, names) if not any(images_in(folder))] if names else empty:
        logging.getLogger(__name__).warning("%s: holds no image and is passed over", folder)
    return root, found


def folders_at(root: pathlib.Path, depth: int) -> list[pathlib.Path]:
    """Returns the folders that may hold scans `depth` levels below those in `root` (0: these); none for a depth below 0."""
    found = sub_folders(root) if depth >= 0 else []
    for _ in range(depth):
        found = [below for folder in found for below in sub_folders(folder)]
    return found


def leaves(root: pathlib.Path, names: tuple[str, ...], prefix: str = "") -> Iterator[tuple[str, pathlib.Path]]:
    """Yields (prefix of ids, folder of images) of the folders below all levels; a folder's `images` stands for it where it holds no image.

    DataError, naming it, for an image above the last level.
    """
    if not names:
        yield prefix, image_root(root)
        return
    for file in images_in(root):
        raise DataError(f"{file}: lies beside the folders of the level {names[0]}; move it into one, or change config.data.levels")
    for folder in sub_folders(root):
        yield from leaves(folder, names[1:], f"{prefix}{folder.name}/")


def list_levels(root: pathlib.Path, names: tuple[str, ...]) -> Files:
    """Returns id "a/b/stem" -> files of the images below the levels; DataError where there is none, or one above."""
    found = {}
    for prefix, folder in leaves(root, names):
        found.update(list_files(folder, prefix, deep=False))
    if not found:
        error = no_image(root)
        raise DataError(f"{str(error).partition(';')[0]} below folders {'/'.join(names)}; check config.data.levels")
    return found


def level_masks(root: pathlib.Path, names: tuple[str, ...], masks: str | os.PathLike | None, images: Files) -> Files:
    """Returns id -> mask files: those of the folders `masks` inside or beside each folder of images, else Labelme's beside the images.

    `masks` names another folder with the same levels, or a COCO file; "" none is read. DataError where it has none.
    """
    if masks == "":
        return {}
    found, folders = {}, leaves(root, names)
    if masks is not None and coco.is_coco(masks):
        found, folders = coco_files(masks, images), ()
    for prefix, folder in folders:
        if masks is None:
            found |= {id: files for id, files in annotations(folder, prefix, deep=False).items() if id in images}
        places = (folder.parent / "masks", folder / "masks") if masks is None else (pathlib.Path(masks) / prefix,)
        for place in places[folder.name not in ("images", "image") and masks is None :]:
            found |= masks_in(place, prefix, deep=False) if os.path.isdir(place) else {}
    if masks is not None and not found.keys() & images.keys():
        raise DataError(f"{masks}: no mask has the stem of an image of {root}; give a folder of the levels {'/'.join(names)}")
    return found
