"""Gaussian smoothing against SciPy's."""

import numpy as np
import pytest
import scipy.ndimage

from superres.smoothing import gaussian_blur


@pytest.mark.parametrize("sigma", [0, 0.4, 1.0, 2.3, 6.0])
def test_it_is_scipys(sigma):
    images = np.random.default_rng(0).uniform(-1, 1, (2, 17, 30, 3)).astype(np.float32)
    expected = scipy.ndimage.gaussian_filter(images.astype(np.float64), (0, sigma, sigma, 0))
    found = gaussian_blur(images, sigma)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_it_takes_uint8_and_refuses_what_is_no_width():
    grey = np.full((1, 9, 9, 1), 200, np.uint8)
    np.testing.assert_allclose(gaussian_blur(grey, 1.5), grey.astype(np.float32), rtol=1e-6)
    for sigma in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="sigma"):
            gaussian_blur(grey, sigma)
