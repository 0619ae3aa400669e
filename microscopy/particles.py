"""Particles measured: sizes, shapes, heights and volumes one by one. In pixels, and in nm where the scale is known."""

import math

import numpy as np
import scipy.ndimage
import skimage.measure

from microscopy import shapes
from microscopy.scan import DataError
from microscopy.thresholds import despiked, footprint_mask, height_map, instances, otsu_mask, split_touching

RING_GAP, RING_PIXELS = 1.5, 4.0
FEWEST_RING_PIXELS = 8
MAX_LABEL = 2**24  # a table as long as the largest label is made


def measure(
    mask: np.ndarray | None,
    intensity: np.ndarray | None = None,
    nm_per_pixel: tuple[float, float] | None = None,
    *,
    height: np.ndarray | None = None,
    split: bool = False,
    min_area: int = 1,
    tip_radius_nm: float | None = None,
) -> list[dict]:
    """Returns one row per particle, in the order of the labels.

    `mask` is (h, w), bool (4- and 8-connected pixels are one particle) or an int map of instances; None finds the particles in
    `height` (`thresholds.footprint_mask`). `split` cuts touching ones apart (`thresholds.split_touching`; labels are then new).
    Regions under `min_area` pixels are left out. In a row, in pixels: `label`; `y`, `x` (centroid, pixel indices); `area`;
    `equivalent_diameter` (of the disc of the same area); `feret_max`, `feret_min` (`shapes.feret_diameters`). Without unit:
    `eccentricity` (of the ellipse of the same second moments); `circularity` (4 pi area / perimeter^2, about 1 for a disc);
    `solidity` (share of the pixels of the convex hull); `touches_border` (cut by the frame: its sizes are too small).
    With `intensity` (h, w) `mean_intensity`, `max_intensity`. With `nm_per_pixel` (y, x), which may differ and then shape the
    numbers without unit too, `y_nm`, `x_nm`, `area_nm2`, `equivalent_diameter_nm`, `feret_max_nm`, `feret_min_nm`.

    With `height` (h, w) in nm: `background_nm`, the local substrate: the median over free pixels in a ring from 1.5 pixels
    off the particle to its own radius (4 pixels at least) away, of all free pixels where fewer than 8 are in the ring, NaN where
    none is; above it `height_max_nm`, `height_robust_nm` (maximum after a 3 x 3 median, blind to spikes), `rim_height_nm`
    (median over the pixels beside free ones: what the mask cuts off below) and, with scale, `volume_nm3`, the heights summed
    over the particle's pixels. A blunt tip makes particles wider, not higher, and volumes too large: with `tip_radius_nm`
    `tip_corrected_diameter_nm` (`without_tip`); volumes stay as they are.
    Raises DataError where arrays do not fit together or something needed is missing.
    """
    labels, height = _checked(mask, intensity, nm_per_pixel, height, tip_radius_nm)
    labels = split_touching(labels, nm_per_pixel) if split else labels
    scale = nm_per_pixel or (1.0, 1.0)
    regions = [region for region in skimage.measure.regionprops(labels, intensity, spacing=scale) if region.num_pixels >= min_area]
    if not regions:
        return []
    perimeters = shapes.perimeters(labels, scale)
    rows = [_outline(region, perimeters[region.label], labels.shape, nm_per_pixel) for region in regions]
    if intensity is not None:
        for row, region in zip(rows, regions, strict=True):
            row |= {"mean_intensity": float(region.intensity_mean), "max_intensity": float(region.intensity_max)}
    if height is not None:
        for row, found in zip(rows, _relief(regions, labels, height, nm_per_pixel), strict=True):
            row |= found
            if tip_radius_nm is not None:
                sizes = (row["equivalent_diameter_nm"], row["height_robust_nm"], tip_radius_nm, max(row["rim_height_nm"], 0.0))
                row["tip_corrected_diameter_nm"] = without_tip(*sizes)
    return rows


def _checked(mask, intensity, nm_per_pixel, height, tip_radius_nm) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns (instance map, height as float64 or None) after every check of `measure`'s arguments."""
    if mask is None and height is None:
        raise DataError("particles: give a mask, or heights to find the particles in.")
    height = None if height is None else height_map(height)
    labels = instances(footprint_mask(height) if mask is None else mask)
    if labels.size and not 0 <= labels.min() <= labels.max() <= max(labels.size, MAX_LABEL):
        raise DataError(f"mask: labels run from {labels.min()} to {labels.max()}; number instances from 1 on, 0 is the background.")
    for name, array in (("intensity", intensity), ("height", height)):
        if array is not None and array.shape != labels.shape:
            raise DataError(f"{name} {array.shape} and mask {labels.shape} must have the same shape.")
    if nm_per_pixel is not None and not (len(nm_per_pixel) == 2 and all(0 < value < math.inf for value in nm_per_pixel)):
        raise DataError(f"nm_per_pixel {nm_per_pixel}: give two positive numbers (y, x).")
    if tip_radius_nm is not None and (height is None or nm_per_pixel is None or not 0 <= tip_radius_nm < math.inf):
        raise DataError(f"tip_radius_nm {tip_radius_nm}: a radius of 0 or more is needed, and with it heights and nm_per_pixel.")
    return labels, height


