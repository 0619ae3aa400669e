"""Scars and spikes are planted in known places and found there; whatever is not one stays as it was, to the last bit."""

import numpy as np
import pytest

from microscopy import defects, surfaces

SHAPE = (160, 200)


def specimen(noise, seed=0):
    """Returns caps on terraces, in nm, with white noise."""
    random = np.random.default_rng(seed)
    substrate = surfaces.terraces(SHAPE, 0.25, 0.335, 15.0, 1.0, random)
    centres = np.array([[10.0, 10.0], [12.0, 35.0], [28.0, 20.0], [30.0, 42.0]])
    height = surfaces.add_caps(substrate, 0.25, centres, np.full(4, 7.0), np.full(4, 3.0))
    return height + noise * random.normal(size=SHAPE)


def planted_scars(height, amplitude):
    """Returns (height with scars 1 to 4 rows wide and 20 to 80 pixels long, both signs; where)."""
    random = np.random.default_rng(1)
    where = np.zeros(SHAPE, bool)
    scarred = height.copy()
    for number in range(12):
        row, column, length = 5 + 12 * number, random.integers(0, 120), random.integers(20, 80)
        window = np.s_[row : row + 1 + number % 4, column : column + length]
        scarred[window] += amplitude * (-1) ** number
        where[window] = True
    return scarred, where


def planted_spikes(height, amplitude):
    """Returns (height with single spikes and runs of 6 in a row, both signs; where)."""
    random = np.random.default_rng(2)
    where = np.zeros(SHAPE, bool)
    spiked = height.copy()
    places = random.permutation((SHAPE[0] // 4) * (SHAPE[1] // 10))[:120]  # apart, so that each stands alone
    for number, place in enumerate(places):
        row, column = 4 * (place // (SHAPE[1] // 10)), 10 * (place % (SHAPE[1] // 10))
        window = np.s_[row : row + 1, column : column + (6 if number % 3 == 0 else 1)]
        spiked[window] += amplitude * (-1) ** number
        where[window] = True
    return spiked, where


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_planted_scars_are_found_and_nothing_else_is_changed(noise):
    height = specimen(noise)
    scarred, where = planted_scars(height, 1.5)
    filled, found = defects.scars(scarred)
    assert (found & where).sum() / where.sum() > 0.9  # recall
    assert (found & where).sum() / found.sum() > 0.95  # precision
    assert np.array_equal(filled[~found], scarred[~found])
    # Over a step or down a cap a straight line between the rows beside is not the truth, elsewhere it is.
    assert np.median(np.abs(filled - height)[found & where]) < 2 * noise + 0.01
    assert np.abs(filled - height)[where].mean() < 0.15 * np.abs(scarred - height)[where].mean()


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_a_specimen_without_scars_keeps_every_pixel(noise):
    height = specimen(noise)
    filled, found = defects.scars(height)
    assert not found.any() and np.array_equal(filled, height)


def test_scars_are_filled_by_a_straight_line_down_the_column():
    height = np.add.outer(np.arange(20.0) * 0.01, np.zeros(60))
    scarred = height.copy()
    scarred[8:10, 10:40] += 1.0
    filled, found = defects.scars(scarred)
    assert found.sum() == 60 and found[8:10, 10:40].all()
    np.testing.assert_allclose(filled, height, atol=1e-12)


@pytest.mark.parametrize(("rows", "length"), [(5, 60), (2, 10)])
def test_what_is_too_wide_or_too_short_is_no_scar(rows, length):
    height = 0.01 * np.random.default_rng(0).normal(size=(40, 80))
    height[20 : 20 + rows, 10 : 10 + length] += 1.0
    assert not defects.scars(height)[1].any()


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_planted_spikes_are_found_and_nothing_else_is_changed(noise):
    height = specimen(noise)
    spiked, where = planted_spikes(height, 2.0)
    mended, found = defects.spikes(spiked)
    assert (found & where).sum() / where.sum() > 0.9  # recall
    assert (found & where).sum() / found.sum() > 0.98  # precision
    assert np.array_equal(mended[~found], spiked[~found])
    assert np.median(np.abs(mended - height)[found]) < 2 * noise + 0.01


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_a_specimen_without_spikes_keeps_its_edges(noise):
    """Caps as steep as a wall and terraces cut at any angle: no pixel of an edge is taken for a spike."""
    height = specimen(noise)
    y, x = np.indices(SHAPE)
    height[np.hypot(y - 120.3, x - 60.8) < 12] += 5.0
    height[(np.abs(y - 60) + np.abs(x - 150)) < 15] += 5.0
    mended, found = defects.spikes(height)
    assert found.sum() <= (0 if noise == 0 else 2) and np.array_equal(mended[~found], height[~found])


def test_spikes_at_the_border_and_in_the_corner():
    height = 0.01 * np.random.default_rng(0).normal(size=(30, 30))
    where = np.zeros((30, 30), bool)
    where[0, 0] = where[29, 12] = where[14, 29] = True
    height[where] += 1.0
    assert np.array_equal(defects.spikes(height)[1], where)
