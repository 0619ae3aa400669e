"""Distances between power spectra against closed forms."""

import math

import numpy as np
import pytest
import scipy.ndimage

from metrics import surface
from microscopy.scan import DataError


def white(num=16, side=64, seed=0, sigma=1.0):
    return sigma * np.random.default_rng(seed).normal(size=(num, side, side))


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
