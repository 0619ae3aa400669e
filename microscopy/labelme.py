"""Labelme's JSON files, both ways: outlines drawn by hand become instance maps, instance maps become outlines to correct.

Coordinates are pixel indices, (x, y), and an outline belongs to what it encloses, as Labelme itself draws shapes. Shapes are painted in
the file's order, later ones over earlier ones; one labelled `_background_` cuts a hole. Source: Labelme 5, `utils/shape.py` and
`label_file.py` (github.com/wkentaro/labelme).
"""

import base64
import binascii
import dataclasses
import json
import math
import os
import pathlib

import cv2
import numpy as np
import scipy.ndimage
import skimage.measure

from microscopy import atomic
from microscopy.formats import decode_image, read_content
from microscopy.headers import check_size
from microscopy.pictures import encode_png
from microscopy.scan import DataError

BACKGROUND, IGNORE = "_background_", "__ignore__"
AREAS = ("polygon", "oriented_rectangle", "rectangle", "circle", "mask")
NO_AREAS = ("point", "points", "line", "linestrip")
_NUM_POINTS = {"rectangle": 2, "circle": 2, "mask": 2, "oriented_rectangle": 4}


@dataclasses.dataclass(frozen=True)
class Annotated:
    """The instances of one image: `instances` int32 (h, w), 0 = background, n the pixels of the one named `labels[n - 1]`.

    `image` is the image's path as stored, never opened here; `passed_over` says in words which shapes left no pixel in the map.
    """

    instances: np.ndarray
    labels: tuple[str, ...]
    image: str = ""
    passed_over: tuple[str, ...] = ()


def class_numbers(labels) -> dict[str, int]:
    """Returns label -> class number, 1.. in alphabetical order, of the labels (any iterable of text) of all images together."""
    return {label: number for number, label in enumerate(sorted(set(labels)), start=1)}


def class_map(annotated: Annotated, numbers: dict[str, int]) -> np.ndarray:
    """Returns the class of every pixel, int32 (h, w), 0 = background. Raises DataError for a label that `numbers` does not hold."""
    unknown = sorted(set(annotated.labels) - numbers.keys())
    if unknown:
        raise DataError(f"{annotated.image}: label {unknown[0]!r} is none of {', '.join(numbers)}; correct the label or add the class")
    return np.array([0, *(numbers[label] for label in annotated.labels)], np.int32)[annotated.instances]


def is_labelme(path: str | os.PathLike) -> bool:
    """Returns whether the file's name ends in .json and its text names `shapes`, as all of Labelme's do; other JSON is not meant for us."""
    path = pathlib.Path(path)
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        return b'"shapes"' in path.read_bytes()
    except OSError:
        return True  # reading it will say why it cannot be read


def read_labelme(
    path: str | os.PathLike,
    *,
    max_pixels: int,
    shape: tuple[int, int] | None = None,
    cut: tuple[int, int] | None = None,
    image: str | os.PathLike | None = None,
) -> Annotated:
    """Returns the instances of a Labelme file, numbered in the order in which they first appear.

    Polygons, (oriented) rectangles, circles and masks are painted, vertices at the nearest pixel (at .5 the lower) and parts outside the
    image cut off; shapes of one label and one group_id are one instance. Points and lines, and shapes that others cover wholly, are in
    `passed_over`. `imageData` is not looked at.

    `shape` (h, w): of the image, which imageHeight and imageWidth must equal, or `cut`, that of its measured lines. `image`: the file that
    the shapes belong to; imagePath may name it wherever it lies, anything else only inside the file's own folder, links followed. Raises
    DataError, in one line naming the file, for that, for damaged JSON and for shapes that cannot be: wrong types, NaN, vertices further
    outside than the image is large.
    """
    path = pathlib.Path(path)
    try:
        content = load_json(read_content(path, max_pixels=max_pixels))
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise DataError("is no Labelme file (no list of shapes)")
        size = _size(content, shape, cut, max_pixels)
        place = content.get("imagePath") or ""
        _check_place(place, path, image)
        return dataclasses.replace(_painted(content["shapes"], size, max_pixels), image=place)
    except DataError as error:
        raise DataError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def image_file(path: str | os.PathLike, annotated: Annotated) -> pathlib.Path:
    """Returns the image that a Labelme file at `path` names, inside that file's folder; DataError where it is missing or lies elsewhere."""
    path = pathlib.Path(path)
    try:
        _check_place(annotated.image, path, None)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    file = path.parent / annotated.image.replace("\\", "/")
    if not annotated.image or not file.is_file():
        raise DataError(f"{path}: its image {annotated.image!r} does not exist; copy it into the same folder")
    return file


