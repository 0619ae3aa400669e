"""Instances as a smooth field that a network can draw: the distance to each particle's own outline, and back to instances.

A generator that draws a field beside its image draws its own labels. The field is above 0 in particles and below it elsewhere; between
touching particles it has a valley, because each pixel is measured to the outline of its own particle, not to that of all together.
"""

import math

import cv2
import numpy as np
import scipy.ndimage
import skimage.measure

from microscopy import pictures
from microscopy.scan import DataError
from microscopy.thresholds import cut_at_valleys, height_map, split_touching, without_specks

KINDS = ("distance", "mask")
REACH = 24.0
SMALLEST_SHARE = 768
MOST_COUNTED = 2**22
ROUGHNESS, DEPTH = 0.1, 0.3
"""Two maxima are two particles where the valley between them is lower by 30 % of the lesser one, 0.1 added to both: the field of one
particle as networks draw it is uneven by about 0.05."""

SHOWN_WIDTH = 96

WITH_FIELD = (2, 4)
"""Channels of grey and of colour images that carry a field as their last; without one they have 1 or 3."""


def field(mask: np.ndarray, reach: float = REACH, kind: str = "distance") -> np.ndarray:
    """Returns the label field, float32 (h, w) in [-1, 1], of an instance map (h, w) of whole numbers, 0 = background.

    "distance": tanh(d / reach), d in pixels the distance from a pixel's centre to the outline of its own particle, positive, or of the
    nearest particle, negative; outlines run between pixels, half a pixel from their centres, and the map's frame is none. -1 where there
    is no particle, 1 where one particle fills the map. "mask": 1 in particles, -1 elsewhere. DataError for another kind, reach or map.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "biu" or not mask.size or mask.min() < 0:
        raise DataError(f"label field: mask {mask.shape} {mask.dtype}; an instance map (h, w) of whole numbers from 0 on is needed.")
    if kind not in KINDS or not 0 < reach < np.inf:
        raise DataError(f"label field: kind {kind!r}, reach {reach}; choose {' or '.join(KINDS)}, and a reach above 0 pixels.")
    if kind == "mask" or mask.min() == mask.max():
        return np.where(mask > 0, 1.0, -1.0).astype(np.float32)
    signed, labels = -_inside(mask == 0), numbered(mask)
    for number, box in enumerate(scipy.ndimage.find_objects(labels), 1):
        window = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        own = labels[window] == number
        signed[window][own] = _inside(own)[own]
    # By a table: cv2's roots differ by one ulp from call to call, and a field must be the same bits whenever a run goes on.
    place = signed - signed.min()
    used = np.flatnonzero(np.bincount(place.ravel()))
    table = np.zeros(place.max() + 1, np.float32)
    table[used] = [math.copysign(math.tanh((math.sqrt(abs(value)) - 0.5) / reach), value) for value in (used + signed.min()).tolist()]
    return table[place]


def numbered(mask: np.ndarray) -> np.ndarray:
    """Returns an int32 instance map (h, w) with the instances of a map numbered 1, 2, ... in the order of their numbers, however large."""
    mask = np.asarray(mask).astype(np.int64)
    if mask.max() > MOST_COUNTED:
        return (np.unique(mask, return_inverse=True)[1].reshape(mask.shape) + (mask.min() > 0)).astype(np.int32)
    there = np.bincount(mask.ravel()) > 0
    there[0] = False
    return np.where(there, np.cumsum(there), 0).astype(np.int32)[mask]


def _inside(region: np.ndarray) -> np.ndarray:
    """Returns int64 (h, w): the squared distance in pixels from each of a bool region to the nearest outside it, 0 outside."""
    distance = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.rint(distance.astype(np.float64) ** 2).astype(np.int64)


def smallest_area(height: int, width: int) -> int:
    """Returns how many pixels a particle of an image of this size has at least: 12 of 96 x 96, the same share of others, but 4."""
    return max(4, height * width // SMALLEST_SHARE)


def instances(field: np.ndarray, min_area: int = 0, kind: str = "distance") -> np.ndarray:
    """Returns an int32 instance map (h, w), 0 = background, of a label field (h, w) in [-1, 1]: where it is above 0, cut at its valleys.

    Numbered from 1; what has fewer than `min_area` pixels (0: `smallest_area`) is left out. By `thresholds.cut_at_valleys` on the field;
    a field of the kind "mask" has no valleys, and touching particles are cut at their necks (`thresholds.split_touching`). DataError for
    no such field.
    """
    field = height_map(field)
    min_area = min_area or smallest_area(*field.shape)
    regions = without_specks(skimage.measure.label(field > 0, connectivity=2), min_area)
    if kind == "mask":
        return without_specks(split_touching(regions), min_area)
    cut = cut_at_valleys(regions, lambda image, window: np.where(image, np.pad(field[window], 1), 0.0), ROUGHNESS, DEPTH)
    return without_specks(cut, min_area)


def apart(images):
    """Returns (images, fields or None) of arrays (..., h, w, c): the last of 2 or 4 channels is the label field (..., h, w)."""
    return (images[..., :-1], images[..., -1]) if images.shape[-1] in WITH_FIELD else (images, None)


def shown(images: np.ndarray) -> np.ndarray:
    """Returns uint8 pictures of images (n, h, w, c) in [-1, 1]; with a label field RGB (n, 2 k h, k w, 3), outlined, above the field.

    Images with a label field are k times as large, 96 px wide at least: an outline would cover the particles of smaller ones.
    """
    images, fields = apart(np.asarray(images))
    if fields is None:
        return pictures.to_uint8(images)
    return np.stack([_pair(image, one) for image, one in zip(images, fields, strict=True)])


def _pair(image: np.ndarray, one: np.ndarray) -> np.ndarray:
    times = -(-SHOWN_WIDTH // image.shape[1])
    labels, image, one = (large.repeat(times, 0).repeat(times, 1) for large in (instances(one), image, one))
    grey = np.repeat(pictures.to_uint8(one)[..., None], 3, axis=2)
    return np.concatenate([pictures.outlined(image[..., 0] if image.shape[-1] == 1 else image, labels), grey])
