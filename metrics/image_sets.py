"""Two folders as sets of images, or as pairs of equal stem; one .npy file as a table of features."""

import pathlib
from typing import NamedTuple

import numpy as np

from microscopy import folder
from microscopy.formats import read_image
from microscopy.scan import DataError, Scan

MAX_PIXELS = 100_000_000
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")


class ImageSet(NamedTuple):
    """What a place holds: `scans` of a folder, or `features` (n, d) of a .npy file, the other empty."""

    place: str
    scans: list[Scan]
    features: np.ndarray | None


def read(place: str) -> ImageSet:
    """Returns the images of a folder, native scans included, or the features of a .npy file; DataError naming what cannot be read."""
    path = pathlib.Path(place)
    if path.suffix == ".npy" and path.is_file():
        try:
            return ImageSet(place, [], np.load(path, allow_pickle=False))
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"{path}: no .npy file of features ({str(error).splitlines()[0]}).") from None
    scans, _ = folder.read_folder(place, max_pixels=MAX_PIXELS, masks="")
    return ImageSet(place, scans, None)


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
    return {path.stem: path for path in sorted(place.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()}
