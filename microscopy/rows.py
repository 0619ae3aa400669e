"""What every row of a scan is too high or too low by: medians, median differences, backgrounds, and alignment that keeps steps."""

import numpy as np
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg

from microscopy.thresholds import otsu_mask

LAGS = (1, 2, 3, 5, 8, 13, 21, 34)
LINK_SCALE = 0.4
MAX_COLUMNS = 512  # a row's shift is known well enough from so many pixels
STEP_ROWS = 5


def row_medians(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (height minus the median of each row, float64 (h, w); the medians, float64 (h)).

    Bias: where particles cover the share c < 1/2 of a row, its median is the 0.5 / (1 - c) quantile of the substrate's
    heights, so the row comes to lie too low by that quantile; on Gaussian noise of standard deviation s by 0.32 s at
    c = 0.2 and 0.67 s at c = 1/3. From c = 1/2 on the median lies on a particle and the row is dug out.
    """
    height = height.astype(np.float64)
    medians = np.median(height, axis=1)
    return height - medians[:, None], medians


def row_differences(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (height minus each row's shift, float64 (h, w); the shifts, float64 (h), mean 0).

    A row's shift is its predecessor's plus the median of the differences between the two, so what covers half a row does
    not move it as long as it covers the next one too. Errors add up down the scan like a random walk (`terrace_rows` ties
    rows farther apart together), and a tilt along y goes with the shifts.
    """
    height = height.astype(np.float64)
    shifts = np.concatenate([[0.0], np.cumsum(np.median(np.diff(height, axis=0), axis=1))])
    shifts -= shifts.mean()
    return height - shifts[:, None], shifts


def row_backgrounds(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (height minus each row's median over the pixels below Otsu's threshold, float64 (h, w); those medians, (h)).

    Particles are left out of their rows, so none is dug out; the threshold is found twice, the second time on the rows
    already levelled. Otsu's threshold is of the Gaussian-smoothed map (`particles.otsu_mask`). A row with less than a
    twentieth of its pixels below it takes a value interpolated between its neighbours'.
    """
    height = height.astype(np.float64)
    rows, medians = np.arange(len(height)), np.zeros(len(height))
    for _ in range(2):
        below = ~otsu_mask(height - medians[:, None])
        enough = below.mean(1) >= 0.05
        if not enough.any():
            break
        found = np.array([np.median(height[row][below[row]]) for row in rows[enough]])
        medians = np.interp(rows, rows[enough], found)
    return height - medians[:, None], medians


def terrace_rows(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (height minus each row's shift, float64 (h, w); the shifts, float64 (h), mean 0), steps and particles kept.

    Two rows are apart by the commonest difference of their pixels, those on one terrace, whatever steps or particles do elsewhere.
    Each row is tied so to those 1, 2, 3, 5, 8, 13, 21 and 34 rows on, and the shifts follow from all ties by robust least squares.
    A tilt along y goes with the shifts. A step exactly along a row looks like a shift; it is kept where the jump is lasting
    and over six times the usual one, and lost where rows are as uneven as the step is high.
    """
    height = height.astype(np.float64)
    smooth = scipy.ndimage.uniform_filter1d(height, 5, axis=1, mode="nearest")[:, :: max(1, height.shape[1] // MAX_COLUMNS)]
    shifts = row_differences(smooth)[1]
    for _ in range(2):
        shifts = shifts + _tied(smooth - shifts[:, None])
    shifts = shifts - _lasting_jumps(shifts)
    shifts -= shifts.mean()
    return height - shifts[:, None], shifts


def _tied(height: np.ndarray) -> np.ndarray:
    """Returns the shifts (h) that best explain the commonest differences between rows `LAGS` apart."""
    num = len(height)
    lags = [lag for lag in LAGS if lag <= max(num // 4, 1) and lag < num]
    if not lags:
        return np.zeros(num)
    first = np.concatenate([np.arange(num - lag) for lag in lags])
    second = np.concatenate([np.arange(lag, num) for lag in lags])
    ties = np.concatenate([_commonest(height[lag:] - height[:-lag]) for lag in lags])
    place = np.arange(len(ties))
    ones = np.ones(len(ties))
    matrix = scipy.sparse.csr_matrix((np.r_[ones, -ones], (np.r_[place, place], np.r_[second, first])), shape=(len(ties), num))
    weights = ones
    for _ in range(8):
        # The small ridge fixes the common offset, which no tie knows.
        normal = (matrix.T @ scipy.sparse.diags_array(weights) @ matrix + 1e-9 * scipy.sparse.eye_array(num)).tocsc()
        shifts = scipy.sparse.linalg.spsolve(normal, matrix.T @ (weights * ties))
        residual = ties - matrix @ shifts
        scale = 2.11 * 1.4826 * np.median(np.abs(residual))
        if scale <= 1e-12 * np.abs(ties).max():
            break
        weights = np.exp(-0.5 * (residual / scale) ** 2) + 1e-4
    return shifts


def _commonest(differences: np.ndarray) -> np.ndarray:
    """Returns the mode (n) of each row of differences (n, w) near 0, where the rows before have brought it."""
    scale = LINK_SCALE * 1.4826 * float(np.median(np.abs(differences - np.median(differences))))
    return mode(differences, np.zeros((len(differences), 1)), scale)[:, 0]


def mode(values: np.ndarray, start: np.ndarray | float, scale: float) -> np.ndarray:
    """Returns the mode along the last axis (kept, of size 1) nearest uphill from `start`: mean shift with a Gaussian of width `scale`.

    Comaniciu and Meer, IEEE Trans. PAMI 24, 603, 2002. A scale of 0 returns the median: more than half the values are one.
    """
    if scale <= 0:
        return np.median(values, axis=-1, keepdims=True)
    place = np.broadcast_to(start, (*values.shape[:-1], 1))
    for _ in range(10):
        weights = np.exp(-0.5 * ((values - place) / scale) ** 2)
        total = weights.sum(-1, keepdims=True)
        place = np.where(total > 1e-6, (weights * values).sum(-1, keepdims=True) / np.maximum(total, 1e-6), place)
    return place


def _lasting_jumps(shifts: np.ndarray) -> np.ndarray:
    """Returns the staircase (h) of the steps along rows in `shifts`: jumps over six times the usual that last `STEP_ROWS` rows."""
    jumps = np.diff(shifts)
    if len(jumps) <= 2 * STEP_ROWS:
        return np.zeros(len(shifts))
    usual = np.median(jumps)
    scale = 1.4826 * np.median(np.abs(jumps - usual))
    far = np.abs(jumps - usual) > max(6 * scale, 1e-9 * np.ptp(shifts))
    staircase = np.zeros(len(shifts))
    for row in np.flatnonzero(far) + 1:
        before, after = shifts[max(row - STEP_ROWS, 0) : row], shifts[row : row + STEP_ROWS]
        lasting = np.median(after) - np.median(before) - usual * (len(before) + len(after)) / 2
        if min(len(before), len(after)) == STEP_ROWS and abs(lasting) > max(6 * scale, 1e-9 * np.ptp(shifts)):
            staircase[row:] += jumps[row - 1] - usual
    return staircase
