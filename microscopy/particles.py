"""Particles found by a threshold and measured: counts, sizes, coverage. Sizes in pixels, and in nm where the scale is known."""

import math

import numpy as np
import scipy.ndimage
import skimage.filters
import skimage.measure

from microscopy.scan import DataError


def otsu_mask(image: np.ndarray, smoothing: float = 1.0) -> np.ndarray:
    """Returns bool (h, w): the pixels above Otsu's threshold (IEEE Trans. SMC 9, 62, 1979; 256 bins), all False on a flat image.

    The image, (h, w) of any real dtype, is smoothed before by a Gaussian of standard deviation `smoothing` pixels (0: not at
    all). Raises DataError for another shape or a value that is not finite.
    """
    image = _height_map(image)
    if np.ptp(image) == 0:
        return np.zeros(image.shape, bool)
    if smoothing > 0:
        image = scipy.ndimage.gaussian_filter(image, smoothing)
    return image > skimage.filters.threshold_otsu(image)


def measure(mask: np.ndarray, intensity: np.ndarray | None = None, nm_per_pixel: tuple[float, float] | None = None) -> list[dict]:
    """Returns one row per particle of `mask`, in the order of the labels.

    `mask` is (h, w), bool (4- and 8-connected pixels are one particle) or an int map of instances. A row has `label`, `y`, `x`
    (centroid, pixel indices), `area` (pixels), `equivalent_diameter` (pixels: the disc of the same area); with `intensity`
    (h, w) `mean_intensity` and `max_intensity`; with `nm_per_pixel` (y, x) `area_nm2` and `equivalent_diameter_nm`.
    Raises DataError where `mask` is not such a map or `intensity` has another shape.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "biu":
        raise DataError(f"mask {mask.shape} {mask.dtype}: a bool or int map (h, w) is needed.")
    if intensity is not None and intensity.shape != mask.shape:
        raise DataError(f"intensity {intensity.shape} and mask {mask.shape} must have the same shape.")
    labels = skimage.measure.label(mask, connectivity=2) if mask.dtype == bool else mask
    return [_row(region, intensity is not None, nm_per_pixel) for region in skimage.measure.regionprops(labels, intensity)]


def _row(region, has_intensity: bool, nm_per_pixel: tuple[float, float] | None) -> dict:
    """Returns one particle's row (see `measure`) from scikit-image's region."""
    y, x = region.centroid
    row = {"label": int(region.label), "y": float(y), "x": float(x), "area": float(region.area)}
    row["equivalent_diameter"] = 2 * math.sqrt(row["area"] / math.pi)
    if has_intensity:
        row |= {"mean_intensity": float(region.intensity_mean), "max_intensity": float(region.intensity_max)}
    if nm_per_pixel is not None:
        row["area_nm2"] = row["area"] * nm_per_pixel[0] * nm_per_pixel[1]
        row["equivalent_diameter_nm"] = 2 * math.sqrt(row["area_nm2"] / math.pi)
    return row


def summary(
    image: np.ndarray, nm_per_pixel: tuple[float, float] | None = None, smoothing: float = 1.0, min_area: int = 12
) -> dict[str, float]:
    """Returns `particles` (count), `median_diameter` (pixels) and `coverage` (0..1) of what `otsu_mask` finds in `image`.

    Connected regions under `min_area` pixels are specks and count nowhere; particles that touch count as one; those cut by
    the border count. With `nm_per_pixel` (y, x) also `median_diameter_nm`. Diameters are NaN where there is no particle.
    """
    mask = otsu_mask(image, smoothing)
    rows = [row for row in measure(mask, nm_per_pixel=nm_per_pixel) if row["area"] >= min_area]
    found = {"particles": len(rows), "coverage": sum(row["area"] for row in rows) / mask.size}
    found["median_diameter"] = float(np.median([row["equivalent_diameter"] for row in rows])) if rows else math.nan
    if nm_per_pixel is not None:
        found["median_diameter_nm"] = float(np.median([row["equivalent_diameter_nm"] for row in rows])) if rows else math.nan
    return found


def _height_map(image: np.ndarray) -> np.ndarray:
    """Returns `image` as float64 (h, w), or raises DataError."""
    image = np.asarray(image)
    if image.ndim != 2 or image.size == 0:
        raise DataError(f"image {image.shape}: one channel (h, w) is needed.")
    image = image.astype(np.float64)
    if not np.isfinite(image).all():
        raise DataError(f"image: {int((~np.isfinite(image)).sum())} pixels are NaN or infinite; fill or cut them off first.")
    return image
