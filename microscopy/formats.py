"""Image files as arrays: PNG, JPEG, TIFF and NPY, checked before they are decoded."""

import logging
import math
import os
import stat

import cv2
import numpy as np

from microscopy.headers import Header, jpeg_header, npy_header, png_header
from microscopy.scan import DataError
from microscopy.tiff import tiff_header

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy", ".bmp", ".gif", ".webp", ".jp2")
"""Suffixes of the files that are taken for images; the last four are refused with advice rather than passed over."""

_UNREAD = {b"BM": "a BMP", b"GIF8": "a GIF", b"RIFF": "a WebP or AVI", b"\0\0\0\x0cjP": "a JPEG 2000", b"%PDF": "a PDF", b"PK": "a zip"}
_FREE_BYTES = 2**26  # metadata a file may carry besides its pixels
_EXACT_INTEGERS = 2**24  # float32 holds every integer up to here


def read_image(path: str | os.PathLike, *, max_pixels: int) -> np.ndarray:
    """Returns the pixels of a PNG, JPEG, TIFF or NPY file: (h, w), or (h, w, 3) as RGB; uint8, uint16 or float32.

    What the file is decides, not its suffix. 8 and 16 bits and float32 are kept bit by bit; float64 becomes float32;
    other integers become float32 where that is exact. 1, 2 and 4 bits are spread over 0..255. Palettes become RGB.
    Alpha is dropped, with a logged warning where it is not opaque. Orientation tags are not applied.

    Raises DataError, naming the file and the remedy, for anything that cannot be read whole: missing, empty,
    truncated, damaged, animated or several pages, NaN or Inf, or more than `max_pixels` pixels (read from the header,
    before anything is decoded). JPEG and TIFF have no checksum: flipped bits in their pixel data go unseen.
    """
    return decode_image(read_content(path, max_pixels=max_pixels), str(path), max_pixels=max_pixels)


def read_content(path: str | os.PathLike, *, max_pixels: int) -> bytes:
    """Returns the bytes of an image file.

    Raises DataError where there is no regular file, none that may be read, an empty one, or one larger than an image
    of `max_pixels` pixels can be (32 bytes a pixel and 64 MiB).
    """
    limit = max_pixels * 32 + _FREE_BYTES
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path}: is not a regular file; give an image file")
            if status.st_size > limit:
                raise DataError(f"{path}: has {status.st_size} bytes, too many for max_pixels = {max_pixels}; crop it, or raise max_pixels")
            content = file.read(limit)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({why(error)}); check the path and its permissions") from None
    if not content:
        raise DataError(f"{path}: is empty; copy or export it again")
    return content


def why(error: Exception) -> str:
    """Returns the operating system's words for an OSError, without the path, and the message of any other error."""
    return str(getattr(error, "strerror", None) or error)


def _open_at_once(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def decode_image(content: bytes, name: str, *, max_pixels: int) -> np.ndarray:
    """Returns the pixels of an image file's bytes as `read_image` does; errors name the file by `name`."""
    try:
        header = read_header(content, max_pixels)
        return as_pixels(_colours(decode_stored(header), header, name))
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def read_header(content: bytes, max_pixels: int, *, indices: bool = False) -> Header:
    """Returns what the file's bytes declare, verified; with `indices`, palettes decode to stored indices.

    Raises DataError, without a file name, for what is not a sound PNG, JPEG, TIFF or NPY of up to `max_pixels` pixels.
    """
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return png_header(content, max_pixels, indices=indices)
    if content[:3] == b"\xff\xd8\xff":
        return jpeg_header(content, max_pixels)
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return tiff_header(content, max_pixels, indices=indices)
    if content[:6] == b"\x93NUMPY":
        return npy_header(content, max_pixels)
    kind = next((kind for magic, kind in _UNREAD.items() if content.startswith(magic)), "another kind of")
    raise DataError(f"is {kind} file; save it as PNG, TIFF, JPEG or NPY")


def decode_stored(header: Header) -> np.ndarray:
    """Returns the samples as stored, (h, w) or (h, w, c) in OpenCV's channel order, of any integer or float type.

    Raises DataError, without a file name, where they cannot be decoded into the declared size.
    """
    if header.kind == "NPY":
        shape = (header.height, header.width, 3)[: 2 if header.num_channels == 1 else 3]
        samples = np.frombuffer(header.body, header.dtype, math.prod(shape), header.offset).astype(header.dtype.newbyteorder("="))
        return samples.reshape(shape, order="F" if header.fortran else "C")[..., :: 1 if len(shape) == 2 else -1]  # stored as RGB
    log = cv2.utils.logging
    level = log.getLogLevel()
    log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        array = cv2.imdecode(np.frombuffer(header.body, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        array = None
    finally:
        log.setLogLevel(level)
    if array is None or array.shape[:2] != (header.height, header.width):
        raise DataError(f"is a {header.kind} whose pixel data cannot be decoded; copy or export it again")
    return 65535 - array if header.inverted else array


def _colours(array: np.ndarray, header: Header, name: str) -> np.ndarray:
    if header.alpha and (array.ndim < 3 or _is_transparent(array)):
        logging.getLogger(__name__).warning("%s: transparency is ignored", name)
    if array.ndim == 2:
        return array
    # OpenCV repeats the grey of a grey image with alpha three times.
    return np.ascontiguousarray(array[..., 0] if header.num_channels == 2 else array[..., 2::-1])


def _is_transparent(array: np.ndarray) -> bool:
    if array.shape[2] < 4:
        return True  # a transparency table stood beside the pixels
    opaque = 1 if array.dtype.kind == "f" else np.iinfo(array.dtype).max
    return bool((array[..., 3] != opaque).any())


def as_pixels(array: np.ndarray) -> np.ndarray:
    """Returns the array as uint8, uint16 or float32 with no value changed (float64 is rounded to float32).

    Raises DataError, without a file name, for bool, for integers that float32 cannot hold, and for NaN or Inf (with their number).
    """
    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.dtype.kind in "iu":
        if max(int(array.max()), -int(array.min())) > _EXACT_INTEGERS:
            raise DataError(f"holds {array.dtype} values beyond {_EXACT_INTEGERS}, which float32 cannot hold; save it as uint16 or float32")
    elif array.dtype.kind != "f":
        raise DataError(f"holds {array.dtype} values; save it as uint8, uint16 or float32")
    with np.errstate(over="ignore"):
        pixels = array.astype(np.float32)
    bad = pixels.size - int(np.isfinite(pixels).sum())
    if bad:
        raise DataError(f"holds {bad} NaN or infinite values among {pixels.size}; fill them or cut them off")
    return pixels
