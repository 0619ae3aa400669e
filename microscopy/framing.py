"""Scans of different sizes brought to one without stretching: cut about the middle where they are larger, padded where smaller."""

import dataclasses
import math

import numpy as np

from microscopy.scan import DataError, FieldError, Scan


def constant(pad: str) -> float | None:
    """Returns the value that `config.data.pad` fills with, None where it reads as no finite number."""
    try:
        value = float(pad)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def least_size(crop: tuple[int, int], rotation: str) -> tuple[int, int]:
    """Returns the least (height, width) of a scan in which a crop of this size fits, as it may be turned."""
    if rotation == "none":
        return crop
    side = math.ceil(math.hypot(*crop) - 1e-6) if rotation == "free" else max(crop)
    return side, side


def framed(scan: Scan, size: tuple[int, int], pad: str, *, cut: bool) -> tuple[Scan, dict | None]:
    """Returns (scan, record) of `size` (height, width) or more, exactly that with `cut`; what is cut or added is alike on both sides.

    `pad` is "border" (the outermost pixels go on), or a number in the scan's own unit; "" only cuts. An odd pixel goes to the bottom
    and right. Masks are padded with 0. The record holds `cut` and `padded`, each (top, right, bottom, left)
    px, and `fill`, which is `pad`; it is None where the scan is as it was. FieldError for a number that the scan's stored type cannot hold.
    """
    differences = [side - wanted for side, wanted in zip(scan.pixels.shape[:2], size, strict=True)]
    less = [max(0, difference) if cut else 0 for difference in differences]
    more = [max(0, -difference) if pad else 0 for difference in differences]
    if not any(less + more):
        return scan, None
    (top, left), (above, before) = ([count // 2 for count in counts] for counts in (less, more))
    bottom, right, below, after = less[0] - top, less[1] - left, more[0] - above, more[1] - before
    height, width = scan.pixels.shape[:2]
    inner = np.s_[top : height - bottom, left : width - right]
    around = ((above, below), (before, after))

    fill = None if pad in ("", "border") else _stored(scan, pad)
    record = {"cut": [top, right, bottom, left], "padded": [above, after, below, before], "fill": pad if any(more) else ""}
    mask = None if scan.mask is None else _padded(scan.mask[inner], around, 0)
    return dataclasses.replace(scan, pixels=_padded(scan.pixels[inner], around, fill), mask=mask), record


def _padded(array: np.ndarray, around, fill: float | None) -> np.ndarray:
    """The array (h, w, ...) with ((above, below), (before, after)) lines more of the value `fill`, or of its border where that is None."""
    widths = [*around, *[(0, 0)] * (array.ndim - 2)]
    if fill is None:
        return np.ascontiguousarray(np.pad(array, widths, mode="edge"))
    return np.ascontiguousarray(np.pad(array, widths, constant_values=fill))


def _stored(scan: Scan, pad: str) -> float | int:
    value, dtype = constant(pad), scan.pixels.dtype
    if dtype.kind == "u":
        if value != int(value) or not 0 <= value <= np.iinfo(dtype).max:
            raise FieldError(f"config.data.pad={pad!r}: {scan.file or scan.id} stores {dtype}; 0 to {np.iinfo(dtype).max}, or border.")
        return int(value)
    return value


def canvas_size(scan: Scan, canvas: int, pad: str) -> tuple[int, int]:
    """Returns (canvas, canvas); DataError, naming the scan, where it is smaller along one side and nothing pads it."""
    height, width = scan.pixels.shape[:2]
    if not pad and min(height, width) < canvas:
        text = f"{width} x {height} px is smaller than config.data.canvas={canvas}"
        raise DataError(f"{scan.file or scan.id}: {text}; pad it by --config.data.pad=border, or leave it out.")
    return canvas, canvas
