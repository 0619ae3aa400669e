"""Planes and polynomials against NumPy's least squares, closed forms and drawn staircases of known height."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from microscopy import planes, surfaces

SLOPES = [(0.0, 0.0), (3.0, -0.01), (1e-4, 50.0)]


def staircase(shape=(128, 160), step=0.3, width=30.0, azimuth=0.4):
    """Returns (terraces `step` high and `width` pixels wide, their whole numbers); steps run across the rows."""
    y, x = np.indices(shape)
    number = np.floor((x * np.cos(azimuth) + y * np.sin(azimuth)) / width)
    return step * number, number.astype(int)


def terrace_heights(levelled, number, margin=3):
    """Returns the median of each terrace and the largest deviation from it `margin` pixels off the steps."""
    inner = [scipy.ndimage.binary_erosion(number == n, iterations=margin, border_value=1) for n in np.unique(number)]
    inner = [mask for mask in inner if mask.sum() > 200]
    medians = np.array([np.median(levelled[mask]) for mask in inner])
    return medians, max(np.abs(levelled[mask] - median).max() for mask, median in zip(inner, medians, strict=True))


@pytest.mark.parametrize("fit", [planes.plane, planes.background_plane, planes.facet])
@pytest.mark.parametrize("slopes", SLOPES)
def test_any_plane_is_levelled(fit, slopes):
    y, x = np.indices((60, 83))
    tilted = 1234.5 + slopes[0] * y + slopes[1] * x
    levelled, coefficients = fit(tilted)
    assert np.abs(levelled).max() <= 1e-6 * max(np.ptp(tilted), 1e-3)
    np.testing.assert_allclose(coefficients, [tilted.mean(), *slopes], atol=1e-9)


def test_plane_is_the_least_squares_one():
    height = np.random.default_rng(0).normal(size=(20, 31)).cumsum(0).cumsum(1)
    y, x = np.indices(height.shape)
    design = np.stack([np.ones(height.size), y.ravel(), x.ravel()], -1)
    solution = np.linalg.lstsq(design, height.ravel(), rcond=None)[0]
    levelled, coefficients = planes.plane(height)
    np.testing.assert_allclose(coefficients[1:], solution[1:], rtol=1e-9)
    np.testing.assert_allclose(levelled.ravel(), height.ravel() - design @ solution, atol=1e-9)


def test_polynomial_takes_any_plane_too():
    y, x = np.indices((60, 83))
    for slopes in SLOPES:
        tilted = 1234.5 + slopes[0] * y + slopes[1] * x
        for degree in (2, 3):
            assert np.abs(planes.polynomial(tilted, degree)[0]).max() <= 1e-6 * max(np.ptp(tilted), 1e-3)


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("shape", [(40, 51), (2, 30), (1, 7)])
def test_polynomial_is_numpys_least_squares_one(degree, shape):
    height = np.random.default_rng(0).normal(size=shape).cumsum(0).cumsum(1)
    y, x = np.meshgrid(*(np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in shape), indexing="ij")
    design = np.polynomial.legendre.legvander2d(y.ravel(), x.ravel(), [degree, degree])
    low = np.add.outer(np.arange(degree + 1), np.arange(degree + 1)) <= degree
    solution = np.linalg.lstsq(design[:, low.ravel()], height.ravel(), rcond=None)[0]
    levelled, coefficients = planes.polynomial(height, degree)
    np.testing.assert_allclose(levelled.ravel(), height.ravel() - design[:, low.ravel()] @ solution, atol=1e-9)
    assert (coefficients[~low] == 0).all()
    np.testing.assert_allclose(np.polynomial.legendre.legval2d(y, x, coefficients), height - levelled, atol=1e-9)
    if min(shape) > degree:
        np.testing.assert_allclose(coefficients[low], solution, atol=1e-9)


def test_polynomial_of_degree_2_leaves_a_cubic_and_degree_3_takes_it():
    y, x = np.meshgrid(np.linspace(-1, 1, 50), np.linspace(-1, 1, 60), indexing="ij")
    bow = 4.0 + x**2 - 2 * x * y + 3 * y - 0.5 * y * x**2
    assert np.abs(planes.polynomial(bow, 2)[0]).max() > 0.1
    levelled, coefficients = planes.polynomial(bow, 3)
    assert np.abs(levelled).max() < 1e-12
    assert (
        coefficients[1, 1] == pytest.approx(-2)
        and coefficients[1, 2] == pytest.approx(-1 / 3)
        and coefficients[3, 0] == pytest.approx(0, abs=1e-12)
    )


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_particles_pull_the_least_squares_plane_but_not_that_of_the_background(noise):
    random = np.random.default_rng(0)
    y, x = np.indices((150, 200))
    height = 5.0 + 0.01 * y - 0.02 * x + noise * random.normal(size=y.shape)
    particles = (np.hypot(y % 30 - 15, x % 25 - 12) < 10) & (x > 60)
    assert 0.2 < particles.mean() < 0.4
    height[particles] += 4.0
    levelled, (offset, slope_y, slope_x) = planes.background_plane(height)
    assert [slope_y * 150, slope_x * 200] == pytest.approx([1.5, -4.0], abs=1e-6 if noise == 0 else noise / 5)
    assert np.median(levelled[~particles]) == pytest.approx(0, abs=1e-6 if noise == 0 else noise / 5)
    assert abs(planes.plane(height)[1][2] * 200 + 4.0) > 1.0


def test_half_sample_mode_finds_the_denser_of_two_heaps():
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(3.0, 0.1, 6000), random.normal(0.0, 0.3, 6000), random.uniform(-5, 50, 3000)])
    kernel = scipy.stats.gaussian_kde(values, 0.005)
    grid = np.linspace(2, 4, 401)
    assert planes.half_sample_mode(values) == pytest.approx(grid[kernel(grid).argmax()], abs=0.05)
    assert planes.half_sample_mode(np.array([[4.0]])) == 4.0


@pytest.mark.parametrize("azimuth", [0.0, 0.4, 1.2, 2.5])
@pytest.mark.parametrize("slopes", [(0.0, 0.0), (0.02, -0.03)])
def test_facet_makes_terraces_flat_and_keeps_their_steps(azimuth, slopes):
    stairs, number = staircase(azimuth=azimuth)
    y, x = np.indices(stairs.shape)
    levelled, coefficients = planes.facet(100.0 + stairs + slopes[0] * y + slopes[1] * x)
    medians, unevenness = terrace_heights(levelled, number)
    np.testing.assert_allclose(np.diff(medians), 0.3, rtol=0.02)
    assert unevenness < 0.02 * 0.3 and coefficients[1:] == pytest.approx(slopes, abs=2e-5)
    left, _ = terrace_heights(planes.plane(stairs)[0], number)
    assert np.abs(np.diff(left) - 0.3).max() > 0.1  # a least-squares plane lies across the steps


def test_facet_with_noise_and_uneven_rows():
    random = np.random.default_rng(3)
    y, x = np.indices((200, 256))
    stairs, number = staircase((200, 256), width=60.0, azimuth=0.5)
    height = stairs + 0.01 * y - 0.02 * x + 0.05 * random.normal(size=y.shape) + 0.1 * random.normal(size=(200, 1))
    _, (_, slope_y, slope_x) = planes.facet(height)
    assert abs(slope_x + 0.02) * 60 < 0.02 * 0.3  # over a terrace's width, of the step
    # Uneven rows hide the tilt along y: the standard error of a line through 200 of them is what can be reached.
    assert abs(slope_y - 0.01) < 4 * 0.1 * np.sqrt(12 / 200**3)
    assert abs(planes.plane(height)[1][2] + 0.02) * 60 > 0.5 * 0.3


def test_facet_lets_particles_on_terraces_stand():
    random = np.random.default_rng(0)
    stairs = surfaces.terraces((256, 256), 0.25, 0.335, 20.0, 1.0, random)
    centres = np.array([[12.0, 15.0], [40.0, 20.0], [30.0, 50.0], [55.0, 50.0]])
    height = surfaces.add_caps(stairs, 0.25, centres, np.full(4, 9.0), np.full(4, 4.0))
    y, x = np.indices(height.shape)
    levelled, _ = planes.facet(height + 0.004 * x - 0.003 * y)
    assert np.abs(levelled - levelled.mean() - height + height.mean()).max() < 0.02 * 4.0
