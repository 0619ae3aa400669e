"""Surface statistics against closed forms: sines, caps, Gaussian and self-affine surfaces; distances between spectra."""

import math

import numpy as np
import pytest
import scipy.ndimage

from metrics import surface
from microscopy.scan import DataError
from microscopy.spectra import power_spectrum, radial_psd
from microscopy.surfaces import cap_profile, self_affine


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


def wave(period=16.0, side=128, amplitude=3.0):
    return np.broadcast_to(amplitude * np.sin(2 * np.pi * np.arange(side) / period), (side, side)) + 7.0


def test_heights_of_a_sine():
    found = surface.height_parameters(wave(128.0, 2048))
    assert found == pytest.approx({"sa": 6 / math.pi, "sq": 3 / math.sqrt(2), "ssk": 0, "sku": 1.5}, rel=3e-4, abs=1e-10)


def test_heights_of_a_spherical_cap():
    size, diameter, height = 1001, 800.0, 100.0
    grid = np.arange(size) - size // 2
    image = cap_profile(np.hypot(grid[:, None], grid), diameter, height)
    radius = (diameter**2 / 4 + height**2) / (2 * height)
    # Over the cap's height t, the footprint's area above t is pi (2 R (h - t) - (h - t)^2), so that E[z^k] = int k t^(k-1) A(t) dt.
    moments = [1.0]
    for k in range(1, 5):
        terms = (2 * radius * height ** (k + 1) / (k + 1), 2 * height ** (k + 2) / ((k + 1) * (k + 2)))
        moments.append(math.pi * (terms[0] - terms[1]) / size**2)
    mean = moments[1]
    second = moments[2] - mean**2
    third = moments[3] - 3 * mean * moments[2] + 2 * mean**3
    fourth = moments[4] - 4 * mean * moments[3] + 6 * mean**2 * moments[2] - 3 * mean**4
    above = height - mean
    absolute = 2 * math.pi * (radius * above**2 - above**3 / 3) / size**2
    expected = {"sa": absolute, "sq": math.sqrt(second), "ssk": third / second**1.5, "sku": fourth / second**2}
    assert surface.height_parameters(image) == pytest.approx(expected, rel=1e-3)
    assert expected["ssk"] > 0.3


def test_heights_of_gaussian_noise_and_of_a_flat_map():
    found = surface.height_parameters(white(1, 512, sigma=2.0)[0] - 50)
    assert found == pytest.approx({"sa": 2 * math.sqrt(2 / math.pi), "sq": 2, "ssk": 0, "sku": 3}, rel=0.02, abs=0.02)
    flat = surface.height_parameters(np.full((8, 8), 0.1))
    assert flat["sa"] == pytest.approx(0, abs=1e-15) and math.isnan(flat["ssk"]) and math.isnan(flat["sku"])


@pytest.mark.parametrize("step", [None, 0.37])
def test_the_integral_of_the_spectrum_is_the_mean_square(step):
    image = scipy.ndimage.gaussian_filter(white(1, 96)[0], 2)[:, :75] + 4
    fy, fx, power = surface.areal_psd(image, step)
    square = surface.height_parameters(image)["sq"] ** 2
    assert power.sum() * (fy[1] - fy[0]) * (fx[1] - fx[0]) == pytest.approx(square, rel=1e-6)
    assert fy[1] == pytest.approx(1 / (96 * (step or 1)))
    # With the window it is the windowed variance.
    window = np.multiply.outer(*(np.sin(np.pi * np.arange(size) / size) ** 2 for size in image.shape))
    centred = window * (image - np.average(image, weights=window))
    windowed = power_spectrum(image, step).sum() * fy[1] * fx[1]
    assert windowed == pytest.approx((centred**2).sum() / (window**2).sum(), rel=1e-6)


def test_a_sine_has_its_power_at_its_frequency():
    fy, fx, power = surface.areal_psd(wave(16.0), 0.5)
    row, column = np.unravel_index(power.argmax(), power.shape)
    assert fy[row] == 0 and abs(fx[column]) == pytest.approx(1 / 8)


