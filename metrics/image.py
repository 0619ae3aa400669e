"""PSNR and SSIM of an image against its reference, in the two protocols of super-resolution papers: Y and RGB, 4 pixels cut off."""

import math

import numpy as np
import scipy.ndimage

from microscopy.scan import DataError

CUT = 4
K1, K2, SIGMA, RADIUS = 0.01, 0.03, 1.5, 5
_LUMA = np.array([65.481, 128.553, 24.966]) / 255


def luma(image: np.ndarray) -> np.ndarray:
    """Returns the luma Y of Rec. 601, float64 (h, w), 16..235 for RGB of 0..255, as MATLAB's `rgb2ycbcr` does.

    Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255 for `image` (h, w, 3), any real dtype, 0..255. As in MATLAB, Y of a uint8 image
    is rounded to whole numbers, which published figures contain (it lowers SSIM by about 0.001); that of another dtype is not.
    A grey image, (h, w) or (h, w, 1), is its own luma, without the scaling to 16..235. Raises DataError for another shape, a value
    that is not finite or one outside 0..255.
    """
    checked = _checked(image)
    if checked.shape[2] == 1:
        return checked[..., 0]
    scaled = 16 + checked @ _LUMA
    return np.floor(scaled + 0.5) if np.asarray(image).dtype == np.uint8 else scaled


def psnr(image: np.ndarray, reference: np.ndarray, *, on_luma: bool = True, cut: int = CUT) -> float:
    """Returns the peak signal-to-noise ratio in dB, 10 log10(255^2 / mean squared difference), inf for equal images.

    Both are (h, w), (h, w, 1) or (h, w, 3) of the same size, any real dtype, 0..255; `cut` pixels are left out at every side. The
    difference is of `luma`, or with `on_luma` False of all channels together, and is symmetric in the two images.
    Raises DataError where they do not fit together.
    """
    first, second = _pair(image, reference, on_luma, cut)
    error = float(np.mean((first - second) ** 2))
    return 10 * math.log10(255.0**2 / error) if error > 0 else math.inf


def ssim(image: np.ndarray, reference: np.ndarray, *, on_luma: bool = True, cut: int = CUT) -> float:
    """Returns the mean structural similarity, at most 1, of two images as for `psnr`; over channels the mean of the channels' own.

    Wang, Bovik, Sheikh and Simoncelli, IEEE Trans. Image Processing 13, 600, 2004, as in their MATLAB file: means, variances and
    covariance under an 11 x 11 Gaussian of standard deviation 1.5 (weights sum to 1; variances are not divided by n - 1), only
    where all of it lies on the image; K1 = 0.01, K2 = 0.03, range 255; no downsampling first.
    Raises DataError where the images do not fit together or are under 11 x 11 pixels without what is cut off.
    """
    first, second = _pair(image, reference, on_luma, cut)
    if min(first.shape[:2]) < 2 * RADIUS + 1:
        raise DataError(f"images of {np.shape(image)[:2]} pixels: SSIM needs {2 * RADIUS + 1} x {2 * RADIUS + 1} after {cut} are cut off.")
    return float(np.mean([_similarity(first[..., channel], second[..., channel]) for channel in range(first.shape[2])]))


def scores(image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Returns `psnr_y`, `ssim_y`, `psnr_rgb` and `ssim_rgb` of an image against its reference, 4 pixels cut off: see `psnr`, `ssim`.

    For grey images both protocols give the same numbers.
    """
    return {
        f"{name}_{protocol}": score(image, reference, on_luma=protocol == "y")
        for protocol in ("y", "rgb")
        for name, score in (("psnr", psnr), ("ssim", ssim))
    }


def _checked(image: np.ndarray) -> np.ndarray:
    """Returns `image` as float64 (h, w, 1 or 3), or raises DataError."""
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0 or image.dtype.kind not in "uif":
        raise DataError(f"image {image.shape} {image.dtype}: numbers (h, w), (h, w, 1) or (h, w, 3) are needed.")
    image = image.astype(np.float64)
    if not np.isfinite(image).all():
        raise DataError(f"image: {int((~np.isfinite(image)).sum())} values are NaN or infinite.")
    if not 0 <= image.min() <= image.max() <= 255:
        raise DataError(f"image: values run from {image.min():g} to {image.max():g}; scale or clip them to 0..255 first.")
    return image


def _pair(image, reference, on_luma: bool, cut: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns both images as float64 (h, w, channels) on the protocol's channels without the border, or raises DataError."""
    pair = [_checked(one) for one in (image, reference)]
    if pair[0].shape != pair[1].shape:
        raise DataError(f"image {pair[0].shape} and reference {pair[1].shape} must have the same size and channels.")
    if cut < 0 or min(pair[0].shape[:2]) <= 2 * cut:
        raise DataError(f"image {pair[0].shape}: nothing is left when {cut} pixels are cut off at every side.")
    pair = [luma(one)[..., None] for one in (image, reference)] if on_luma else pair
    return tuple(one[cut : one.shape[0] - cut, cut : one.shape[1] - cut] for one in pair)


def _similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the mean SSIM of two images (h, w)."""
    mean, other_mean = _smooth(first), _smooth(second)
    variance, other_variance = _smooth(first**2) - mean**2, _smooth(second**2) - other_mean**2
    covariance = _smooth(first * second) - mean * other_mean
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    above = (2 * mean * other_mean + c1) * (2 * covariance + c2)
    return float(np.mean(above / ((mean**2 + other_mean**2 + c1) * (variance + other_variance + c2))))


def _smooth(image: np.ndarray) -> np.ndarray:
    """Returns the Gaussian mean of `image` (h, w) where the whole window lies on it, (h - 10, w - 10)."""
    weights = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * SIGMA**2))
    for axis in (0, 1):
        image = scipy.ndimage.correlate1d(image, weights / weights.sum(), axis)
    return image[RADIUS:-RADIUS, RADIUS:-RADIUS]
