"""Surface statistics: heights (ISO 25178-2), correlation length, power spectra, and the distance between the spectra of two sets."""

import math

import numpy as np
import scipy.fft
import scipy.ndimage

from microscopy.scan import DataError
from microscopy.spectra import power_spectrum, radial_psd
from microscopy.thresholds import height_map

FLOOR = 1e-12
DECAY = 0.2  # ISO 25178-2, 4.1.1: the autocorrelation length Sal
NUM_DIRECTIONS = 72


def log_psd_distance(real: np.ndarray, other: np.ndarray) -> float:
    """Returns the rms over radial bins, above 0 up to Nyquist, of log10(mean power of `real`) - log10(mean power of `other`).

    Both are (n, h, w) of the same size and scale, on the same grey or height map; 0 for equal spectra, 1 for a factor of ten
    everywhere. Power below 1e-12 of the largest bin of `real` counts as that, so that a flat `other` is far but finite.
    Raises DataError for sets of different sizes, and for a `real` without any structure.
    """
    real, other = np.asarray(real), np.asarray(other)
    if real.shape[1:] != other.shape[1:]:
        raise DataError(f"images of {real.shape[1:]} and {other.shape[1:]} pixels: resize one set to the other's size first.")
    power, other_power = radial_psd(real)[1][1:], radial_psd(other)[1][1:]
    if not np.ptp(real, axis=(1, 2)).any():
        raise DataError("the real images are flat: they have no spectrum to compare with.")
    return log_distance(power, other_power)


def log_distance(power: np.ndarray, other_power: np.ndarray) -> float:
    """Returns the rms of log10(power) - log10(other power) over their entries (k); under 1e-12 of the largest of `power` counts as that."""
    logs = [np.log10(np.maximum(spectrum, FLOOR * power.max())) for spectrum in (power, other_power)]
    return float(np.sqrt(np.mean((logs[0] - logs[1]) ** 2)))


def height_parameters(height: np.ndarray) -> dict[str, float]:
    """Returns `sa`, `sq`, `ssk` and `sku` (ISO 25178-2, 4.1) of one height map (h, w) about its mean plane.

    Arithmetic mean height and root mean square height in the map's unit; skewness and kurtosis (3 for Gaussian heights) without unit,
    NaN where the map is flat. Divisor: the number of pixels. Level the map first; no filter is applied.
    Raises DataError for another shape or a value that is not finite.
    """
    height = height_map(height)
    heights = height - height.mean()
    square = float(np.mean(heights**2))
    found = {"sa": float(np.mean(np.abs(heights))), "sq": math.sqrt(square), "ssk": math.nan, "sku": math.nan}
    if np.ptp(height) > 0:
        found |= {"ssk": float(np.mean(heights**3)) / square**1.5, "sku": float(np.mean(heights**4)) / square**2}
    return found


