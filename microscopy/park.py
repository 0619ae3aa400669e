"""Park Systems (PSIA) TIFF: the measured values in private tags beside a coloured preview."""

import struct

import numpy as np

from microscopy import tiff_tags
from microscopy.channels import Channel, as_float32
from microscopy.headers import check_size
from microscopy.scan import DataError
from microscopy.tiff_tags import Directory
from microscopy.units import pixel_size, symbol

_MAGIC_TAG, _MAGIC, _DATA, _HEADER = 50432, 0x0E031301, 50434, 50435
_TYPES = ("i2", "i4", "f4")


def is_park(page: Directory) -> bool:
    """Returns whether the first page carries Park's mark."""
    return tiff_tags.real(page, _MAGIC_TAG) == _MAGIC


def read_park(page: Directory, max_pixels: int) -> list[Channel]:
    """Returns the one image of a Park TIFF: stored value x data gain, in the unit stated, as float32.

    Lines are stored from the lower end of the picture on and are turned. The header's Z scale and Z offset are not applied, as in
    Park's own reader. Raises DataError, without the file's name, for line profiles and spectra, damaged headers, more
    than `max_pixels`, or too little data. Source: Park Systems, "TIFF format" (tags 50432 to 50435), and its reader pspylib.
    """
    header, data = (tiff_tags.stored(page, tag) for tag in (_HEADER, _DATA))
    if len(header) < 276:
        raise DataError("is a Park TIFF with a damaged header; copy or export it again")
    (category,), (width, height) = struct.unpack_from("<i", header), struct.unpack_from("<2i", header, 100)
    if category != 0:
        raise DataError("is a Park TIFF of a line profile or a spectrum; give an image file")
    check_size(width, height, max_pixels)
    (forward,), (x, y) = struct.unpack_from("<i", header, 128), struct.unpack_from("<2d", header, 140)
    bias, gain = struct.unpack_from("<2d", header, 212)
    kind = struct.unpack_from("<i", header, 348)[0] if len(header) >= 352 else 0  # older headers end before: 16 bits
    if kind not in (0, 1, 2) or not np.isfinite(gain):
        raise DataError(f"is a Park TIFF with a damaged header (data type {kind}, gain {gain:g}); copy or export it again")
    if len(data) != width * height * np.dtype(_TYPES[kind]).itemsize:
        raise DataError(f"is a damaged Park TIFF ({len(data)} bytes for {width} x {height} pixels); copy or export it again")
    stored = np.frombuffer(data, f"<{_TYPES[kind]}", width * height).reshape(height, width)
    pixels = as_float32(stored[::-1], gain)
    unit, scale = symbol(_wide(header, 244, 8)), pixel_size((y, x), "um", (height, width))
    bias = bias if np.isfinite(bias) else None
    return [Channel(_wide(header, 4, 32) or "image", pixels, unit, scale, "forward" if forward else "backward", bias)]


def _wide(header: bytes, start: int, length: int) -> str:
    return header[start : start + 2 * length].decode("utf-16-le", "replace").split("\0")[0].strip()
