"""Pixels that are not the specimen's: scars along the fast axis and spikes, found and replaced."""

import numpy as np
import scipy.ndimage

SCAR_HIGH, SCAR_LOW = 0.666, 0.25
SCAR_LENGTH, SCAR_WIDTH = 16, 4
SPIKE_THRESHOLD = 5.0
_ALONG_ROWS = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]])


def scars(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (height with scars filled, float64 (h, w); where, bool (h, w)).

    A scar is a stretch of 1 to 4 rows that all lie above (or all below) the row before and the row after. As in
    Gwyddion's scar removal: excess is measured in units of the rms difference between neighbouring rows; at least 16
    pixels in a row must exceed 0.25 and one of them 0.666. Filled linearly down each column from the nearest pixels outside. First and
    last row have no neighbour to be judged by. Rows are levelled before: a shifted row is a scar of full length.
    """
    height = height.astype(np.float64)
    found = np.zeros(height.shape, bool)
    if len(height) > 2 and (scale := np.sqrt(np.mean(np.diff(height, axis=0) ** 2))) > 0:
        for sign in (1.0, -1.0):
            found |= _long_runs(_excess(sign * height) / scale)
    return _filled_down(height, found), found


def _excess(height: np.ndarray) -> np.ndarray:
    """Returns how far each pixel's stretch, at most `SCAR_WIDTH` rows, stands above the rows before and after, (h, w); 0 where not."""
    excess = np.zeros(height.shape)
    lowest = height[1:-1]
    for width in range(1, min(SCAR_WIDTH, len(height) - 2) + 1):
        if width > 1:
            lowest = np.minimum(lowest[:-1], height[width:-1])
        over = lowest - np.maximum(height[: -width - 1], height[width + 1 :])
        for row in range(1, width + 1):
            part = excess[row : row + len(over)]
            np.maximum(part, over, out=part)
    return excess


def _long_runs(excess: np.ndarray) -> np.ndarray:
    """Returns where runs along a row exceed `SCAR_LOW`, are long enough and exceed `SCAR_HIGH` somewhere, bool (h, w)."""
    labels, num = scipy.ndimage.label(excess > SCAR_LOW, _ALONG_ROWS)
    length = np.bincount(labels.ravel(), minlength=num + 1)
    strong = np.zeros(num + 1, bool)
    strong[labels[excess > SCAR_HIGH]] = True
    keep = strong & (length >= SCAR_LENGTH)
    keep[0] = False
    return keep[labels]


def _filled_down(height: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Returns height with the found pixels interpolated down their columns; a column found whole stays as it is."""
    filled, y = height.copy(), np.arange(len(height))
    for column in np.flatnonzero(found.any(0) & ~found.all(0)):
        bad = found[:, column]
        filled[bad, column] = np.interp(y[bad], y[~bad], height[~bad, column])
    return filled


def spikes(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (height with spikes replaced by the median of the 5 x 5 pixels around, float64 (h, w); where, bool (h, w)).

    A spike stands out by more than five standard deviations, 1.4826 times the median absolute deviation from that local median,
    and at most two of its eight neighbours go along: single pixels and runs one pixel wide. The edge of a particle or a
    terrace has three or more companions and stays, however steep; a line one pixel wide would be taken for a spike.
    """
    height = height.astype(np.float64)
    if min(height.shape) < 3:
        return height, np.zeros(height.shape, bool)
    around = scipy.ndimage.median_filter(height, 5, mode="mirror")
    residual = np.abs(height - around)
    scale = 1.4826 * np.median(residual) or np.sqrt(np.mean(residual**2))  # a map without noise: half the residuals are 0
    neighbours = np.ones((3, 3), bool)
    neighbours[1, 1] = False
    third_high, third_low = (scipy.ndimage.rank_filter(height, rank, footprint=neighbours, mode="mirror") for rank in (5, 2))
    found = np.maximum(height - third_high, third_low - height) > SPIKE_THRESHOLD * scale
    return np.where(found, around, height), found
