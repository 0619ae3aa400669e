"""Fourier ring correlation: up to which spatial frequency two images of the same thing agree, and the resolution that follows.

van Heel, Keegstra, Schutter and van Bruggen, EMBO J. 1 Suppl., 69, 1982; Saxton and Baumeister, J. Microscopy 127, 127, 1982; in light
microscopy Banterle, Bui, Lemke and Beck, J. Structural Biology 183, 363, 2013. It compares phases ring by ring, so that a factor,
an offset or a blur common to all directions changes nothing until noise drowns what is left: for two images of power S at a frequency, each
with independent noise of power N there, it is S / (S + N).
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.signal

from microscopy.scan import DataError

HALVES = 1 / 7
REFERENCE = 0.5
TAPER = 1.0


class RingCorrelation(NamedTuple):
    """Per ring, from the first above zero to Nyquist, float64 (k): `frequency` in cycles per pixel or nm, `correlation`, `num_pixels`."""

    frequency: np.ndarray
    correlation: np.ndarray
    num_pixels: np.ndarray


def ring_correlation(first: np.ndarray, second: np.ndarray, nm_per_pixel: float | None = None, *, taper: float = TAPER) -> RingCorrelation:
    """Returns the Fourier ring correlation of two images (h, w), or the mean over two sets (n, h, w) of each pair's, ring by ring.

    C = Re sum(F G*) / sqrt(sum |F|^2 sum |G|^2) over the Fourier pixels of modulus i/s -+ 1/(2s) cycles per pixel, i = 1 .. s // 2,
    s = min(h, w); -1..1, and 0 where an image has no power in the ring. In cycles per nm with `nm_per_pixel` (square pixels).
    Before, each image loses its weighted mean and is apodised along each axis by a Tukey window, of which the share `taper` is
    cosine: 1 is the Hann window of `spectra.power_spectrum`; 0.25 (an eighth of the image at each side) is that of Nieuwenhuizen et
    al., Nature Methods 10, 557, 2013, which leaks more of a strong coarse structure into weak fine rings; 0 is none, for
    periodic images only: elsewhere the jump from edge to edge, which both images share, correlates at all frequencies.
    `num_pixels` is the sum over the set of a ring's Fourier pixels, both of each conjugate pair: independent white noise
    gives 0 -+ 1/sqrt(num_pixels) where `taper` is 0, 1.4 times as much under Hann, which mixes neighbouring frequencies.
    Raises DataError for shapes that differ, a side under 4 pixels or a value that is not finite.
    """
    first, second = _checked(first), _checked(second)
    if first.shape != second.shape:
        raise DataError(f"images {first.shape} and {second.shape} must have the same shape.")
    if not 0 <= taper <= 1:
        raise DataError(f"taper {taper}: a share of 0..1 is needed.")
    side = min(first.shape[1:])
    modulus = np.hypot(*np.meshgrid(*(scipy.fft.fftfreq(size) for size in first.shape[1:]), indexing="ij"))
    rings = np.rint(modulus * side).astype(int).ravel()
    kept = (rings >= 1) & (rings <= side // 2)
    total = sum(_correlations(one, other, rings[kept], kept, taper) for one, other in zip(first, second, strict=True))
    step = 1.0 if nm_per_pixel is None else nm_per_pixel
    num_pixels = np.bincount(rings[kept])[1:] * float(len(first))
    return RingCorrelation(np.arange(1, side // 2 + 1) / (side * step), total / len(first), num_pixels)


def half_bit(num_pixels: np.ndarray) -> np.ndarray:
    """Returns the half-bit threshold of rings of n Fourier pixels: (0.2071 + 1.9102 / sqrt n) / (1.2071 + 0.9102 / sqrt n).

    Above it each Fourier pixel of the mean of two noisy images holds more than half a bit about the object; it falls to 0.1716 as n
    grows. van Heel and Schatz, J. Structural Biology 151, 250, 2005, equation 17.
    """
    inverse = 1 / np.sqrt(num_pixels)
    return (0.2071 + 1.9102 * inverse) / (1.2071 + 0.9102 * inverse)


def resolution(curve: RingCorrelation, threshold: float | np.ndarray = HALVES) -> float:
    """Returns the resolution, 1 / frequency, in pixels or nm as the curve has it, where its correlation first falls below `threshold`.

    Between rings by linear interpolation. `threshold` is a number or one per ring (`half_bit(curve.num_pixels)`): 1/7 for two images
    with independent noise (Rosenthal and Henderson, J. Mol. Biol. 333, 721, 2003; Banterle et al.), 0.5 (`REFERENCE`) for an image
    against a truth without noise, whose correlation sqrt(2 C / (1 + C)) is 0.5 where C is 1/7. NaN where it never falls below: the
    image is as fine as its pixels, or both share an artefact. inf where the first ring is below: nothing agrees.
    """
    above = curve.correlation - threshold
    below = np.flatnonzero(above < 0)
    if below.size == 0:
        return math.nan
    after = int(below[0])
    if after == 0:
        return math.inf
    share = above[after - 1] / (above[after - 1] - above[after])
    low, high = curve.frequency[after - 1 : after + 1]
    return float(1 / (low + share * (high - low)))


def _checked(images: np.ndarray) -> np.ndarray:
    """Returns images (n, h, w) as float64, or raises DataError."""
    images = np.asarray(images)
    images = images[None] if images.ndim == 2 else images
    if images.ndim != 3 or len(images) == 0 or min(images.shape[1:]) < 4:
        raise DataError(f"images {images.shape}: one (h, w) or a set (n, h, w) of one channel, at least 4 x 4 pixels, is needed.")
    images = images.astype(np.float64)
    if not np.isfinite(images).all():
        raise DataError(f"images: {int((~np.isfinite(images)).sum())} values are NaN or infinite.")
    return images


def _correlations(first: np.ndarray, second: np.ndarray, rings: np.ndarray, kept: np.ndarray, taper: float) -> np.ndarray:
    """Returns the correlation (k) of two images (h, w) in the rings 1 .. k, the ring of each Fourier pixel that is `kept`."""
    spectra = [_spectrum(image, taper).ravel()[kept] for image in (first, second)]
    common = np.bincount(rings, (spectra[0] * spectra[1].conj()).real)[1:]
    power, other = (np.bincount(rings, np.abs(one) ** 2)[1:] for one in spectra)
    below = np.sqrt(power) * np.sqrt(other)
    return np.divide(common, below, out=np.zeros_like(common), where=below > 0)


def _spectrum(image: np.ndarray, taper: float) -> np.ndarray:
    """Returns the Fourier transform (h, w) of an image about its mean under a Tukey window."""
    window = np.multiply.outer(*(scipy.signal.windows.tukey(size, taper, sym=False) for size in image.shape))
    return scipy.fft.fft2(window * (image - (window * image).sum() / window.sum()))
