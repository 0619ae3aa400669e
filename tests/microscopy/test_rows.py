"""Row offsets are removed by every method, particles and steps are not, and documented biases are what they are said to be."""

import numpy as np
import pytest
import scipy.stats

from microscopy import rows, surfaces

METHODS = [rows.row_medians, rows.row_differences, rows.row_backgrounds, rows.terrace_rows]


def capped(shape=(160, 200), scale=0.25):
    """Returns a flat substrate with four spherical caps, in nm, and where they are."""
    centres = np.array([[10.0, 10.0], [12.0, 35.0], [28.0, 20.0], [30.0, 42.0]])
    height = surfaces.add_caps(np.zeros(shape), scale, centres, np.full(4, 8.0), np.full(4, 3.5))
    return height, height > 0, (centres / scale).astype(int)


@pytest.mark.parametrize("method", METHODS)
def test_row_offsets_are_removed_and_no_particle_is_flattened(method):
    """Heights over the substrate of the row itself keep to 2 %, under noise of a hundredth of the particles' height."""
    random = np.random.default_rng(0)
    clean, on_cap, tops = capped()
    height = clean + 0.035 * random.normal(size=clean.shape) + random.normal(size=(len(clean), 1))
    levelled, shifts = method(height)
    assert shifts.shape == (160,) and np.array_equal(levelled, height - shifts[:, None])
    for y, x in tops:
        window = np.s_[y - 4 : y + 5, x - 4 : x + 5]
        substrate = np.median(levelled[y - 4 : y + 5][~on_cap[y - 4 : y + 5]])
        assert (levelled[window] - clean[window]).mean() - substrate == pytest.approx(0, abs=0.02 * 3.5)
    left = np.array([np.median(row[free]) for row, free in zip(levelled, ~on_cap, strict=True)])
    assert np.diff(left).std() < 0.02  # offsets of 1 nm rms are down to what noise leaves


@pytest.mark.parametrize("method", METHODS)
def test_row_offsets_without_noise_are_removed_exactly(method):
    clean, _, _ = capped()
    offsets = np.random.default_rng(0).normal(size=(160, 1))
    levelled, shifts = method(clean + offsets)
    off_caps = shifts[:5] - offsets[:5, 0]
    np.testing.assert_allclose(off_caps, off_caps[0], atol=1e-9)
    if method is not rows.row_differences:  # which shifts with the slope of what covers half a row, and never forgets
        np.testing.assert_allclose(levelled - np.median(levelled), clean, atol=0.02 * 3.5)


def test_row_medians_of_plain_offsets():
    random = np.random.default_rng(0)
    substrate = random.normal(size=(1, 101))
    offsets = random.normal(size=(40, 1))
    levelled, medians = rows.row_medians(substrate + offsets)
    np.testing.assert_allclose(levelled, np.broadcast_to(substrate - np.median(substrate), levelled.shape), atol=1e-12)
    np.testing.assert_allclose(medians, offsets[:, 0] + np.median(substrate), atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.2, 1 / 3])
def test_row_medians_are_biased_by_particles_as_documented(share):
    noise = np.random.default_rng(0).normal(size=(200, 3000))
    covered = int(share * 3000)
    noise[:, :covered] += 100.0
    levelled, _ = rows.row_medians(noise)
    assert levelled[:, covered:].mean() == pytest.approx(-scipy.stats.norm.ppf(0.5 / (1 - share)), abs=0.01)


def test_row_differences_follow_any_profile_that_the_rows_share():
    random = np.random.default_rng(0)
    profile, offsets = random.normal(size=(1, 101)), random.normal(size=(40, 1))
    levelled, shifts = rows.row_differences(profile + offsets)
    np.testing.assert_allclose(levelled, np.broadcast_to(profile + offsets.mean(), levelled.shape), atol=1e-12)
    assert shifts.mean() == pytest.approx(0, abs=1e-12)


def test_terrace_rows_wander_less_than_row_differences():
    noise = np.random.default_rng(0).normal(size=(300, 300))
    wander = [method(noise)[1].std() for method in (rows.row_differences, rows.terrace_rows)]
    assert wander[1] < wander[0] / 2


def test_row_backgrounds_remove_offsets_and_dig_out_no_particle():
    """A crowded row (60 % particles) defeats its median; the background's median stays within the noise of the truth."""
    random = np.random.default_rng(0)
    noise, offsets = random.normal(0, 0.05, (64, 200)), random.normal(0, 0.5, 64)
    particles = np.zeros((64, 200))
    particles[20:40, :120] = 5.0
    levelled, medians = rows.row_backgrounds(particles + noise + offsets[:, None])
    np.testing.assert_allclose(medians, offsets, atol=0.03)
    np.testing.assert_allclose(levelled, particles + noise, atol=0.03)
    assert np.abs(rows.row_medians(particles + noise + offsets[:, None])[1] - offsets).max() > 4


@pytest.mark.parametrize("azimuth", [0.0, 0.6, 1.3])
def test_terrace_rows_keep_steps_that_row_medians_lose(azimuth):
    random = np.random.default_rng(0)
    y, x = np.indices((150, 200))
    stairs = 0.3 * np.floor((x * np.cos(azimuth) + y * np.sin(azimuth)) / 50.0)
    height = stairs + 0.02 * random.normal(size=stairs.shape) + 0.2 * random.normal(size=(150, 1))
    levelled, _ = rows.terrace_rows(height)
    error = levelled - stairs
    assert np.abs(error.mean(1) - error.mean()).max() < 0.1 * 0.3
    if azimuth > 0:
        error = rows.row_medians(height)[0] - stairs
        assert np.abs(error.mean(1) - error.mean()).max() > 0.4 * 0.3


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_lasting_step_along_the_rows_is_kept_and_a_lone_row_is_not(noise):
    height = noise * np.random.default_rng(0).normal(size=(120, 100))
    height[60:] += 0.3
    height[30] += 2.0
    levelled, shifts = rows.terrace_rows(height)
    assert np.median(levelled[62:]) - np.median(levelled[:58]) == pytest.approx(0.3, rel=0.05)
    assert abs(np.median(levelled[30]) - np.median(levelled[20:40])) < max(noise, 1e-9)
    assert shifts[30] - shifts[29] == pytest.approx(2, abs=0.01)


def test_mode_climbs_the_nearer_heap_of_each_row():
    random = np.random.default_rng(0)
    values = np.stack([np.concatenate([random.normal(a, 0.1, 300), random.normal(b, 0.1, 700)]) for a, b in ((0, 2), (0.1, -3))])
    found = rows.mode(values, np.zeros((2, 1)), 0.2)
    assert found.shape == (2, 1)
    np.testing.assert_allclose(found[:, 0], [np.median(values[0, :300]), np.median(values[1, :300])], atol=0.02)
    assert rows.mode(np.array([1.0, 1.0, 5.0]), 0.0, 0.0) == 1.0