def load_json(content: bytes):
    """Returns the value of JSON text; raises DataError, without a file name, where it is none, holds NaN or is nested too deeply."""
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_no_number)
    except RecursionError:
        raise DataError("is nested too deeply for an annotation file; export it again") from None
    except ValueError as error:
        raise DataError(f"is damaged JSON ({str(error)[:80]}); export it again") from None


def _no_number(text: str):
    raise ValueError(f"{text} is no number")


def _size(content: dict, shape: tuple[int, int] | None, cut: tuple[int, int] | None, max_pixels: int) -> tuple[int, int]:
    stated = content.get("imageHeight"), content.get("imageWidth")
    if stated == (None, None) and shape is not None:
        return shape
    if not all(isinstance(side, int) and not isinstance(side, bool) and 0 < side < 2**31 for side in stated):
        raise DataError("imageHeight and imageWidth are no numbers of pixels; save it again with Labelme")
    check_size(stated[1], stated[0], max_pixels)
    if shape is not None and stated not in (tuple(shape), cut):
        raise DataError(
            f"annotates {stated[1]} x {stated[0]} px, its image has {shape[1]} x {shape[0]}; annotate the image that you train on"
        )
    return stated


def _check_place(place, path: pathlib.Path, image: str | os.PathLike | None) -> None:
    if not isinstance(place, str) or "\0" in place:
        raise DataError("imagePath is no path; save it again with Labelme")
    slashed = place.replace("\\", "/")
    folder = path.parent.resolve()
    try:
        target = (folder / slashed).resolve()
    except (OSError, RuntimeError, ValueError):
        raise DataError("imagePath cannot be followed; write the image's name alone") from None
    if image is not None and target == pathlib.Path(image).resolve():
        return
    absolute = slashed.startswith("/") or slashed[1:2] == ":"
    if absolute or not target.is_relative_to(folder):
        raise DataError(f"imagePath {place[:80]!r} lies outside its folder; put image and file together and write the name alone")


def _painted(shapes: list, size: tuple[int, int], max_pixels: int) -> Annotated:
    instances, numbers, passed_over = np.zeros(size, np.int32), {}, []
    for index, shape in enumerate(shapes):
        try:
            label, kind, group = _checked(shape)
            if kind in NO_AREAS:
                passed_over.append(f"shape {index} ({label}): a {kind} has no area")
                continue
            points = _points(shape.get("points"), kind, size)
            key = (label, index if group is None else f"group {group}")
            number = 0 if label == BACKGROUND else numbers.setdefault(key, len(numbers) + 1)
            _paint(instances, number, kind, points, shape, max_pixels)
        except DataError as error:
            raise DataError(f"shape {index}: {error}") from None
    seen = np.unique(instances[instances > 0])
    labels = [label for label, _ in numbers]
    passed_over += [f"{label}: other shapes cover it, or it lies outside" for n, label in enumerate(labels, 1) if n not in seen]
    compact = np.zeros(len(labels) + 1, np.int32)
    compact[seen] = np.arange(1, len(seen) + 1)
    return Annotated(compact[instances], tuple(labels[n - 1] for n in seen), "", tuple(passed_over))


