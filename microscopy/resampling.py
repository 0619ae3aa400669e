"""Scans of different pixel sizes on one grid of square pixels, so that a particle is as many pixels wide wherever it was scanned."""

import dataclasses
import math
import statistics

import cv2
import numpy as np

from microscopy.scan import DataError, Scan

TOLERANCE = 1e-3
"""Factors this near 1 leave a scan as it is: no instrument's scale is known better."""

LARGEST_FACTOR = 16.0
"""Beyond it one of two scans shows next to nothing of what the other does."""


def common_scale(scans: list[Scan]) -> float | None:
    """Returns the median nm per pixel of the scans, None where none states any; of a scan that is not square sqrt(y x).

    Of an even number the lesser of the two middle ones: a scale that some scans have, and the finer one keeps small scans large enough.
    """
    scales = [math.sqrt(scan.nm_per_pixel[0] * scan.nm_per_pixel[1]) for scan in scans if scan.nm_per_pixel]
    return statistics.median_low(scales) if scales else None


def without_scale(scans: list[Scan]) -> list[Scan]:
    """Returns the scans that state no usable nm per pixel (positive, finite) where others do; none where none does."""
    lost = [scan for scan in scans if not scan.nm_per_pixel]
    return lost if len(lost) < len(scans) else []


def factors(scan: Scan, nm_per_pixel: float, max_pixels: int) -> tuple[float, float]:
    """Returns how many pixels of `nm_per_pixel` one pixel of the scan becomes, along y and x; (1, 1) where it is left alone.

    Raises DataError, naming the file and the remedy, for a scale that is no positive number, a factor beyond 16 or below 1/16, and
    more than `max_pixels` pixels.
    """
    name, (y, x) = scan.file or scan.id, scan.nm_per_pixel
    advice = "leave it out by --config.data.select=FILE, or correct its scale"
    if not all(math.isfinite(value) and value > 0 for value in (y, x)):
        raise DataError(f"{name}: {y} x {x} nm per pixel is no scale; {advice}")
    found = (y / nm_per_pixel, x / nm_per_pixel)
    if max(found) > LARGEST_FACTOR or min(found) < 1 / LARGEST_FACTOR:
        raise DataError(
            f"{name}: has {_scale(scan)} nm per pixel, the set is trained at {nm_per_pixel:.4g}: "
            f"more than {LARGEST_FACTOR:.0f} times apart; {advice}"
        )
    if all(abs(value - 1.0) < TOLERANCE for value in found):
        return 1.0, 1.0
    height, width = (round(side * factor) for side, factor in zip(scan.pixels.shape, found, strict=False))
    if height * width > max_pixels:
        size = f"{width} x {height} pixels at {nm_per_pixel:.4g} nm"
        raise DataError(f"{name}: would have {size}, more than config.data.max_pixels={max_pixels}; {advice}")
    return found


def _scale(scan: Scan) -> str:
    y, x = scan.nm_per_pixel
    return f"{y:.4g}" if y == x else f"{y:.4g} x {x:.4g} (y, x)"


def resampled(scan: Scan, nm_per_pixel: float, factor: tuple[float, float]) -> Scan:
    """Returns the scan with square pixels of `nm_per_pixel`, `factor` (y, x) times as many, in its stored type; its mask too.

    Area averages along an axis that shrinks, cubic interpolation (Keys 1981, a = -0.75) along one that grows; a mask takes the nearest
    pixel. The side in nm is kept, its number of pixels rounded. With factor (1, 1) pixels and mask are the same arrays.
    """
    pixels, mask = scan.pixels, scan.mask
    if factor != (1.0, 1.0):
        size = tuple(max(1, round(side * value)) for side, value in zip(pixels.shape, factor, strict=False))
        pixels = _resized(pixels, size)
        mask = None if mask is None else _nearest(mask, size)
    return dataclasses.replace(scan, pixels=pixels, mask=mask, nm_per_pixel=(nm_per_pixel, nm_per_pixel))


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if pixels.ndim == 3 and pixels.shape[2] != 3:  # a stack, one plane after the other
        return np.stack([_resized(np.ascontiguousarray(pixels[..., plane]), size) for plane in range(pixels.shape[2])], axis=-1)
    least = tuple(min(sides) for sides in zip(pixels.shape, size, strict=False))
    values = cv2.resize(pixels.astype(np.float32), least[::-1], interpolation=cv2.INTER_AREA)
    values = cv2.resize(values, size[::-1], interpolation=cv2.INTER_CUBIC)
    if pixels.dtype.kind != "f":
        limits = np.iinfo(pixels.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(pixels.dtype)


def _nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, mask.shape[:2], strict=True))
    return mask[rows[:, None], columns]
