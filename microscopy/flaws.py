"""What a stored scan may carry that training would learn: constant bands at its borders, clipped values."""

import cv2
import numpy as np

from microscopy.scan import DataError


def luma(pixels: np.ndarray) -> np.ndarray:
    """Returns one channel (h, w) in the stored type: the scan itself, the luma (Rec. 601) of its colours, a stack's middle plane."""
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.shape[2] == 3 else pixels[..., pixels.shape[2] // 2]


def to_channels(pixels: np.ndarray, name: str, channels: int) -> np.ndarray:
    """Returns the pixels in 1 or 3 `channels`; DataError, naming the file, where they have neither.

    Colour to one channel by the luma of Rec. 601 in the stored dtype; one channel to colour by repetition.
    """
    have = 1 if pixels.ndim == 2 else pixels.shape[2]
    if have == channels:
        return pixels
    if channels == 1 and have == 3:
        return luma(pixels)
    if channels == 3 and have == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    raise DataError(f"{name}: {have} channels; config.data.channels={channels} can be 1 or 3.")


def constant_bands(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """Returns how many rows or columns at the top, right, bottom and left of a scan are no image, 0 where it reaches the border.

    A band is two or more lines of one value at the border (of 8 bit, one level more or less: JPEG); in grey levels also an info bar:
    up to a fifth of the side whose ground, with lettering on it, ends from one line to the next. What fades in is image, and
    bands of half the scan or more are taken for its background.
    """
    values = luma(pixels)
    if values.dtype.kind == "u":
        values = values.astype(np.int32)
    top, bottom = (_band(values[::way], pixels.dtype) for way in (1, -1))
    inside = values[top : len(values) - bottom].T
    left, right = (_band(inside[::way], pixels.dtype) for way in (1, -1))
    most = (len(values) - top - bottom) * (len(inside) - left - right) < values.size / 2
    return (0, 0, 0, 0) if most else (top, right, bottom, left)


def _band(lines: np.ndarray, dtype: np.dtype) -> int:
    if len(lines) < 3:
        return 0
    tolerance, blank = (1 if dtype == np.uint8 else 0), 0
    if all(np.ptp(line) <= tolerance for line in lines[:2]):
        blank = _run((np.abs(lines - np.median(lines[0])) <= tolerance).all(axis=1))
    if blank == len(lines):
        return 0
    bar = _info_bar(lines[blank:], 6 * np.iinfo(dtype).max // 255) if dtype.kind == "u" else 0  # behind its frame, where it has one
    return blank + bar


def _info_bar(lines: np.ndarray, tolerance: int) -> int:
    """The outermost lines of which half have one value on average, with a sharp end: no such value in the lines behind it."""
    if len(lines) < 48:
        return 0
    share = (np.abs(lines[: len(lines) * 3 // 10] - np.median(lines[:12])) <= tolerance).mean(axis=1)
    ends = np.flatnonzero((share[:-1] >= 0.3) & (share[1:] < 0.3)) + 1
    for end in ends[(ends >= 8) & (ends <= len(lines) // 5)]:
        behind = share[end + 1 :]
        if share[:end].mean() >= 0.45 and share[end - 3 : end].mean() >= 0.4 and behind[:4].max() <= 0.15 and behind.mean() <= 0.1:
            return int(end) + int(share[end] > 0.02)  # a line that is half of each belongs to the bar
    return 0


def _run(true: np.ndarray) -> int:
    return len(true) if true.all() else int(true.argmin())


def clipped(pixels: np.ndarray, bands: tuple[int, int, int, int]) -> list[tuple[float, float]]:
    """Returns (value, share of pixels that have it) of the least and of the greatest value outside the `bands`."""
    top, right, bottom, left = bands
    values = luma(pixels)[top : pixels.shape[0] - bottom, left : pixels.shape[1] - right]
    return [(float(value), float(np.mean(values == value))) for value in (values.min(), values.max())]
