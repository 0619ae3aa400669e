"""Scans that show the same thing: found by correlating small copies, turned and mirrored ones included."""

import cv2
import numpy as np

from microscopy.flaws import luma

SIDE, REACH, ALIKE = 64, 4.0, 0.9
"""Copies of 64 x 64 px, without what varies more slowly than 4 px of them (shading), are alike from a correlation of 0.9 on."""

_ROWS = 512


def descriptor(pixels: np.ndarray) -> np.ndarray:
    """Returns the copy of a scan (h, w) or (h, w, 3) that is correlated, float32 (64, 64): mean 0, norm 1; all 0 for one value."""
    small = cv2.resize(luma(pixels).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    small = small - cv2.GaussianBlur(small, (0, 0), REACH)
    small = small - small.mean()
    norm = np.linalg.norm(small)
    return small / norm if norm > 1e-6 * max(1.0, float(np.abs(pixels).max())) else np.zeros_like(small)


def near_duplicates(descriptors: np.ndarray) -> list[tuple[int, int, float, bool]]:
    """Returns (i, j, correlation, turned), i < j, of each pair alike as it is or, `turned`, by quarter turns and mirrors, most alike first.

    `descriptors` (n, 64, 64) are of `descriptor`. One matrix product for all pairs and orientations, in blocks of rows.
    """
    flat = descriptors.reshape(len(descriptors), -1)
    best = {}
    for orientation in range(8):
        view = np.rot90(descriptors, orientation % 4, axes=(1, 2))
        view = view[:, :, ::-1] if orientation > 3 else view
        other = np.ascontiguousarray(view).reshape(len(flat), -1).T
        for start in range(0, len(flat), _ROWS):
            correlation = flat[start : start + _ROWS] @ other
            for row, j in np.argwhere(correlation >= ALIKE).tolist():
                i, value = start + row, float(correlation[row, j])
                if i < j and value > best.get((i, j), (0.0, False))[0] + 1e-6:
                    best[i, j] = (value, orientation > 0)
    return sorted(((i, j, value, turned) for (i, j), (value, turned) in best.items()), key=lambda pair: -pair[2])
