"""Fourier ring correlation against a loop over Fourier pixels, its own statistics and the closed form for a signal in noise."""

import cmath
import math

import numpy as np
import pytest

from metrics import frc
from microscopy.scan import DataError


def white(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


def filtered(image, response):
    """Returns the image with each Fourier pixel times response(modulus in cycles per pixel)."""
    modulus = np.hypot(*np.meshgrid(*(np.fft.fftfreq(size) for size in image.shape[-2:]), indexing="ij"))
    return np.fft.ifft2(np.fft.fft2(image) * response(modulus)).real


def loop(first, second):
    """Returns the correlation per ring by sums over every Fourier pixel, each a sum over every pixel; no window."""
    height, width = first.shape
    side, sums = min(height, width), {}
    for u in range(-(height // 2), height - height // 2):
        for v in range(-(width // 2), width - width // 2):
            ring = round(side * math.hypot(u / height, v / width))
            waves = [[cmath.exp(-2j * math.pi * (u * y / height + v * x / width)) for x in range(width)] for y in range(height)]
            one, other = ((image * np.array(waves)).sum() for image in (first, second))
            found = sums.setdefault(ring, [0.0, 0.0, 0.0, 0])
            for i, term in enumerate(((one * other.conjugate()).real, abs(one) ** 2, abs(other) ** 2, 1)):
                found[i] += term
    rings = range(1, side // 2 + 1)
    return [sums[ring][0] / math.sqrt(sums[ring][1] * sums[ring][2]) for ring in rings], [sums[ring][3] for ring in rings]


@pytest.mark.parametrize("shape", [(10, 10), (9, 13), (12, 8)])
def test_rings_against_a_loop_over_fourier_pixels(shape):
    first, second = white(shape, 0), white(shape, 0) + 0.7 * white(shape, 1)
    found = frc.ring_correlation(first, second, taper=0)
    correlation, counts = loop(first, second)
    np.testing.assert_allclose(found.correlation, correlation, atol=1e-9)
    np.testing.assert_array_equal(found.num_pixels, counts)
    np.testing.assert_allclose(found.frequency, np.arange(1, min(shape) // 2 + 1) / min(shape))
    np.testing.assert_allclose(frc.ring_correlation(first, second, 0.25).frequency, found.frequency / 0.25)


@pytest.mark.parametrize("taper", [0, 0.25, frc.TAPER])
def test_a_copy_correlates_fully_and_its_negative_not_at_all(taper):
    image = white((32, 40), 0)
    np.testing.assert_allclose(frc.ring_correlation(image, 3 * image + 7, taper=taper).correlation, 1, atol=1e-9)
    np.testing.assert_allclose(frc.ring_correlation(image, -image, taper=taper).correlation, -1, atol=1e-9)
    assert math.isnan(frc.resolution(frc.ring_correlation(image, image, taper=taper)))
    assert frc.resolution(frc.ring_correlation(image, -image, taper=taper)) == math.inf
    assert (frc.ring_correlation(image, np.zeros_like(image), taper=taper).correlation == 0).all()


def test_independent_noise_correlates_by_one_over_the_root_of_its_pixels():
    pairs = [frc.ring_correlation(white((64, 64), (0, i)), white((64, 64), (1, i)), taper=0) for i in range(60)]
    scaled = np.stack([pair.correlation * np.sqrt(pair.num_pixels) for pair in pairs])[:, 2:]
    assert abs(scaled.mean()) < 4 / math.sqrt(scaled.size)
    assert scaled.std() == pytest.approx(1, abs=4 / math.sqrt(2 * scaled.size))
    tapered = [frc.ring_correlation(white((64, 64), (0, i)), white((64, 64), (1, i))) for i in range(60)]
    wider = np.stack([pair.correlation * np.sqrt(pair.num_pixels) for pair in tapered])[:, 2:]
    assert abs(wider.mean()) < 0.15 and 1.25 < wider.std() < 1.5  # neighbouring frequencies are mixed


@pytest.mark.parametrize("cutoff", [0.1, 0.2, 0.35])
def test_a_band_limited_signal_in_noise_is_resolved_to_its_cutoff(cutoff):
    signal = 10 * filtered(white((3, 256, 256), 0), lambda modulus: modulus <= cutoff)
    first, second = signal + white(signal.shape, 1), signal + white(signal.shape, 2)
    curve = frc.ring_correlation(first, second)
    for threshold in (frc.HALVES, frc.half_bit(curve.num_pixels)):
        assert 1 / frc.resolution(curve, threshold) == pytest.approx(cutoff, rel=0.1)
    assert frc.resolution(curve._replace(frequency=curve.frequency / 0.5)) == pytest.approx(0.5 * frc.resolution(curve))
    assert curve.correlation[curve.frequency < cutoff - 0.02].min() > 0.9


@pytest.mark.parametrize("blur", [1.0, 1.5, 2.5])
def test_a_blurred_signal_in_noise_crosses_where_the_closed_form_does(blur):
    noise = 0.1
    signal = filtered(white((6, 128, 128), 0), lambda modulus: np.exp(-2 * (math.pi * blur * modulus) ** 2))
    first, second = (signal + noise * white(signal.shape, seed) for seed in (1, 2))
    # S / (S + N) = 1/7 where S = N / 6; S = exp(-4 (pi blur f)^2), N = noise^2.
    crossing = math.sqrt(math.log(6 / noise**2)) / (2 * math.pi * blur)
    assert 1 / frc.resolution(frc.ring_correlation(first, second)) == pytest.approx(crossing, rel=0.1)
    # Against the signal itself: sqrt(S / (S + N)) = 1/2 where S = N / 3.
    crossing = math.sqrt(math.log(3 / noise**2)) / (2 * math.pi * blur)
    assert 1 / frc.resolution(frc.ring_correlation(first, signal), frc.REFERENCE) == pytest.approx(crossing, rel=0.1)


def test_the_window_keeps_edges_of_a_steep_spectrum_out_of_the_fine_rings():
    def slope(modulus):
        return np.where(modulus > 0, np.maximum(256 * modulus, 1) ** -2.0, 0)

    rough = 1000 * filtered(white((6, 256, 256), 0), slope)[:, :128, :128]  # a cut-out: not periodic
    first, second = (rough + white(rough.shape, seed) for seed in (1, 2))
    crossing = (6 * 1000**2) ** 0.25 / 256  # S = 1000^2 (256 f)^-4 is N / 6
    assert 1 / frc.resolution(frc.ring_correlation(first, second)) == pytest.approx(crossing, rel=0.1)
    assert not 1 / frc.resolution(frc.ring_correlation(first, second, taper=0)) < 2 * crossing


def test_a_set_is_the_mean_of_its_pairs():
    first, second = white((3, 20, 20), 0), white((3, 20, 20), 0) + white((3, 20, 20), 1)
    whole = frc.ring_correlation(first, second)
    pairs = [frc.ring_correlation(one, other) for one, other in zip(first, second, strict=True)]
    np.testing.assert_allclose(whole.correlation, np.mean([pair.correlation for pair in pairs], 0))
    np.testing.assert_allclose(whole.num_pixels, 3 * pairs[0].num_pixels)


def test_thresholds_and_crossings_by_hand():
    assert frc.half_bit(np.array([1e12]))[0] == pytest.approx(0.1716, abs=1e-4)
    assert frc.half_bit(np.array([4.0]))[0] == pytest.approx((0.2071 + 0.9551) / (1.2071 + 0.4551))
    curve = frc.RingCorrelation(np.array([0.1, 0.2, 0.3]), np.array([0.9, 0.4, 0.1]), np.ones(3))
    assert frc.resolution(curve, 0.25) == pytest.approx(1 / 0.25)
    assert frc.resolution(curve, np.array([0.0, 0.5, 0.0])) == pytest.approx(1 / 0.19)


def test_bad_input_is_refused():
    image = white((8, 8), 0)
    for call, message in (
        (lambda: frc.ring_correlation(image, image[1:]), "same shape"),
        (lambda: frc.ring_correlation(image[:3], image[:3]), "at least 4"),
        (lambda: frc.ring_correlation(image * np.nan, image), "64 values"),
        (lambda: frc.ring_correlation(image, image, taper=1.5), "taper"),
    ):
        with pytest.raises(DataError, match=message):
            call()
