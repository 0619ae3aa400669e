"""Surface statistics of sets of images: the distance between their radially averaged power spectral densities."""

import numpy as np

from microscopy.scan import DataError
from microscopy.spectra import radial_psd

FLOOR = 1e-12


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
    logs = [np.log10(np.maximum(spectrum, FLOOR * power.max())) for spectrum in (power, other_power)]
    return float(np.sqrt(np.mean((logs[0] - logs[1]) ** 2)))