def _checked(shape) -> tuple[str, str, int | None]:
    """(label, shape_type, group_id) of a shape that has them."""
    if not isinstance(shape, dict):
        raise DataError("is no shape; export it again")
    label, kind, group = shape.get("label"), shape.get("shape_type") or "polygon", shape.get("group_id")
    if not isinstance(label, str) or not label:
        raise DataError("has no label; give it one in Labelme")
    if label == IGNORE:
        raise DataError(f"{IGNORE} marks pixels to be left out, which an instance map cannot say; delete the shape")
    if kind not in (*AREAS, *NO_AREAS):
        raise DataError(f"is a {str(kind)[:40]!r}; draw one of {', '.join(AREAS)}")
    if group is not None and (not isinstance(group, int) or isinstance(group, bool)):
        raise DataError("its group_id is no whole number; correct it")
    return label, kind, group


def _points(points, kind: str, size: tuple[int, int]) -> np.ndarray:
    """Vertices (n, 2) float64 as (x, y)."""
    pairs = isinstance(points, list) and all(isinstance(point, list) and len(point) == 2 for point in points)
    if not pairs or not all(isinstance(value, int | float) and not isinstance(value, bool) for point in points for value in point):
        raise DataError("its points are no list of pairs of numbers; export it again")
    wanted = _NUM_POINTS.get(kind)
    if len(points) != wanted if wanted else len(points) < 3:
        raise DataError(f"a {kind} of {len(points)} points; it needs {wanted or '3 or more'}")
    height, width = size
    # Compared as Python's numbers: a whole number of a thousand digits would not fit into an array.
    if not all(-width <= x <= 2 * width and -height <= y <= 2 * height for x, y in points):
        raise DataError(f"a vertex lies far outside the image of {width} x {height} px; correct it")
    return np.array(points, np.float64)


def _paint(instances: np.ndarray, number: int, kind: str, points: np.ndarray, shape: dict, max_pixels: int) -> None:
    if kind == "circle":
        radius = math.dist(points[0], points[1])
        low, high = points[0] - radius, points[0] + radius
    else:
        low, high = points.min(0), points.max(0)
    left, top = np.clip(_nearest(low), 0, instances.shape[::-1])
    right, bottom = np.clip(_nearest(high) + 1, 0, instances.shape[::-1])
    if kind == "mask":
        (first_x, first_y), last = _nearest(low), _nearest(high)
        covered = _bitmap(shape.get("mask"), last - (first_x, first_y) + 1, max_pixels)
        covered = covered[top - first_y : bottom - first_y, left - first_x : right - first_x]
    elif kind == "rectangle":
        covered = np.True_
    elif kind == "circle":
        y, x = np.ogrid[top:bottom, left:right]
        covered = (x - points[0, 0]) ** 2 + (y - points[0, 1]) ** 2 <= radius**2
    elif right > left and bottom > top:
        canvas = np.zeros((bottom - top, right - left), np.uint8)
        covered = cv2.fillPoly(canvas, [(_nearest(points) - (left, top)).astype(np.int32)], 1) > 0
    else:
        return
    region = instances[top:bottom, left:right]
    region[np.broadcast_to(covered, region.shape)] = number


def _nearest(points: np.ndarray) -> np.ndarray:
    """The nearest pixels; from the middle between two the lower one, everywhere, so that a shape moved by a pixel covers as many."""
    return np.ceil(points - 0.5).astype(int)


def _bitmap(text, size: np.ndarray, max_pixels: int) -> np.ndarray:
    """The bool mask (h, w) of a shape whose box has `size` (w, h)."""
    if not isinstance(text, str):
        raise DataError("has no mask; export it again")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError("its mask is no base64 text; export it again") from None
    bitmap = decode_image(content, "its mask", max_pixels=max_pixels)
    if bitmap.ndim != 2 or bitmap.shape != tuple(size[::-1]):
        raise DataError(f"its mask has {bitmap.shape[1]} x {bitmap.shape[0]} px, its box {size[0]} x {size[1]}; export it again")
    return bitmap > 0


