"""The power spectral density against closed forms: white noise, a sinusoid, Parseval."""

import numpy as np
import pytest

from microscopy import spectra
from microscopy.scan import DataError


def white(num=16, side=64, seed=0, sigma=1.0):
    return sigma * np.random.default_rng(seed).normal(size=(num, side, side))


@pytest.mark.parametrize(("sigma", "scale"), [(1.0, None), (3.0, 0.25)])
def test_white_noise_is_flat_at_its_variance(sigma, scale):
    frequency, power = spectra.radial_psd(white(64, sigma=sigma), scale)
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
        power = spectra.power_spectrum(image, scale)
        assert power.sum() / (image.size * (scale or 1.0) ** 2) == pytest.approx(variance, rel=1e-12)


@pytest.mark.parametrize("cycles", [5, 12, 20])
def test_a_sinusoid_peaks_at_its_frequency_with_its_power(cycles):
    x = np.arange(64)
    image = np.broadcast_to(2.0 * np.sin(2 * np.pi * cycles * x / 64), (64, 64))
    frequency, power = spectra.radial_psd(image[None], 0.5)
    assert frequency[np.argmax(power)] == pytest.approx(cycles / 64 / 0.5)
    full = spectra.power_spectrum(image, 0.5)
    assert full.sum() / (64 * 64 * 0.25) == pytest.approx(2.0, rel=1e-9)


def test_radial_means_by_hand():
    image = white(1, 16)[0]
    full = spectra.power_spectrum(image)
    y, x = np.meshgrid(np.fft.fftfreq(16) * 16, np.fft.fftfreq(16) * 16, indexing="ij")
    expected = [full[np.abs(np.hypot(y, x) - radius) < 0.5].mean() for radius in range(9)]
    np.testing.assert_allclose(spectra.radial_psd(image[None])[1], expected, rtol=1e-12)


def test_does_not_depend_on_grouping_or_height_offset():
    images = white(6)
    whole = spectra.radial_psd(images)[1]
    parts = (spectra.radial_psd(images[:2])[1] * 2 + spectra.radial_psd(images[2:])[1] * 4) / 6
    np.testing.assert_allclose(whole, parts, rtol=1e-12)
    np.testing.assert_allclose(whole[1:], spectra.radial_psd(images + 100.0)[1][1:], rtol=1e-8)


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="one channel"):
        spectra.radial_psd(white(2)[0])
    with pytest.raises(DataError, match="NaN"):
        spectra.radial_psd(np.full((1, 8, 8), np.nan))
