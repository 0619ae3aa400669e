"""Particles that an upscaled image invents, and those that it loses, against the true high-resolution image."""

import numpy as np
import scipy.ndimage
import skimage.filters

from metrics import overlap
from microscopy.scan import DataError
from microscopy.thresholds import height_map, instances

SMOOTHING, MIN_AREA = 1.0, 12  # as microscopy.particles.summary


def particle_threshold(truth: np.ndarray, smoothing: float = SMOOTHING) -> float:
    """Returns Otsu's threshold (256 bins) of an image (h, w) after a Gaussian of `smoothing` pixels, in the image's unit.

    Raises DataError for another shape, a value that is not finite, and a flat image, which has no threshold.
    """
    truth = height_map(truth)
    if np.ptp(truth) == 0:
        raise DataError("the true image is flat: it has no threshold; give that of the set it belongs to.")
    return float(skimage.filters.threshold_otsu(_smooth(truth, smoothing)))


def particle_instances(image: np.ndarray, threshold: float, smoothing: float = SMOOTHING, min_area: int = MIN_AREA) -> np.ndarray:
    """Returns an int instance map (h, w) of what lies above `threshold` after smoothing; specks under `min_area` pixels are left out."""
    labels = instances(_smooth(height_map(image), smoothing) > threshold)
    return np.where(np.bincount(labels.ravel())[labels] >= min_area, labels, 0)


def invented_particles(
    upscaled: np.ndarray, truth: np.ndarray, threshold: float | None = None, *, smoothing: float = SMOOTHING, min_area: int = MIN_AREA
) -> dict[str, int]:
    """Returns the counts `true`, `found`, `matched`, `invented` and `lost` of one image; add them over images.

    Both images are (h, w), of the same size and range; in both a particle is a connected region of at least `min_area` pixels above
    the same threshold, by default the truth's (`particle_threshold`). `true` and `found` count them in the truth and in the upscaled
    image. A pair of IoU above 0.5 is `matched`. A found particle is `invented` where less than half of its area is above the threshold
    in the truth, a true one `lost` where less than half of its area is above it in the upscaled image. So a particle only blurred, or
    two run together, need not match, but are not invented. Touching particles are one. Bright particles are meant: negate images
    of dark ones. Raises DataError for images that do not fit together or are flat without a threshold.
    """
    threshold = particle_threshold(truth, smoothing) if threshold is None else threshold
    found, true = (particle_instances(image, threshold, smoothing, min_area) for image in (upscaled, truth))
    matched = int(overlap.object_counts(found, true)[0])
    above, above_truth = (_smooth(height_map(image), smoothing) > threshold for image in (upscaled, truth))
    (num_found, invented), (num_true, lost) = _uncovered(found, above_truth), _uncovered(true, above)
    return {"true": num_true, "found": num_found, "matched": matched, "invented": invented, "lost": lost}


def _uncovered(labels: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Returns the number of instances, and of those less than half of whose pixels are in the other image's mask."""
    areas = np.bincount(labels.ravel())
    covered = np.bincount(labels.ravel(), other.ravel())
    present = areas[1:] > 0
    return int(present.sum()), int((covered[1:] < areas[1:] / 2)[present].sum())


def _smooth(image: np.ndarray, smoothing: float) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(image, smoothing) if smoothing > 0 else image
