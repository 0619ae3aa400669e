"""A table of measured particles: what the set is like as a whole, and the table as a CSV file."""

import csv
import io
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import scipy.spatial

from microscopy.atomic import write_bytes

_IN_PIXELS = {
    "z": "z_plane",
    "y": "y_px",
    "x": "x_px",
    "length": "length_px",
    "area": "area_px2",
    "equivalent_diameter": "equivalent_diameter_px",
    "feret_max": "feret_max_px",
    "feret_min": "feret_min_px",
}


def describe(rows: Sequence[dict], shape: tuple[int, int], nm_per_pixel: tuple[float, float] | None = None) -> dict[str, float]:
    """Returns what a set of particles measured on one frame of `shape` (h, w) pixels is like; rows as `particles.measure` makes them.

    `particles` (count), `whole` (not cut by the border), `coverage` (0..1 of the frame), `median_diameter` (equivalent, pixels, of
    the whole ones), `nearest_neighbour_mean` and `_median` (pixels, between centroids). With `nm_per_pixel` (y, x)
    `median_diameter_nm`, `nearest_neighbour_mean_nm`, `nearest_neighbour_median_nm` and `density_per_um2`. NaN where there are too few.

    Borders bias these: a cut particle counts fully in the density, which is too high by about half the share that is cut; near the
    border the true nearest neighbour may lie outside, so spacings are too large, the more the fewer particles a frame has; and large
    particles are cut more often than small ones, so the whole ones are somewhat smaller than all.
    """
    whole = [row for row in rows if not row["touches_border"]]
    found = {"particles": len(rows), "whole": len(whole), "coverage": sum(row["area"] for row in rows) / math.prod(shape)}
    units = {"": ((1.0, 1.0), "equivalent_diameter")}
    if nm_per_pixel is not None:
        found["density_per_um2"] = len(rows) / (shape[0] * nm_per_pixel[0] * shape[1] * nm_per_pixel[1]) * 1e6
        units["_nm"] = (nm_per_pixel, "equivalent_diameter_nm")
    for unit, (scale, diameter) in units.items():
        found[f"median_diameter{unit}"] = float(np.median([row[diameter] for row in whole])) if whole else math.nan
        spacing = _nearest(np.array([(row["y"] * scale[0], row["x"] * scale[1]) for row in rows]))
        found[f"nearest_neighbour_mean{unit}"] = float(spacing.mean()) if spacing.size else math.nan
        found[f"nearest_neighbour_median{unit}"] = float(np.median(spacing)) if spacing.size else math.nan
    return found


def _nearest(points: np.ndarray) -> np.ndarray:
    """Returns the distance (n) of each point to the nearest other; none where there are fewer than two."""
    if len(points) < 2:
        return np.zeros(0)
    return scipy.spatial.KDTree(points).query(points, k=2)[0][:, 1]


def same_columns(rows: Sequence[dict]) -> list[dict]:
    """Returns the rows, each with the columns of all of them, "" where one has no such value: heights beside photographs."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name, "") for name in names} for row in rows]


def write_table(path: str | os.PathLike, rows: Sequence[dict]) -> pathlib.Path:
    """Returns `path` after the rows have been written to it as CSV, whole or not at all (`atomic.write_bytes`).

    The header names the units: `_nm`, `_nm2`, `_nm3` as in the rows, `_px` and `_px2` added to what is in pixels; the rest is
    without unit. Numbers in full precision, `touches_border` as 0 or 1; columns in the order of the first row. No rows give an empty file.
    """
    names = list(rows[0]) if rows else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow([_IN_PIXELS.get(name, name) for name in names])
    writer.writerows([int(row[name]) if isinstance(row[name], bool) else row[name] for name in names] for row in rows)
    return write_bytes(path, text.getvalue().encode())
