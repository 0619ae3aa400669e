"""The power spectral density against closed forms: white noise, a sinusoid, Parseval, distances."""

import math

import numpy as np
import pytest
import scipy.ndimage

from metrics import surface
from microscopy.scan import DataError


def white(num=16, side=64, seed=0, sigma=1.0):
    return sigma * np.random.default_rng(seed).normal(size=(num, side, side))


@pytest.mark.parametrize(("sigma", "scale"), [(1.0, None), (3.0, 0.25)])
def test_white_noise_is_flat_at_its_variance(sigma, scale):
    frequency, power = surface.radial_psd(white(64, sigma=sigma), scale)
    assert power.dtype == frequency.dtype == np.float64
    area = 1.0 if scale is None else scale**2
    # Bins 0 and 1 miss what went with the mean.
    np.testing.assert_allclose(power[4:], sigma**2 * area, rtol=0.1)
    assert power[2:].mean() == pytest.approx(sigma**2 * area, rel=0.02)
    assert frequency[-1] == pytest.approx(0.5 / (scale or 1.0)) and frequency[0] == 0 and len(frequency) == 33


@pytest.mark.parametrize("shape", [(64, 64), (64, 96), (63, 50)])
def test_parseval(shape):
    image = np.random.default_rng(1).normal(3.0, 2.0, shape)
    window = np.outer(*(np.sin(np.pi * np.arange(n) / n) ** 2 for n in shape))
    centred = image - np.average(image, weights=window)
    variance = ((window * centred) ** 2).sum() / (window**2).sum()
    for scale in (None, 0.25):
        power = surface.power_spectrum(image, scale)
        assert power.sum() / (image.size * (scale or 1.0) ** 2) == pytest.approx(variance, rel=1e-12)


@pytest.mark.parametrize("cycles", [5, 12, 20])
def test_a_sinusoid_peaks_at_its_frequency_with_its_power(cycles):
    x = np.arange(64)
    image = np.broadcast_to(2.0 * np.sin(2 * np.pi * cycles * x / 64), (64, 64))
    frequency, power = surface.radial_psd(image[None], 0.5)
    assert frequency[np.argmax(power)] == pytest.approx(cycles / 64 / 0.5)
    full = surface.power_spectrum(image, 0.5)
    assert full.sum() / (64 * 64 * 0.25) == pytest.approx(2.0, rel=1e-9)


def test_radial_means_by_hand():
    image = white(1, 16)[0]
    full = surface.power_spectrum(image)
    y, x = np.meshgrid(np.fft.fftfreq(16) * 16, np.fft.fftfreq(16) * 16, indexing="ij")
    expected = [full[np.abs(np.hypot(y, x) - radius) < 0.5].mean() for radius in range(9)]
    np.testing.assert_allclose(surface.radial_psd(image[None])[1], expected, rtol=1e-12)


def test_does_not_depend_on_grouping_or_height_offset():
    images = white(6)
    whole = surface.radial_psd(images)[1]
    parts = (surface.radial_psd(images[:2])[1] * 2 + surface.radial_psd(images[2:])[1] * 4) / 6
    np.testing.assert_allclose(whole, parts, rtol=1e-12)
    np.testing.assert_allclose(whole[1:], surface.radial_psd(images + 100.0)[1][1:], rtol=1e-8)


def test_distances():
    images = white()
    blurred = scipy.ndimage.gaussian_filter(images, (0, 1.5, 1.5))
    assert surface.log_psd_distance(images, images) == 0
    assert surface.log_psd_distance(images, white(seed=1)) < 0.05
    assert surface.log_psd_distance(images, math.sqrt(10.0) * images) == pytest.approx(1.0)
    assert surface.log_psd_distance(images, blurred) > 1
    assert surface.log_psd_distance(images, blurred) == pytest.approx(surface.log_psd_distance(blurred, images), rel=1e-3)


def test_a_gaussian_blur_is_as_far_as_its_transfer_function_says():
    sigma = 0.8
    images = white(64)
    blurred = np.stack([scipy.ndimage.fourier_gaussian(np.fft.fft2(image), sigma) for image in images])
    frequency = np.arange(1, 33) / 64
    expected = np.log10(np.exp(-((2 * np.pi * frequency * sigma) ** 2)))
    assert surface.log_psd_distance(images, np.fft.ifft2(blurred).real) == pytest.approx(math.sqrt((expected**2).mean()), rel=0.02)


def test_a_flat_set_is_far_but_finite_and_bad_input_is_refused():
    images = white(2)
    assert 10 < surface.log_psd_distance(images, np.full_like(images, 0.1)) <= 12
    with pytest.raises(DataError, match="flat"):
        surface.log_psd_distance(np.full_like(images, 0.1), images)
    with pytest.raises(DataError, match="resize"):
        surface.log_psd_distance(images, white(2, 32))
    with pytest.raises(DataError, match="one channel"):
        surface.radial_psd(images[0])
    with pytest.raises(DataError, match="NaN"):
        surface.radial_psd(np.full((1, 8, 8), np.nan))