def height_distribution(images: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns the share of each image's pixels per height class, float64 (n, k), rows sum to 1; heights are above each image's own mean.

    `images` (n, h, w), `edges` (k + 1) rising, in their unit; the last class holds its upper edge too. Raises DataError for a height
    beyond the edges.
    """
    images = np.asarray(images, np.float64)
    heights = images - images.mean(axis=(1, 2), keepdims=True)
    if not edges[0] <= heights.min() <= heights.max() <= edges[-1]:
        raise DataError(f"heights run from {heights.min():g} to {heights.max():g}, beyond the edges {edges[0]:g}..{edges[-1]:g}.")
    return np.stack([np.histogram(one, edges)[0] for one in heights]) / heights[0].size


def areal_psd(height: np.ndarray, nm_per_pixel: float | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (frequencies along y (h), along x (w), power spectral density (h, w)) of one height map about its mean, no window.

    Float64 in the order of `numpy.fft.fftfreq`: cycles per nm and unit^2 nm^2 with `nm_per_pixel` (square pixels), else cycles per
    pixel and unit^2 pixel^2. P = |F z|^2 dA / (h w), so its integral, the sum over P times the frequency steps 1 / (h w dA), is Sq^2
    (Parseval). For maps that are not periodic see `spectra.radial_psd`, which has a window.
    """
    height, step = height_map(height), 1.0 if nm_per_pixel is None else nm_per_pixel
    power = np.abs(scipy.fft.fft2(height - height.mean())) ** 2 * (step**2 / height.size)
    return *(scipy.fft.fftfreq(size, step) for size in height.shape), power


def radial_psd_to_corners(image: np.ndarray, nm_per_pixel: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns (frequency, mean power per radial bin), float64 (k), of one image (h, w): `spectra.radial_psd`, carried on to the corners.

    Up to Nyquist the bins are the same; beyond it, to the largest modulus there is, lie the oblique frequencies, and there alone the
    power of a checkerboard of one pixel, which `radial_psd` and `log_psd_distance` do not see.
    """
    image = height_map(image)
    side, step = min(image.shape), 1.0 if nm_per_pixel is None else nm_per_pixel
    modulus = np.hypot(*np.meshgrid(*(scipy.fft.fftfreq(size) for size in image.shape), indexing="ij"))
    bins = np.rint(modulus * side).astype(int).ravel()
    mean = np.bincount(bins, power_spectrum(image, nm_per_pixel).ravel()) / np.bincount(bins)
    return np.arange(mean.size) / (side * step), mean


def spectral_slope(frequency: np.ndarray, power: np.ndarray, low: float, high: float) -> float:
    """Returns the slope of log power over log frequency by least squares, bins (k) of equal weight within low..high.

    For a self-affine surface and the radial mean of its areal density it is -2 (H + 1), H the Hurst exponent (Persson et al., J. Phys.:
    Condens. Matter 17, R1, 2005). Raises DataError where fewer than 3 bins of positive power lie in the range.
    """
    kept = (frequency > 0) & (frequency >= low) & (frequency <= high) & (power > 0)
    if kept.sum() < 3:
        raise DataError(f"{int(kept.sum())} bins with power between {low:g} and {high:g}: a slope needs 3; widen the range.")
    return float(np.polyfit(np.log(frequency[kept]), np.log(power[kept]), 1)[0])


def autocorrelation(height: np.ndarray) -> np.ndarray:
    """Returns the normalised autocorrelation of one height map (h, w) about its mean, float64 (2 (h // 2) + 1, 2 (w // 2) + 1).

    Lag (0, 0), value 1, is in the middle. Each entry is the mean product over the pixels both copies have, over Sq^2 (ISO 25178-2,
    3.2.8), without wrapping round. All NaN for a flat map; errors as for `height_parameters`.
    """
    height = height_map(height)
    reach = [size // 2 for size in height.shape]
    if np.ptp(height) == 0:
        return np.full([2 * lag + 1 for lag in reach], math.nan)
    heights = height - height.mean()
    padded = [scipy.fft.next_fast_len(size + lag, real=True) for size, lag in zip(height.shape, reach, strict=True)]
    products = scipy.fft.irfft2(np.abs(scipy.fft.rfft2(heights, padded)) ** 2, padded)
    lags = [np.arange(-lag, lag + 1) for lag in reach]
    overlap = np.multiply.outer(*(size - np.abs(lag) for size, lag in zip(height.shape, lags, strict=True)))
    return products[np.ix_(*lags)] / overlap / np.mean(heights**2)


def correlation_length(height: np.ndarray, nm_per_pixel: float | None = None, decay: float = DECAY) -> float:
    """Returns the autocorrelation length Sal (ISO 25178-2): the shortest lag, over all directions, where the autocorrelation is `decay`.

    In nm with `nm_per_pixel` (square pixels), else in pixels; `decay` is the standard's 0.2 (1 / e is usual too), within 0..1. Directions
    are 2.5 degrees apart; lags to half the shorter side, between pixels by linear interpolation. NaN where it falls so
    low in none, and for a flat map.
    """
    if not 0 < decay < 1:
        raise DataError(f"decay {decay}: a value between 0 and 1 is needed.")
    found = autocorrelation(height)
    lags = np.arange(0, min(found.shape) // 2 + 0.25, 0.5)
    angles = np.arange(NUM_DIRECTIONS) * (np.pi / NUM_DIRECTIONS)  # the other half of the plane is the mirror image
    places = [
        middle + np.multiply.outer(along(angles), lags) for middle, along in ((found.shape[0] // 2, np.sin), (found.shape[1] // 2, np.cos))
    ]
    values = scipy.ndimage.map_coordinates(found, places, order=1, mode="nearest")
    fallen = values < decay
    rows, first = np.flatnonzero(fallen.any(1)), fallen.argmax(1)[fallen.any(1)]
    if rows.size == 0:
        return math.nan
    before, after = values[rows, first - 1], values[rows, first]
    lengths = lags[first - 1] + 0.5 * (before - decay) / (before - after)
    return float(lengths.min()) * (1.0 if nm_per_pixel is None else nm_per_pixel)
