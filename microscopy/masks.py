"""Mask files and mask arrays as instance maps."""

import os

import cv2
import numpy as np

from microscopy.formats import decode_stored, read_content, read_header
from microscopy.scan import DataError


def read_mask(path: str | os.PathLike, *, max_pixels: int) -> np.ndarray:
    """Returns the ids of a mask file as int32 (h, w), as stored: palettes as indices, bool as 0 and 1.

    PNG, TIFF or NPY of whole numbers in 0..2^31-1, one channel or three equal ones. Raises DataError, naming the file
    and the remedy, for anything else and wherever `read_image` does; JPEG is refused because it changes ids.
    """
    return decode_mask(read_content(path, max_pixels=max_pixels), str(path), max_pixels=max_pixels)


def decode_mask(content: bytes, name: str, *, max_pixels: int) -> np.ndarray:
    """Returns the ids of a mask file's bytes as `read_mask` does; errors name the file by `name`."""
    try:
        header = read_header(content, max_pixels, indices=True)
        if header.kind == "JPEG":
            raise DataError("is a JPEG, which changes the values of a mask; save it as PNG")
        stored = decode_stored(header)
        if header.palette and header.bits < 8:
            stored = stored // (255 // (2**header.bits - 1))  # small samples come spread over 0..255
        return as_ids(stored)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def as_ids(array: np.ndarray) -> np.ndarray:
    """Returns a mask array (h, w) or (h, w, c) as int32 ids (h, w); a fourth channel is taken for alpha and dropped.

    Raises DataError, without a file name, for colours, fractions and values outside 0..2^31-1.
    """
    if array.ndim not in (2, 3) or not array.size:
        raise DataError(f"is a mask of shape {array.shape}; save one two-dimensional map")
    if array.ndim == 3:
        if (array[..., :3] != array[..., :1]).any():
            raise DataError("is a coloured mask; save it as grey, one value an instance")
        array = array[..., 0]
    if array.dtype.kind not in "biuf" or not (array == np.floor(array)).all():
        raise DataError("is a mask with fractions; save whole numbers, one an instance")
    if array.min() < 0 or array.max() > 2**31 - 1:
        raise DataError("is a mask with values outside 0..2147483647; number its instances from 1")
    return array.astype(np.int32)


def is_binary(ids: np.ndarray) -> bool:
    """Returns whether a map of ids (h, w) says no more than where there is something: its only value besides 0 is 1, 255 or 65535."""
    top = int(ids.max())
    return top in (1, 255, 65535) and bool(((ids == 0) | (ids == top)).all())


def as_instances(ids: np.ndarray) -> np.ndarray:
    """Returns an instance map int32 (h, w): 0 = background.

    A binary mask, whose only value besides 0 is 1, 255 or 65535, becomes one instance per region connected over edges and
    corners, as predicted ones are, numbered from 1 in no particular order. Any other map is returned as it is.
    """
    if not is_binary(ids):
        return ids
    return cv2.connectedComponents((ids > 0).astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)[1]
