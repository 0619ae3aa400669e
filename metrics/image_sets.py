"""What scores compare: a folder, a TIFF stack or an array as a set of images, a table as features; two folders as pairs of equal stem."""

import hashlib
import pathlib
from typing import NamedTuple

import numpy as np

from metrics.array_files import as_images, read_array
from metrics.statistics import checked
from microscopy import folder
from microscopy.formats import read_image
from microscopy.scan import DataError, Scan
from microscopy.tiff_stack import read_stack

MAX_PIXELS = 100_000_000
MAX_STACK_PIXELS = 2_000_000_000
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")


class ImageSet(NamedTuple):
    """What a place holds: `scans` of images, or `features` (n, d), the other empty."""

    place: str
    scans: list[Scan]
    features: np.ndarray | None

    def __len__(self) -> int:
        """Returns the number of images, or of rows of features."""
        return len(self.scans) if self.features is None else len(self.features)


def read(place: str, layer: str = "2048") -> ImageSet:
    """Returns the images of a folder (native scans included), of a TIFF file's pages or of an array; or a table of features.

    A .npy file or an array of a .npz file (`array_files.read_array`: `images`, else `layer` or `f` + `layer`, else the only one)
    is features where it has two dimensions, images where it has three or four. Raises DataError naming what cannot be used.
    """
    path = pathlib.Path(place).expanduser()
    kind = path.suffix.lower() if path.is_file() else ""
    if kind in (".tif", ".tiff"):
        pages = read_stack(path, max_pixels=MAX_PIXELS, max_total=MAX_STACK_PIXELS)
        return ImageSet(place, [_scan(path, i, page.pixels, page.unit, page.nm_per_pixel) for i, page in enumerate(pages, 1)], None)
    if kind in (".npy", ".npz"):
        array = read_array(path, layer)
        if array.ndim == 2:
            return ImageSet(place, [], checked(array, f"{place}, features"))
        try:
            return ImageSet(place, [_scan(path, i, image, "grey", None) for i, image in enumerate(as_images(array), 1)], None)
        except DataError as error:
            raise DataError(f"{place}: {error}.") from None
    if kind:
        raise DataError(f"{place}: is a {kind} file; give a folder of images, a TIFF stack, or .npy or .npz arrays.")
    scans, _ = folder.read_folder(place, max_pixels=MAX_PIXELS, masks="")
    return ImageSet(place, scans, None)


def _scan(path: pathlib.Path, number: int, pixels: np.ndarray, unit: str, nm_per_pixel) -> Scan:
    digest = hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()
    return Scan(f"{path.stem}/{number}", pixels, digest, f"{path}, image {number}", unit=unit or "grey", nm_per_pixel=nm_per_pixel)


def names(places: list[str]) -> list[str]:
    """Returns a short name a place: the last part that tells it from the others, else the place itself."""
    short = [pathlib.Path(place).name or place for place in places]
    return short if len(set(short)) == len(short) else list(places)


def check_alike(sets: list[ImageSet]) -> None:
    """Raises DataError, naming a file of each kind, where the sets mix units, or grey levels of different stored types."""
    first: dict[tuple, Scan] = {}
    for scan in (scan for each in sets for scan in each.scans):
        first.setdefault((scan.unit, str(scan.pixels.dtype) if scan.unit == "grey" else ""), scan)
    if len(first) > 1:
        one, other = list(first.items())[:2]
        words = [" ".join(filter(None, (kind, f"({dtype})" * bool(dtype)))) for kind, dtype in (one[0], other[0])]
        raise DataError(f"{one[1].file} holds {words[0]}, {other[1].file} {words[1]}: store all sets in one way.")


def read_pairs(truth: str, other: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Returns (stem, true image, other image) for every image of the first folder, pixels as stored.

    Raises DataError where a folder has no partner for an image of the other, or two images of a pair differ in size.
    """
    files = [_stems(folder.existing_folder(place)) for place in (truth, other)]
    lonely = sorted(files[0].keys() ^ files[1].keys())
    if lonely or not files[0]:
        what = f"{lonely[0]} has no partner of equal stem ({len(lonely)} have none)" if lonely else "there is no image"
        raise DataError(f"{truth} and {other}: {what}; pairs need the same stems in both folders.")
    pairs = []
    for stem in sorted(files[0]):
        images = [read_image(each[stem], max_pixels=MAX_PIXELS) for each in files]
        if images[0].shape[:2] != images[1].shape[:2]:
            sizes = " and ".join(f"{image.shape[1]} x {image.shape[0]}" for image in images)
            raise DataError(f"{files[1][stem]}: differs in size from {files[0][stem].name} ({sizes} px); score images of one size.")
        pairs.append((stem, *images))
    return pairs


def _stems(place: pathlib.Path) -> dict[str, pathlib.Path]:
    found: dict[str, pathlib.Path] = {}
    for path in sorted(place.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            if path.stem in found:
                raise DataError(f"{path}: {found[path.stem].name} has the same stem; leave one of them in the folder.")
            found[path.stem] = path
    return found
