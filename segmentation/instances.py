"""Instance maps: which pixels belong to which particle, from a foreground probability or, as the baseline, from the image alone.

Both end in the same way: connected regions, touching particles cut apart at their necks by a watershed of the distance to the outline
(`microscopy.thresholds.split_touching`), specks left out, ids 1.. in the order of their first pixels. Nothing is random.
"""

import numpy as np
import skimage.measure

from microscopy.scan import DataError
from microscopy.thresholds import height_map, otsu_mask, split_touching, without_specks

THRESHOLD = 0.5
MIN_AREA = 12
"""Pixels: fewer have no shape to speak of."""
POLARITIES = ("auto", "bright", "dark")


def from_probability(
    probability: np.ndarray,
    threshold: float = THRESHOLD,
    min_area: int = MIN_AREA,
    nm_per_pixel: tuple[float, float] | None = None,
    split: bool = True,
) -> np.ndarray:
    """Returns an int32 instance map (h, w), 0 = background, of a foreground probability (h, w) in [0, 1]: the pixels above `threshold`.

    `min_area` in pixels; `nm_per_pixel` (y, x) makes necks right where pixels are oblong; without `split` touching particles are one.
    DataError where `probability` is no such array.
    """
    probability = height_map(probability)
    if probability.min() < 0 or probability.max() > 1:
        raise DataError(f"probability: values from {probability.min():.4g} to {probability.max():.4g}; 0 to 1 is needed.")
    return from_mask(probability > threshold, min_area, nm_per_pixel, split)


def from_mask(
    mask: np.ndarray, min_area: int = MIN_AREA, nm_per_pixel: tuple[float, float] | None = None, split: bool = True
) -> np.ndarray:
    """Returns an int32 instance map (h, w) of a bool mask (h, w); 4- and 8-connected pixels are one region. See `from_probability`."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype != bool:
        raise DataError(f"mask {mask.shape} {mask.dtype}: a bool mask (h, w) is needed.")
    regions = without_specks(skimage.measure.label(mask, connectivity=2), min_area)
    return without_specks(split_touching(regions, nm_per_pixel), min_area) if split else regions


def otsu_watershed(image: np.ndarray, polarity: str = "auto", *, smoothing: float = 1.0, min_area: int = MIN_AREA) -> np.ndarray:
    """Returns an int32 instance map (h, w) by Otsu's threshold and a watershed: what a network has to beat.

    `image` (h, w) of any real dtype, smoothed before by a Gaussian of `smoothing` pixels (`thresholds.otsu_mask`). `polarity` "bright":
    particles are above the threshold; "dark": below; "auto": the side that covers less of the image, bright where both cover as much.
    An image of one value has no particles, but in mere noise Otsu's threshold finds some. DataError for another polarity or image.
    """
    if polarity not in POLARITIES:
        raise DataError(f"polarity {polarity!r}: choose {', '.join(POLARITIES)}.")
    image = height_map(image)
    mask = otsu_mask(image, smoothing)
    if mask.any() and (polarity == "dark" or polarity == "auto" and 2 * np.count_nonzero(mask) > mask.size):
        mask = ~mask
    return from_mask(mask, min_area)
