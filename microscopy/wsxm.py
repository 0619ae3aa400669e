"""WSxM images (.stp, .top, .tom)."""

import re

import numpy as np

from microscopy.channels import MAX_NAME, Channel, as_float32, direction_of
from microscopy.headers import check_end, check_size, text_header
from microscopy.scan import DataError
from microscopy.units import pixel_size, quantity, ratio, whole

MAGIC = b"WSxM file copyright"
_END = b"[Header end]"
_TYPES = {"short": "<i2", "integer": "<i2", "float": "<f4", "double": "<f8"}


def read_wsxm(content: bytes, max_pixels: int) -> list[Channel]:
    """Returns the one image of a WSxM file.

    Floating-point values are in the unit of "Z Amplitude", integers are scaled so that their range is the Z Amplitude;
    float64 is reduced to float32. Values are stored from the lower right end of the picture on, and are turned. Raises
    DataError, without the file's name, for curves, damaged headers, more than `max_pixels`, or too little data.
    Source: Nanotec, "WSxM file format"; Gwyddion's `wsxmfile` (order of the values).
    """
    header, start = text_header(content, _END, "WSxM file")
    if not re.search(r"^S[xX]M Image file", header, re.MULTILINE):
        raise DataError("is a WSxM file of curves or a movie; give an image file")
    fields = {}
    for line in header.splitlines():
        key, colon, value = line.partition(": ")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    width, height = (whole(fields.get(name, ""), name) for name in ("Number of columns", "Number of rows"))
    check_size(width, height, max_pixels)
    kind = fields.get("Image Data Type", "short")
    if kind not in _TYPES:
        raise DataError(f"is a WSxM file of type {kind[:40]!r}; save it as short, float or double")
    start += len(re.match(rb"\r?\n?", content[start : start + 2])[0])
    row = width * np.dtype(_TYPES[kind]).itemsize
    check_end(start + row * height, row, content, f"{width} x {height} pixels")
    if start + row * height > len(content):
        raise DataError(f"is a truncated WSxM file ({len(content) - start} bytes for {width} x {height} pixels); copy it again")
    stored = np.frombuffer(content, _TYPES[kind], width * height, start).reshape(height, width)[::-1, ::-1]
    amplitude, unit = quantity(fields.get("Z Amplitude", ""), "Z Amplitude")
    pixels = as_float32(stored, _step(stored, amplitude))
    (x, unit_x), (y, unit_y) = (quantity(fields.get(name, ""), name) for name in ("X Amplitude", "Y Amplitude"))
    scale = pixel_size((y * (ratio(unit_y, unit_x) or 1.0), x), unit_x, (height, width))
    name, direction = fields.get("Acquisition channel", "image")[:MAX_NAME], direction_of(fields.get("X scanning direction", ""))
    return [Channel(name, pixels, unit, scale, direction, _bias(fields))]


def _step(stored: np.ndarray, amplitude: float) -> float:
    """Returns the value of one stored unit; 1 for floating point."""
    if stored.dtype.kind == "f":
        return 1.0
    span = int(stored.max()) - int(stored.min())
    if not span and amplitude:
        raise DataError(f"is a WSxM file of one value, but a Z Amplitude of {amplitude:g}; copy it again")
    return amplitude / max(span, 1)


def _bias(fields: dict[str, str]) -> float | None:
    found = re.fullmatch(r"([-+.\deE]+) (m?)V", fields.get("Topography Bias", "")[:MAX_NAME])
    try:
        return float(found[1]) * (1e-3 if found[2] else 1.0) if found else None
    except ValueError:
        return None