@pytest.mark.parametrize("shape", [(32, 32), (33, 21), (8, 50)])
def test_the_spectrum_to_the_corners_goes_on_where_the_radial_one_ends(shape):
    image = white(1, 50)[0][: shape[0], : shape[1]]
    frequency, power = surface.radial_psd_to_corners(image, 0.5)
    expected = radial_psd(image[None], 0.5)
    np.testing.assert_allclose(frequency[: len(expected[0])], expected[0])
    np.testing.assert_allclose(power[: len(expected[1])], expected[1])
    assert np.isfinite(power).all() and frequency[-1] == pytest.approx(math.hypot(1, 1), abs=2 / min(shape))
    board = np.indices((32, 32)).sum(0) % 2 - 0.5
    power = surface.radial_psd_to_corners(board)[1]
    assert power[:17].max() < 1e-20 and power.argmax() == len(power) - 1 == 23


@pytest.mark.parametrize("hurst", [0.3, 0.5, 0.8])
def test_the_slope_of_a_self_affine_surface(hurst):
    random = np.random.default_rng(0)
    images = np.stack([self_affine((256, 256), 2.0, hurst, 1.0, 10_000.0, random) for _ in range(12)])
    frequency, power = radial_psd(images, 2.0)
    assert surface.spectral_slope(frequency, power, 8 / 512, 0.2) == pytest.approx(-2 * (hurst + 1), abs=0.05)
    with pytest.raises(DataError, match="widen"):
        surface.spectral_slope(frequency, power, 0.0, 1 / 512)


def test_autocorrelation_against_the_sum_over_pixels():
    image = white(1, 9)[0][:, :7]
    heights, found = image - image.mean(), surface.autocorrelation(image)
    assert found.shape == (9, 7) and found[4, 3] == pytest.approx(1)
    for y, x in ((0, 0), (2, 1), (4, 3), (3, -2)):
        first = heights[y:, max(x, 0) : 7 + min(x, 0)]
        second = heights[: 9 - y, max(-x, 0) : 7 - max(x, 0)]
        assert found[4 + y, 3 + x] == pytest.approx((first * second).mean() / heights.var())
        assert found[4 - y, 3 - x] == pytest.approx(found[4 + y, 3 + x])


def test_correlation_lengths_of_a_sine_and_of_smoothed_noise():
    expected = 32 * math.acos(0.2) / (2 * math.pi)
    assert surface.correlation_length(wave(32.0, 256)) == pytest.approx(expected, rel=0.02)
    assert surface.correlation_length(wave(32.0, 256).T, 0.5) == pytest.approx(expected / 2, rel=0.02)
    sigma = 4.0
    noise = white(8, 256)
    smooth = [scipy.ndimage.gaussian_filter(image, (2 * sigma, sigma), mode="wrap") for image in noise]
    for decay in (0.2, 1 / math.e):  # the correlation of Gaussian-smoothed noise is exp(-t^2 / (4 sigma^2))
        found = np.mean([surface.correlation_length(image, decay=decay) for image in smooth])
        assert found == pytest.approx(2 * sigma * math.sqrt(-math.log(decay)), rel=0.06)


def test_correlation_length_of_a_flat_map_is_nan():
    assert math.isnan(surface.correlation_length(np.ones((16, 16))))
    with pytest.raises(DataError, match="decay"):
        surface.correlation_length(wave(), decay=1.0)


def test_shares_of_heights():
    images = np.array([[[0.0, 2.0], [2.0, 4.0]], [[10.0, 10.0], [10.0, 10.0]]])
    found = surface.height_distribution(images, np.array([-2.5, -1.0, 1.0, 2.5]))
    np.testing.assert_array_equal(found, [[0.25, 0.5, 0.25], [0, 1, 0]])
    with pytest.raises(DataError, match="edges"):
        surface.height_distribution(images, np.array([-1.0, 0.0, 1.0]))
