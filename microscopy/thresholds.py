"""Particles told from the substrate: Otsu's threshold, footprints down to the local substrate, touching particles cut apart."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import scipy.ndimage
import skimage.filters
import skimage.measure
import skimage.morphology
import skimage.segmentation

from microscopy.scan import DataError

NOISE_THRESHOLD = 3.0
HEIGHT_SHARE = 0.02
NECK_DEPTH = 0.1
ROUGHNESS = 4.0  # pixels: what a ragged outline may add to a radius without being a neck


def otsu_mask(image: np.ndarray, smoothing: float = 1.0) -> np.ndarray:
    """Returns bool (h, w): the pixels above Otsu's threshold (IEEE Trans. SMC 9, 62, 1979; 256 bins), all False on a flat image.

    The image, (h, w) of any real dtype, is smoothed before by a Gaussian of standard deviation `smoothing` pixels (0: not at
    all). Raises DataError for another shape or a value that is not finite.
    """
    image = height_map(image)
    if np.ptp(image) == 0:
        return np.zeros(image.shape, bool)
    if smoothing > 0:
        image = scipy.ndimage.gaussian_filter(image, smoothing)
    return image > skimage.filters.threshold_otsu(image)


def stack_otsu(stack: np.ndarray, smoothing: float = 1.0) -> np.ndarray:
    """Returns bool (h, w, d): a stack on that side of Otsu's one threshold for all its planes which covers less; as `otsu_mask` else."""
    smooth = np.stack([scipy.ndimage.gaussian_filter(height_map(plane), smoothing) for plane in np.moveaxis(stack, -1, 0)], axis=-1)
    if np.ptp(stack) == 0:
        return np.zeros(stack.shape, bool)
    mask = smooth > skimage.filters.threshold_otsu(smooth.ravel())
    return ~mask if 2 * np.count_nonzero(mask) > mask.size else mask


def footprint_mask(height: np.ndarray, smoothing: float = 1.0) -> np.ndarray:
    """Returns bool (h, w): particles of a levelled height map down to where they meet the substrate.

    Otsu's threshold cuts a particle half way up and makes it too small. Here its regions are cores: each grows, by no more than
    half its radius and 2 pixels, over connected pixels that are after a 3 x 3 median more than three standard deviations (and 2 % of
    the core's own median height) above its substrate. That is the ring beyond, as wide as the core's radius: its median, and
    1.4826 times its median absolute deviation. So terraces and slow waves are no particles. What a tip adds around a particle
    belongs to the mask. All False on a flat map; raises DataError as `otsu_mask`.
    """
    height = height_map(height)
    core = otsu_mask(height, smoothing)
    if not core.any() or core.all():
        return core
    smooth = despiked(height)
    outside, nearest = cv2.distanceTransformWithLabels((~core).astype(np.uint8), cv2.DIST_L2, 5)
    radii = np.sqrt(np.bincount(nearest[core], minlength=nearest.max() + 1) / np.pi)
    reach = 2 + radii / 2
    near = outside <= reach[nearest]
    ring = ~near & (outside <= (reach + np.maximum(radii, 4.0))[nearest])
    substrate = _medians(smooth[ring], nearest[ring], len(radii))
    noise = 1.4826 * _medians(np.abs(smooth - substrate[nearest])[ring], nearest[ring], len(radii))
    rise = _medians(smooth[core], nearest[core], len(radii)) - substrate
    low = substrate + np.maximum(NOISE_THRESHOLD * noise, HEIGHT_SHARE * rise)
    labels = skimage.measure.label(core | (near & (smooth > low[nearest])), connectivity=2)
    holds_core = np.zeros(labels.max() + 1, bool)
    holds_core[labels[core]] = True
    return holds_core[labels]


def _medians(values: np.ndarray, numbers: np.ndarray, num: int) -> np.ndarray:
    """Returns the median of the values (n) of each number 0..num - 1, that of all values for a number that has none, inf without values."""
    medians = np.full(num, np.median(values) if values.size else np.inf)
    found = np.flatnonzero(np.bincount(numbers, minlength=num))
    if found.size:
        medians[found] = scipy.ndimage.median(values, numbers, found)
    return medians


