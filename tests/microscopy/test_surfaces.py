"""Substrates, caps and deposition against closed forms and against counting."""

import math

import numpy as np
import pytest

from metrics.surface import radial_psd
from microscopy import surfaces
from microscopy.scan import DataError


@pytest.mark.parametrize("height", [1.0, 3.0, 4.5])
def test_cap_volume_and_footprint_from_pixels(height):
    scale, diameter = 0.05, 9.0
    axis = (np.arange(400) - 199.5) * scale
    profile = surfaces.cap_profile(np.hypot(axis[:, None], axis[None]), diameter, height)
    radius = diameter / 2
    assert profile.sum() * scale**2 == pytest.approx(math.pi * height * (3 * radius**2 + height**2) / 6, rel=2e-3)
    assert (profile > 0).sum() * scale**2 == pytest.approx(math.pi * radius**2, rel=3e-3)
    assert profile.max() == pytest.approx(height, abs=1e-3) and profile.min() == 0
    assert surfaces.cap_volume(diameter, height) == pytest.approx(math.pi * height * (3 * radius**2 + height**2) / 6, rel=1e-12)


def test_a_hemisphere_is_half_a_ball():
    assert surfaces.cap_volume(2.0, 1.0) == pytest.approx(2 / 3 * math.pi)


def test_terraces_lie_a_step_apart():
    for seed in range(4):
        heights = surfaces.terraces((300, 400), 0.25, 0.335, 15.0, 2.0, np.random.default_rng(seed))
        levels, counts = np.unique(heights, return_counts=True)
        np.testing.assert_allclose(levels / 0.335, np.arange(len(levels)), atol=1e-9)
        assert len(levels) >= 4 and counts.max() > 0.05 * heights.size


def test_terrace_width():
    widths = []
    for seed in range(20):
        heights = surfaces.terraces((200, 800), 0.25, 1.0, 10.0, 0.0, np.random.default_rng(seed))
        slope_y, slope_x = np.ptp(heights[:, 400]) / 50, np.ptp(heights[100]) / 200
        widths.append(1 / math.hypot(slope_y, slope_x))
    assert np.mean(widths) == pytest.approx(10.0, rel=0.1)


def spectrum_slope(hurst, spectrum):
    heights = np.stack([surfaces.self_affine((256, 256), 0.25, hurst, 1.0, 64.0, np.random.default_rng(seed)) for seed in range(6)])
    assert heights.std(axis=(1, 2)) == pytest.approx(np.ones(6))
    return spectrum(heights)


def periodogram(heights):
    power = (np.abs(np.fft.fft2(heights)) ** 2).mean(0)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None])
    used = (frequency > 4 / 256) & (frequency < 0.4)
    return np.polyfit(np.log(frequency[used]), np.log(power[used]), 1)[0]


def windowed(heights):
    frequency, power = radial_psd(heights, 0.25)
    used = slice(5, 100)
    return np.polyfit(np.log(frequency[used]), np.log(power[used]), 1)[0]


@pytest.mark.parametrize("spectrum", [periodogram, windowed])
@pytest.mark.parametrize("hurst", [0.3, 0.5, 0.8])
def test_self_affine_spectrum_falls_as_the_hurst_exponent_says(hurst, spectrum):
    assert spectrum_slope(hurst, spectrum) == pytest.approx(-2 * (hurst + 1), abs=0.1)


def test_self_affine_is_flat_above_the_correlation_length():
    heights = np.stack([surfaces.self_affine((256, 256), 0.25, 0.5, 1.0, 4.0, np.random.default_rng(seed)) for seed in range(8)])
    frequency, power = radial_psd(heights, 0.25)
    slow = (frequency > 0.03) & (frequency < 0.2)
    assert abs(np.polyfit(np.log(frequency[slow]), np.log(power[slow]), 1)[0]) < 0.2


def test_diameters_are_log_normal_and_cover_what_was_asked():
    diameters = surfaces.draw_diameters(1e6, 0.2, 9.0, 1.25, np.random.default_rng(0))
    logs = np.log(diameters)
    assert np.exp(np.median(logs)) == pytest.approx(9.0, rel=0.02)
    assert np.exp(logs.std()) == pytest.approx(1.25, rel=0.02)
    assert abs(((logs - logs.mean()) ** 3).mean() / logs.std() ** 3) < 0.15
    assert math.pi / 4 * (diameters**2).sum() == pytest.approx(0.2e6, rel=1e-3)
    assert surfaces.draw_diameters(1e4, 0.0, 9.0, 1.25, np.random.default_rng(0)).size == 0


def gaps(centres, diameters):
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1) - (diameters[:, None] + diameters[None]) / 2
    np.fill_diagonal(distance, np.inf)
    return distance


def test_particles_keep_apart_or_touch():
    random = np.random.default_rng(0)
    diameters = surfaces.draw_diameters(200.0**2, 0.2, 9.0, 1.25, random)
    apart = gaps(surfaces.deposit(diameters, (200.0, 200.0), 0.0, 2.0, random), diameters)
    assert apart.min() >= 2.0
    centres = surfaces.deposit(diameters, (200.0, 200.0), 0.5, 2.0, random)
    mixed = gaps(centres, diameters)
    assert mixed.min() > -1e-9
    touching = (mixed < 1e-9).sum() / 2
    assert 0.35 < touching / len(diameters) < 0.65
    assert (centres >= 0).all() and (centres <= 200).all()


def test_no_place_left_is_said():
    with pytest.raises(DataError, match="coverage") as error:
        surfaces.deposit(np.full(60, 10.0), (50.0, 50.0), 0.0, 2.0, np.random.default_rng(0))
    assert len(str(error.value).splitlines()) <= 5


def test_caps_rest_on_the_substrate_and_are_cut_by_the_border():
    substrate = np.zeros((80, 100))
    substrate[:, 50:] = 1.0
    centres, diameters, heights = np.array([[10.0, 5.0], [10.0, 20.0], [0.0, 11.0]]), np.array([6.0, 4.0, 2.0]), np.array([3.0, 1.0, 1.0])
    covered = surfaces.add_caps(substrate, 0.25, centres, diameters, heights)
    assert covered[40, 20] == pytest.approx(3.0) and covered[40, 80] == pytest.approx(2.0) and covered[0, 44] == pytest.approx(1.0)
    y, x = np.indices(substrate.shape) * 0.25
    expected = substrate + sum(
        surfaces.cap_profile(np.hypot(y - centre[0], x - centre[1]), d, h) for centre, d, h in zip(centres, diameters, heights, strict=True)
    )
    np.testing.assert_allclose(covered, expected, atol=1e-12)


def test_a_cap_is_rigid_across_a_step():
    substrate = np.zeros((80, 80))
    substrate[:, 41:] = 0.335
    covered = surfaces.add_caps(substrate, 0.25, np.array([[10.0, 10.0]]), np.array([8.0]), np.array([3.0]))
    y, x = np.indices(substrate.shape) * 0.25
    profile = surfaces.cap_profile(np.hypot(y - 10, x - 10), 8.0, 3.0)
    np.testing.assert_allclose(covered, np.maximum(substrate, profile), atol=1e-12)