def write_labelme(
    path: str | os.PathLike, instances: np.ndarray, *, labels: str | dict[int, str], image: str, kind: str = "polygon"
) -> pathlib.Path:
    """Returns `path` after the instance map (integers (h, w), 0 = background) stands there as a Labelme file.

    `labels`: one name for all, or id -> name. `image`: the image's name, stored as imagePath. `kind` "polygon": an outline for each
    region connected over edges, the regions of one instance under one group_id, holes as `_background_`, larger boxes first;
    "mask": each instance as a bitmap. Read again, both give the same map (ids renumbered 1.. by order): without loss, because outlines
    run through border pixels and what lies inside another region is painted after it. DataError for a map or name that cannot be written.
    """
    instances = np.asarray(instances)
    if instances.ndim != 2 or not instances.size or instances.dtype.kind not in "iu" or instances.min() < 0:
        raise DataError(f"{path}: an instance map is whole numbers from 0 on, (h, w), not {instances.dtype} {instances.shape}")
    if kind not in ("polygon", "mask"):
        raise DataError(f"{path}: kind {kind!r}; write polygon or mask")
    ids = np.unique(instances[instances > 0]).tolist()
    names = dict.fromkeys(ids, labels) if isinstance(labels, str) else labels
    for id in ids:
        if not names.get(id) or names[id] in (BACKGROUND, IGNORE):
            raise DataError(f"{path}: instance {id} has the label {names.get(id)!r}; give it a name of your own")
    shapes = _outlines(instances, names) if kind == "polygon" else _bitmaps(instances, names)
    size = {"imageHeight": instances.shape[0], "imageWidth": instances.shape[1]}
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image, "imageData": None, **size}
    return atomic.write_json(path, content)


def _shape(label: str, points: list, kind: str, group: int | None) -> dict:
    return {"label": label, "points": points, "group_id": group, "description": "", "shape_type": kind, "flags": {}, "mask": None}


def _outlines(instances: np.ndarray, names: dict[int, str]) -> list[dict]:
    """A polygon for each region connected over edges, enclosed background included; a box holds only smaller boxes inside it."""
    _, ids = np.unique(instances, return_inverse=True)
    regions = skimage.measure.label(ids.reshape(instances.shape) + 1, connectivity=1)
    found = []
    for number, box in enumerate(scipy.ndimage.find_objects(regions), start=1):
        mask = (regions[box] == number).astype(np.uint8)
        top, left = box[0].start, box[1].start
        height, width = mask.shape
        id = int(instances[box][mask > 0][0])
        cut = top == 0 or left == 0 or box[0].stop == instances.shape[0] or box[1].stop == instances.shape[1]
        if id == 0 and cut:
            continue  # background that reaches the border is enclosed by nothing
        (outline,), _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
        points = outline[:, 0].astype(float).tolist()
        points += points[-1:] * (3 - len(points))  # Labelme wants three vertices, of one pixel too
        found.append((-height * width, _shape(BACKGROUND if id == 0 else names[id], points, "polygon", id or None)))
    return [shape for _, shape in sorted(found, key=lambda pair: pair[0])]


def _bitmaps(instances: np.ndarray, names: dict[int, str]) -> list[dict]:
    shapes = []
    _, numbers = np.unique(np.append(instances.ravel(), 0), return_inverse=True)
    numbers = numbers[:-1].reshape(instances.shape)
    for number, box in enumerate(scipy.ndimage.find_objects(numbers), start=1):
        mask = (numbers[box] == number).astype(np.uint8)
        corners = [[float(box[1].start), float(box[0].start)], [float(box[1].stop - 1), float(box[0].stop - 1)]]
        id = int(instances[box][mask > 0][0])
        shape = _shape(names[id], corners, "mask", id)
        shapes.append({**shape, "mask": base64.b64encode(encode_png(mask)).decode("ascii")})
    return shapes