def despiked(height: np.ndarray) -> np.ndarray:
    """Returns the 3 x 3 median of a height map, float64 (h, w), to float32's precision about the map's median."""
    middle = np.median(height)
    return cv2.medianBlur((height - middle).astype(np.float32), 3).astype(np.float64) + middle


def instances(mask: np.ndarray) -> np.ndarray:
    """Returns an instance map (h, w): an int map as it is, a bool mask with 4- and 8-connected pixels as one particle.

    Raises DataError where `mask` is no such map.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "biu":
        raise DataError(f"mask {mask.shape} {mask.dtype}: a bool or int map (h, w) is needed.")
    return skimage.measure.label(mask, connectivity=2) if mask.dtype == bool else mask


def split_touching(mask: np.ndarray, nm_per_pixel: tuple[float, float] | None = None, depth: float = NECK_DEPTH) -> np.ndarray:
    """Returns an int32 instance map (h, w) in which touching particles are cut apart at their necks, numbered from 1.

    Watershed of the distance to the outline (Vincent and Soille, IEEE Trans. PAMI 13, 583, 1991) from its maxima d; two of them
    stay one particle unless the neck between them is narrower, in half its width, by more than `depth` of (d + 4 pixels) of the
    smaller. Instances of an int map are cut, never joined. `nm_per_pixel` (y, x) makes distances right where pixels are oblong.
    """
    scale = np.array(nm_per_pixel or (1.0, 1.0)) / np.sqrt(np.prod(nm_per_pixel or (1.0, 1.0)))
    return cut_at_valleys(instances(mask), lambda image, _: scipy.ndimage.distance_transform_edt(image, sampling=scale), ROUGHNESS, depth)


def cut_at_valleys(labels: np.ndarray, relief: Callable[[np.ndarray, Any], np.ndarray], roughness: float, depth: float) -> np.ndarray:
    """Returns an int32 instance map (h, w), numbered from 1: the instances of an int map cut apart along the valleys of a relief.

    `relief(image, window)` gives it for one instance: its bool image with one pixel of outside around, and the slices of the map that it
    was without them; floats of the image's shape, 0 or more. Two maxima stay one part unless the saddle between them lies lower by more
    than the share `depth` of the lesser one's height, `roughness` added to both.
    """
    cut, num = np.zeros(labels.shape, np.int32), 0
    for region in skimage.measure.regionprops(labels):
        image = np.pad(region.image, 1)
        parts = _parts(image, relief(image, region.slice), roughness, -np.log1p(-depth))[1:-1, 1:-1]
        window = cut[region.slice]
        window[region.image] = parts[region.image] + num
        num += int(parts.max())
    return cut


def _parts(image: np.ndarray, relief: np.ndarray, roughness: float, depth: float) -> np.ndarray:
    """Returns the parts, numbered from 1, of one region's bool image, which the outside surrounds."""
    rounded = np.log(relief + roughness)  # a difference of logarithms is a share of the height
    lowered = skimage.morphology.reconstruction(rounded - depth, rounded)
    markers = skimage.measure.label(skimage.morphology.local_maxima(lowered) & image, connectivity=2)
    return skimage.segmentation.watershed(-relief, markers, mask=image) if markers.max() > 1 else image.astype(np.int32)


def without_specks(labels: np.ndarray, min_area: int) -> np.ndarray:
    """Returns an int32 instance map (h, w) of the instances of `labels` with `min_area` pixels or more, numbered from 1 in their order."""
    areas = np.bincount(labels.ravel())
    kept = areas >= max(1, min_area)
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels]


def height_map(image: np.ndarray) -> np.ndarray:
    """Returns `image` as float64 (h, w), or raises DataError."""
    image = np.asarray(image)
    if image.ndim != 2 or image.size == 0:
        raise DataError(f"image {image.shape}: one channel (h, w) is needed.")
    image = image.astype(np.float64)
    if not np.isfinite(image).all():
        raise DataError(f"image: {int((~np.isfinite(image)).sum())} pixels are NaN or infinite; fill or cut them off first.")
    return image
