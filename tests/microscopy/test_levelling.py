"""Planes and row offsets are removed exactly, and the documented bias of row medians is what it is said to be."""

import json

import numpy as np
import pytest
import scipy.stats

from microscopy import levelling
from microscopy.scan import DataError


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (3.0, -0.01), (1e-4, 50.0)])
def test_any_plane_is_levelled(slopes):
    y, x = np.indices((60, 83))
    tilted = 1234.5 + slopes[0] * y + slopes[1] * x
    levelled, coefficients = levelling.plane(tilted)
    assert np.abs(levelled).max() <= 1e-6 * max(np.ptp(tilted), 1e-3)
    np.testing.assert_allclose(coefficients, [tilted.mean(), *slopes], atol=1e-9)


def test_plane_is_the_least_squares_one():
    height = np.random.default_rng(0).normal(size=(20, 31)).cumsum(0).cumsum(1)
    y, x = np.indices(height.shape)
    design = np.stack([np.ones(height.size), y.ravel(), x.ravel()], -1)
    solution = np.linalg.lstsq(design, height.ravel(), rcond=None)[0]
    levelled, coefficients = levelling.plane(height)
    np.testing.assert_allclose(coefficients[1:], solution[1:], rtol=1e-9)
    np.testing.assert_allclose(levelled.ravel(), height.ravel() - design @ solution, atol=1e-9)


def test_row_offsets_are_removed():
    random = np.random.default_rng(0)
    substrate = random.normal(size=(1, 101))
    offsets = random.normal(size=(40, 1))
    levelled, medians = levelling.row_medians(substrate + offsets)
    np.testing.assert_allclose(levelled, np.broadcast_to(substrate - np.median(substrate), levelled.shape), atol=1e-12)
    np.testing.assert_allclose(medians, offsets[:, 0] + np.median(substrate), atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.2, 1 / 3])
def test_row_medians_are_biased_by_particles_as_documented(share):
    noise = np.random.default_rng(0).normal(size=(200, 3000))
    covered = int(share * 3000)
    noise[:, :covered] += 100.0
    levelled, _ = levelling.row_medians(noise)
    assert levelled[:, covered:].mean() == pytest.approx(-scipy.stats.norm.ppf(0.5 / (1 - share)), abs=0.01)


def test_level_by_every_method():
    y, x = np.indices((50, 70))
    substrate = np.random.default_rng(1).normal(size=(50, 70)).astype(np.float32)
    tilted = substrate + 0.5 * y - 0.2 * x + np.random.default_rng(2).normal(size=(50, 1))
    spread = []
    for method in levelling.METHODS:
        levelled, record = levelling.level(tilted, method)
        assert levelled.dtype == np.float32 and record["method"] == method and json.loads(json.dumps(record)) == record
        spread.append(levelled.std())
    assert spread[0] > spread[1] > spread[2] and spread[2] == pytest.approx(1.0, abs=0.05)
    assert record["slope_y"] == pytest.approx(0.5, abs=0.02) and record["slope_x"] == pytest.approx(-0.2, abs=0.01)
    assert record["row_shifts_rms"] == pytest.approx(1.0, abs=0.3)
    assert np.array_equal(levelling.level(substrate, "none")[0], substrate)


def test_whole_numbers_are_levelled_too():
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8), (20, 200))
    assert np.abs(levelling.level(ramp, "plane")[0]).max() < 1e-4


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="polynomial"):
        levelling.level(np.zeros((4, 4)), "polynomial")
    with pytest.raises(DataError, match="shape"):
        levelling.level(np.zeros((4, 4, 3)), "plane")
    with pytest.raises(DataError, match="1 pixels are NaN"):
        levelling.level(np.array([[0.0, np.nan]]), "plane")


def test_row_backgrounds_remove_offsets_and_dig_out_no_particle():
    """A crowded row (60 % particles) defeats its median; the background's median stays within the noise of the truth."""
    rng = np.random.default_rng(0)
    noise, offsets = rng.normal(0, 0.05, (64, 200)), rng.normal(0, 0.5, 64)
    particles = np.zeros((64, 200))
    particles[20:40, :120] = 5.0
    levelled, medians = levelling.row_backgrounds(particles + noise + offsets[:, None])
    np.testing.assert_allclose(medians, offsets, atol=0.03)
    np.testing.assert_allclose(levelled, particles + noise, atol=0.03)
    assert np.abs(levelling.row_medians(particles + noise + offsets[:, None])[1] - offsets).max() > 4
