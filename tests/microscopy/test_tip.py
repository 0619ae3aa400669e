"""Dilation by a paraboloid against brute force and against the closed forms of a point and of a spherical cap."""

import math

import numpy as np
import pytest
import scipy.optimize

from microscopy import surfaces, tip
from microscopy.scan import DataError


def brute_force(surface, nm_per_pixel, radius):
    y, x = np.indices(surface.shape)
    dilated = np.empty_like(surface)
    for i, j in np.ndindex(surface.shape):
        dilated[i, j] = (surface - ((y - i) ** 2 + (x - j) ** 2) * nm_per_pixel**2 / (2 * radius)).max()
    return dilated


@pytest.mark.parametrize("radius", [0.3, 2.0, 50.0])
@pytest.mark.parametrize("roughness", [0.1, 5.0])
def test_equals_brute_force(radius, roughness):
    surface = roughness * np.random.default_rng(1).normal(size=(23, 34))
    np.testing.assert_allclose(tip.dilate(surface, 0.25, radius), brute_force(surface, 0.25, radius), rtol=0, atol=1e-12)


def test_keeps_dtype_and_lies_on_or_above():
    surface = np.random.default_rng(0).normal(size=(16, 9)).astype(np.float32)
    dilated = tip.dilate(surface, 0.5, 3.0)
    assert dilated.dtype == np.float32 and dilated.shape == surface.shape
    assert (dilated >= surface).all() and (dilated > surface).any()


def test_a_point_becomes_the_tip():
    scale, radius, height = 0.1, 4.0, 3.0
    surface = np.zeros((201, 201))
    surface[100, 100] = height
    row = tip.dilate(surface, scale, radius)[100]
    distance = (np.arange(201) - 100) * scale
    np.testing.assert_allclose(row, np.maximum(height - distance**2 / (2 * radius), 0), atol=1e-12)
    assert abs((row > 0).sum() * scale - 2 * math.sqrt(2 * radius * height)) <= scale


@pytest.mark.parametrize("tip_radius", [2.0, 5.0])
@pytest.mark.parametrize("height", [2.7, 4.5])
def test_a_cap_is_broadened_as_the_contact_point_says(tip_radius, height):
    """Where the cap's normal leans by t, the paraboloid touching it has its apex R tan t further out and R tan^2(t) / 2 lower."""
    scale, diameter = 0.05, 9.0
    axis = (np.arange(801) - 400) * scale
    surface = surfaces.cap_profile(np.hypot(axis[:, None], axis[None]), diameter, height)
    row = tip.dilate(surface, scale, tip_radius)[400]
    sphere = (diameter**2 / 4 + height**2) / (2 * height)
    tangent = np.linspace(0, 1.0, 400)
    angle = np.arctan(tangent)
    apex = sphere * np.sin(angle) + tip_radius * tangent
    expected = sphere * np.cos(angle) - (sphere - height) - tip_radius * tangent**2 / 2
    on_cap = expected > 0.05  # nearer to the base the pixel beyond the kink would be interpolated
    assert on_cap.sum() > 50
    np.testing.assert_allclose(np.interp(apex[on_cap], axis, row), expected[on_cap], atol=2e-3)
    base = scipy.optimize.brentq(lambda t: sphere * math.cos(math.atan(t)) - sphere + height - tip_radius * t * t / 2, 0, 50)
    width = 2 * (sphere * math.sin(math.atan(base)) + tip_radius * base)
    assert abs((row > 0).sum() * scale - width) <= 2 * scale


def test_radius_zero_copies_and_bad_input_is_refused():
    surface = np.random.default_rng(0).normal(size=(8, 8))
    copy = tip.dilate(surface, 0.25, 0)
    assert np.array_equal(copy, surface) and copy is not surface
    with pytest.raises(DataError, match="radius -1"):
        tip.dilate(surface, 0.25, -1)
    with pytest.raises(DataError, match="finite"):
        tip.dilate(np.array([[0.0, np.nan]]), 0.25, 1)
