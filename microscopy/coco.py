"""COCO's annotation files, both ways, through pycocotools: one JSON for a set of images.

Masks are written as run lengths, which are exact. Polygons are read as pycocotools rasterises them: their coordinates are of pixel corners,
so that the square (0, 0), (2, 0), (2, 2), (0, 2) is 2 x 2 pixels. Source: T.-Y. Lin et al., ECCV 2014, doi 10.1007/978-3-319-10602-1_48,
and cocodataset.org/#format-data.
"""

import functools
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping

import numpy as np

from microscopy import atomic
from microscopy.formats import read_content
from microscopy.headers import check_size
from microscopy.labelme import Annotated, class_numbers, load_json
from microscopy.scan import DataError


def _library():
    """pycocotools.mask, which only those need who read or write COCO."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise DataError(f"COCO files need pycocotools, which cannot be imported ({error}); pip install pycocotools==2.0.11") from None
    return mask


MAX_PIXELS = 2**26
"""Of the bytes of a file, as `formats.read_content` counts them: 2 GiB of annotations."""


def is_coco(path: str | os.PathLike) -> bool:
    """Returns whether the path names a JSON file, which where masks are asked for is to be COCO's; Labelme's lie in folders."""
    return pathlib.Path(path).suffix.lower() == ".json" and os.path.isfile(os.path.expanduser(path))


def file_names(path: str | os.PathLike) -> list[str]:
    """Returns the file_name of every image of a COCO file, in its order; DataError, naming the file, where it is none."""
    try:
        content = load_json(read_content(path, max_pixels=MAX_PIXELS))
        return [image["file_name"] for image in _records(content, "images", ("id", "file_name", "height", "width"))]
    except DataError as error:
        raise DataError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def read_coco(path: str | os.PathLike, *, max_pixels: int) -> dict[str, Annotated]:
    """Returns file_name -> its instances, numbered in the file's order, for every image of a COCO instances file; later ones lie on top.

    Labels are the categories' names. Crowds (iscrowd) and instances that others cover wholly are in `passed_over`. No file_name is
    opened; one that leads out of the folder is refused. Raises DataError, in one line naming the file, for damaged JSON, unknown ids,
    run lengths that do not fill the image, polygons of less than 3 points, with NaN or far outside, and where pycocotools is missing.
    """
    return {name: paint() for name, paint in open_coco(path, max_pixels=max_pixels).items()}


def open_coco(path: str | os.PathLike, *, max_pixels: int) -> dict[str, Callable[[], Annotated]]:
    """Returns file_name -> paint() -> its instances, as `read_coco` has them, so that one image's map at a time is held.

    The errors of `read_coco`, those of a segmentation when it is painted.
    """
    library = _library()
    try:
        content = load_json(read_content(path, max_pixels=MAX_PIXELS))
        images = {image["id"]: image for image in _records(content, "images", ("id", "file_name", "height", "width"))}
        names = {category["id"]: category["name"] for category in _records(content, "categories", ("id", "name"))}
        annotations = {id: [] for id in images}
        for annotation in _records(content, "annotations", ("image_id", "category_id", "segmentation")):
            if annotation["image_id"] not in images or annotation["category_id"] not in names:
                raise DataError("an annotation names an image or a category that the file does not hold; export it again")
            annotations[annotation["image_id"]].append(annotation)
        found = {}
        for id, image in images.items():
            _check_image(image, found, max_pixels)
            found[image["file_name"]] = functools.partial(_painted, path, image, annotations[id], names, library)
        return found
    except DataError as error:
        raise DataError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def _painted(path: str | os.PathLike, image: dict, annotations: list[dict], names: Mapping[int, str], library) -> Annotated:
    try:
        return _annotated(image, annotations, names, library)
    except DataError as error:
        raise DataError(f"{path}: {image['file_name'][:80]}: {error}") from None


def _records(content, key: str, fields: tuple[str, ...]) -> list[dict]:
    """The list under `key`, each an object with the fields; ids are whole numbers, names are text."""
    records = content.get(key) if isinstance(content, dict) else None
    if not isinstance(records, list) or not all(isinstance(record, dict) and record.keys() >= set(fields) for record in records):
        raise DataError(f"is no COCO instances file ({key} with {', '.join(fields)}); export it again")
    for record in records:
        for field in fields:
            value = record[field]
            wanted = str if field in ("name", "file_name") else int
            sound = isinstance(value, wanted) and not isinstance(value, bool) and value != "" and (wanted is str or abs(value) < 2**53)
            if field != "segmentation" and not sound:
                raise DataError(f"{key}: {field} is {str(value)[:40]!r}, no {'text' if wanted is str else 'whole number'}; correct it")
    return records


def _check_image(image: dict, found: Mapping, max_pixels: int) -> None:
    name = image["file_name"]
    check_size(image["width"], image["height"], max_pixels)
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or ":" in parts[0]:
        raise DataError(f"file_name {name[:80]!r} leads out of the folder; put images and file together")
    if name in found:
        raise DataError(f"has two images with the file_name {name[:80]!r}; rename one")


def _annotated(image: dict, annotations: list[dict], names: Mapping[int, str], library) -> Annotated:
    size = (image["height"], image["width"])
    instances, labels, passed_over = np.zeros(size, np.int32), [], []
    for annotation in annotations:
        name = names[annotation["category_id"]]
        if annotation.get("iscrowd"):
            passed_over.append(f"{name}: a crowd, no single instance")
            continue
        runs = _runs(annotation["segmentation"], size, library)
        labels.append(name)
        instances[_decoded(runs, library)] = len(labels)
    seen = np.unique(instances[instances > 0])
    compact = np.zeros(len(labels) + 1, np.int32)
    compact[seen] = np.arange(1, len(seen) + 1)
    passed_over += [f"{name}: other instances cover it, or it lies outside" for n, name in enumerate(labels, 1) if n not in seen]
    return Annotated(compact[instances], tuple(labels[n - 1] for n in seen), image["file_name"], tuple(passed_over))


def _runs(segmentation, size: tuple[int, int], library) -> dict:
    """The run lengths of one instance as pycocotools has them, checked: its C code checks nothing."""
    if isinstance(segmentation, list):
        return library.merge(library.frPyObjects([_corners(polygon, size) for polygon in _some(segmentation)], *size))
    if not isinstance(segmentation, dict) or segmentation.get("size") != list(size):
        raise DataError(f"a segmentation is neither polygons nor runs of {size[1]} x {size[0]} px; export it again")
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        counts = _lengths(counts)
    whole = isinstance(counts, list) and all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts)
    if not whole or sum(counts) != size[0] * size[1]:
        raise DataError("the run lengths of a segmentation do not fill the image; export it again")
    return library.frPyObjects({"size": list(size), "counts": counts}, *size)


def _decoded(runs: dict, library) -> np.ndarray:
    with warnings.catch_warnings():  # pycocotools 2.0.11 hands arrays over in the way of NumPy 1
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy keyword", DeprecationWarning)
        return library.decode(runs) > 0


def _some(polygons: list) -> list:
    if not polygons:
        raise DataError("a segmentation is empty; delete the annotation")
    return polygons


def _corners(polygon, size: tuple[int, int]) -> list[float]:
    numbers = isinstance(polygon, list) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in polygon)
    if not numbers or len(polygon) < 6 or len(polygon) % 2:
        raise DataError("a polygon is no list of 3 points or more, x and y in turn; export it again")
    height, width = size
    if not all(-width <= x <= 2 * width for x in polygon[::2]) or not all(-height <= y <= 2 * height for y in polygon[1::2]):
        raise DataError(f"a polygon lies far outside the image of {width} x {height} px; correct it")
    points = np.array(polygon, np.float64).reshape(-1, 2)
    # pycocotools takes memory for every step along the outline.
    if abs(np.diff(points, axis=0)).max(1).sum() > 2 * height * width + 1000:
        raise DataError("a polygon's outline is longer than twice the image's pixels; draw it anew")
    return points.ravel().tolist()


def _lengths(text: str) -> list[int]:
    """Run lengths of COCO's compressed text: 5 bits a character from "0" on, least first, the sixth says that more follow; from the
    fourth run on they are differences to the run before the last. Source: rleFrString in cocoapi's maskApi.c.
    """
    counts, value, shift = [], 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 30:
            raise DataError("the run lengths of a segmentation are damaged; export it again")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise DataError("the run lengths of a segmentation are truncated; export it again")
    return counts


def write_coco(path: str | os.PathLike, images: Mapping[str, Annotated]) -> pathlib.Path:
    """Returns `path` after the images' instances (file_name -> Annotated) stand there as a COCO instances file, run lengths exact.

    Categories are numbered from 1 in alphabetical order of the labels, images and annotations from 1 in the given order; areas in
    px, boxes as (x, y, width, height). DataError where pycocotools is missing or an instance has no label.
    """
    library = _library()
    categories = class_numbers(label for annotated in images.values() for label in annotated.labels)
    records, annotations = [], []
    for image_id, (name, annotated) in enumerate(images.items(), start=1):
        height, width = annotated.instances.shape
        records.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for number in np.unique(annotated.instances[annotated.instances > 0]).tolist():
            if number > len(annotated.labels):
                raise DataError(f"{path}: instance {number} of {name} has no label; give it one")
            runs = library.encode(np.asfortranarray(annotated.instances == number, np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": categories[annotated.labels[number - 1]],
                    "segmentation": {"size": [height, width], "counts": runs["counts"].decode("ascii")},
                    "area": int(library.area(runs)),
                    "bbox": library.toBbox(runs).tolist(),
                    "iscrowd": 0,
                }
            )
    classes = [{"id": number, "name": label, "supercategory": ""} for label, number in categories.items()]
    return atomic.write_json(path, {"images": records, "annotations": annotations, "categories": classes})