def _outline(region, perimeter: float, shape: tuple[int, int], nm_per_pixel: tuple[float, float] | None) -> dict:
    """Returns the part of a particle's row that its outline gives (see `measure`), from scikit-image's region."""
    scale = nm_per_pixel or (1.0, 1.0)
    area, corners = float(region.num_pixels), shapes.hull(region.image)
    y, x = (float(value / size) for value, size in zip(region.centroid, scale, strict=True))
    row = {"label": int(region.label), "y": y, "x": x, "area": area, "equivalent_diameter": 2 * math.sqrt(area / math.pi)}
    row["feret_max"], row["feret_min"] = shapes.feret_diameters(corners)
    row["eccentricity"] = float(region.eccentricity)
    row["circularity"] = 4 * math.pi * area * scale[0] * scale[1] / float(perimeter) ** 2
    row["solidity"] = area / shapes.hull_pixels(corners)
    top, left, bottom, right = region.bbox
    row["touches_border"] = top == 0 or left == 0 or bottom == shape[0] or right == shape[1]
    if nm_per_pixel is not None:
        row |= {"y_nm": y * scale[0], "x_nm": x * scale[1], "area_nm2": area * scale[0] * scale[1]}
        row["equivalent_diameter_nm"] = 2 * math.sqrt(row["area_nm2"] / math.pi)
        row["feret_max_nm"], row["feret_min_nm"] = shapes.feret_diameters(corners, scale)
    return row


def _relief(regions: list, labels: np.ndarray, height: np.ndarray, nm_per_pixel: tuple[float, float] | None) -> list[dict]:
    """Returns the part of every particle's row that its heights give (see `measure`)."""
    smooth = despiked(height)
    free = labels == 0
    everywhere = float(np.median(height[free])) if free.any() else math.nan
    found = []
    for region in regions:
        inside, image = height[region.slice], region.image
        background, rim = _local_substrate(region, free, height, everywhere)
        row = {"background_nm": background, "height_max_nm": float(inside[image].max()) - background}
        row["height_robust_nm"] = float(smooth[region.slice][image].max()) - background
        row["rim_height_nm"] = rim - background
        if nm_per_pixel is not None:
            row["volume_nm3"] = float((inside[image] - background).sum()) * nm_per_pixel[0] * nm_per_pixel[1]
        found.append(row)
    return found


def _local_substrate(region, free: np.ndarray, height: np.ndarray, everywhere: float) -> tuple[float, float]:
    """Returns the median height of the free pixels in the ring around a region, `everywhere` where they are too few, and of
    the region's own pixels beside free ones, NaN where there are none."""
    reach = max(RING_PIXELS, math.sqrt(region.num_pixels / math.pi)) + RING_GAP
    margin = math.ceil(reach)
    starts = [max(span.start - margin, 0) for span in region.slice]
    window = tuple(slice(start, span.stop + margin) for start, span in zip(starts, region.slice, strict=True))
    outside = np.ones(free[window].shape, bool)
    outside[tuple(slice(span.start - start, span.stop - start) for start, span in zip(starts, region.slice, strict=True))] = ~region.image
    away = scipy.ndimage.distance_transform_edt(outside)
    ring = height[window][free[window] & (away > RING_GAP) & (away <= reach)]
    rim = height[window][~outside & scipy.ndimage.binary_dilation(free[window])]
    return float(np.median(ring)) if ring.size >= FEWEST_RING_PIXELS else everywhere, float(np.median(rim)) if rim.size else math.nan


def without_tip(diameter_nm: float, height_nm: float, tip_radius_nm: float, rim_height_nm: float = 0.0) -> float:
    """Returns the diameter in nm, at the substrate, of what a tip of apex radius R shows `diameter_nm` wide; NaN where nothing can be.

    sqrt(diameter^2 - 8 R height) for a diameter at the substrate: under a spherical tip the radii of sphere and tip add up (a whole
    sphere of radius r looks 4 sqrt(R r) wide). The same holds for a paraboloid under a paraboloid; a paraboloidal tip on a steep cap
    is wider still, and the result then too large. A diameter measured `rim_height_nm` z above the substrate belongs to the sphere of
    radius r + R = (diameter^2 / 4 + (height - z)^2) / (2 (height - z)), which is reached down from there.
    """
    above = height_nm - rim_height_nm
    if not above > 0:
        return math.nan
    radius = (diameter_nm**2 / 4 + above**2) / (2 * above) - tip_radius_nm
    squared = 4 * (2 * radius * height_nm - height_nm**2)
    return math.sqrt(squared) if squared >= 0 else math.nan


def summary(
    image: np.ndarray, nm_per_pixel: tuple[float, float] | None = None, smoothing: float = 1.0, min_area: int = 12
) -> dict[str, float]:
    """Returns `particles` (count), `median_diameter` (pixels) and `coverage` (0..1) of what `otsu_mask` finds in `image`.

    Connected regions under `min_area` pixels are specks and count nowhere; particles that touch count as one; those cut by
    the border count. With `nm_per_pixel` (y, x) also `median_diameter_nm`. Diameters are NaN where there is no particle.
    """
    mask = otsu_mask(image, smoothing)
    areas = np.bincount(instances(mask).ravel())[1:]
    areas = areas[areas >= min_area]
    median = float(np.median(2 * np.sqrt(areas / math.pi))) if areas.size else math.nan
    found = {"particles": len(areas), "coverage": float(areas.sum() / mask.size), "median_diameter": median}
    if nm_per_pixel is not None:
        found["median_diameter_nm"] = median * math.sqrt(nm_per_pixel[0] * nm_per_pixel[1])
    return found
