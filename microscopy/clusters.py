"""Clusters of a segmented z-stack: its connected regions measured one by one, in voxels, and in um where the scale is known."""

import math

import numpy as np
import scipy.ndimage

from microscopy.scan import DataError

_TOUCHING = np.ones((3, 3, 3), bool)


def measure_clusters(
    mask: np.ndarray, probability: np.ndarray | None = None, nm_per_voxel: tuple[float, float, float] | None = None, *, min_voxels: int = 1
) -> list[dict]:
    """Returns a row a cluster of a bool mask (d, h, w), in the order of their first voxels; regions under `min_voxels` are left out.

    Voxels that share a face, an edge or a corner are one cluster (26 neighbours). In a row: `cluster`, its number from 1; `z`, `y`, `x` of
    the centroid, voxel indices; `voxels`; `touches_border` (cut by the stack: it may be longer). `length` is along the principal axis
    of the largest variance v, sqrt(12 v), which for a uniform rod is its length (voxels are boxes: a row of n measures n).
    `azimuth_degrees`, that axis in the plane, 0..180 from x towards y; `dip_degrees` out of the plane, -90..90, above 0 where z grows
    along that azimuth. `elongation` is the square root of the largest variance by the middle one. `mean_probability` where
    `probability` (d, h, w) is given.

    With `nm_per_voxel` (z, y, x) also `z_um`, `y_um`, `x_um`, `volume_um3` and `length_um`, and length in voxels is left out; angles and
    elongation are then those of true lengths, without it those in voxels. DataError where arrays or scale do not fit together.
    """
    mask = np.asarray(mask)
    _check(mask, probability, nm_per_voxel)
    labels, _ = scipy.ndimage.label(mask, _TOUCHING)
    place = np.nonzero(labels)
    number = labels[place]
    counts = np.bincount(number)
    kept = np.flatnonzero(counts >= max(1, min_voxels))
    if not kept.size:
        return []
    scale = np.asarray(nm_per_voxel or (1.0, 1.0, 1.0)) / (1000.0 if nm_per_voxel else 1.0)
    centre = np.stack([np.bincount(number, axis) for axis in place], -1)[kept] / counts[kept, None]
    lengths, axes = _principal(place, number, counts, kept, centre, scale)
    border = _at_border(place, number, mask.shape, len(counts))[kept]
    mean = np.bincount(number, probability[place])[kept] / counts[kept] if probability is not None else None
    rows = []
    for index, voxels in enumerate(counts[kept].tolist()):
        row = {"cluster": index + 1, **dict(zip("zyx", centre[index].tolist(), strict=True)), "voxels": voxels}
        if nm_per_voxel:
            row |= dict(zip(("z_um", "y_um", "x_um"), (centre[index] * scale).tolist(), strict=True))
            row["volume_um3"] = float(voxels * np.prod(scale))
        row["length_um" if nm_per_voxel else "length"] = float(lengths[index, -1])
        row |= dict(zip(("azimuth_degrees", "dip_degrees"), angles(axes[index]), strict=True))
        row["elongation"] = float(lengths[index, -1] / lengths[index, 1])
        if mean is not None:
            row["mean_probability"] = float(mean[index])
        rows.append(row | {"touches_border": bool(border[index])})
    return rows


def angles(axis: np.ndarray) -> tuple[float, float]:
    """Returns (azimuth 0..180 from x towards y, dip -90..90 out of the plane) in degrees of an axis (z, y, x), which has no direction."""
    z, y, x = (float(value) for value in axis)
    if (y, x, z) < (0, 0, 0):
        z, y, x = -z, -y, -x
    azimuth = math.degrees(math.atan2(y, x)) % 180.0
    return azimuth, math.degrees(math.atan2(z, math.hypot(y, x)))


def _principal(place, number, counts, kept, centre, scale) -> tuple[np.ndarray, np.ndarray]:
    """(lengths (n, 3) along the principal axes, ascending; the longest axis (n, 3) as z, y, x) of the kept numbers."""
    of = np.zeros((len(counts), 3))
    of[kept] = centre
    off = [(axis - of[number, i]) * scale[i] for i, axis in enumerate(place)]
    variance = np.zeros((len(kept), 3, 3))
    for i in range(3):
        for j in range(i, 3):
            variance[:, i, j] = variance[:, j, i] = np.bincount(number, off[i] * off[j])[kept] / counts[kept]
    variance += np.diag(scale**2 / 12)  # a voxel is a box, not a point
    values, vectors = np.linalg.eigh(variance)
    return np.sqrt(12 * values), vectors[:, :, -1]


def _at_border(place, number, shape, num: int) -> np.ndarray:
    edge = np.zeros(len(number), bool)
    for axis, size in zip(place, shape, strict=True):
        edge |= (axis == 0) | (axis == size - 1)
    return np.bincount(number[edge], minlength=num) > 0


def _check(mask: np.ndarray, probability, nm_per_voxel) -> None:
    if mask.ndim != 3 or mask.dtype != bool or not mask.size:
        raise DataError(f"mask {mask.shape} {mask.dtype}: a bool mask (d, h, w) is needed.")
    if probability is not None and probability.shape != mask.shape:
        raise DataError(f"probability {probability.shape}: {mask.shape}, the shape of the mask, is needed.")
    if nm_per_voxel is not None and not (len(nm_per_voxel) == 3 and all(math.isfinite(value) and value > 0 for value in nm_per_voxel)):
        raise DataError(f"nm_per_voxel {nm_per_voxel}: three positive numbers (z, y, x) are needed.")
