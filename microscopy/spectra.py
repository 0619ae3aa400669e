"""The power spectral density of images and its mean over directions."""

import numpy as np
import scipy.fft

from microscopy.scan import DataError


def power_spectrum(image: np.ndarray, nm_per_pixel: float | None = None) -> np.ndarray:
    """Returns the power spectral density of one image (h, w), float64 (h, w), in the frequency order of `numpy.fft.fftfreq`.

    P = |F[w (z - m)]|^2 dA / sum(w^2), w the periodic Hann window, m the w-weighted mean, dA a pixel's area: nm^2 with
    `nm_per_pixel` (square pixels), else 1. White noise of variance s^2 gives s^2 dA everywhere; sum(P) / (h w dA) is
    sum((w (z - m))^2) / sum(w^2), the windowed variance (Parseval).
    """
    image = image.astype(np.float64)
    window = np.multiply.outer(*(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size) for size in image.shape))
    centred = window * (image - (window * image).sum() / window.sum())
    area = 1.0 if nm_per_pixel is None else nm_per_pixel**2
    return np.abs(scipy.fft.fft2(centred)) ** 2 * (area / (window**2).sum())


def radial_psd(images: np.ndarray, nm_per_pixel: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns (frequency, mean power per radial bin), both float64 (k), of images (n, h, w): see `power_spectrum`.

    Bin i holds the frequencies of modulus i/s -+ 1/(2s) cycles per pixel, s = min(h, w), from i = 0 up to Nyquist (i = s // 2);
    the corners of the spectrum beyond are left out. In cycles per nm and units^2 nm^2 with `nm_per_pixel`, else cycles per pixel and
    units^2 pixel^2. Bin 0 is about 0: the mean is taken away. Images are averaged one by one, so their grouping does not matter.
    Raises DataError for another shape, no image, a side under 4 pixels or a value that is not finite.
    """
    images = np.asarray(images)
    if images.ndim != 3 or len(images) == 0 or min(images.shape[1:]) < 4:
        raise DataError(f"images {images.shape}: a set (n, h, w) of one channel, at least 4 x 4 pixels, is needed.")
    if not np.isfinite(images).all():
        raise DataError(f"images: {int((~np.isfinite(images)).sum())} values are NaN or infinite.")
    side = min(images.shape[1:])
    modulus = np.hypot(*np.meshgrid(*(scipy.fft.fftfreq(size) for size in images.shape[1:]), indexing="ij"))
    bins = np.rint(modulus * side).astype(int).ravel()
    kept = bins <= side // 2
    power = sum(power_spectrum(image, nm_per_pixel) for image in images).ravel() / len(images)
    mean = np.bincount(bins[kept], power[kept]) / np.bincount(bins[kept])
    return np.arange(side // 2 + 1) / (side * (1.0 if nm_per_pixel is None else nm_per_pixel)), mean
