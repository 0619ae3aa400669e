"""Resampling against block means, overlaps written out, sampled functions, and discs of known size in nm."""

import numpy as np
import pytest

from microscopy import resampling
from microscopy.scan import DataError, Scan


def scan_of(pixels, nm=(1.0, 1.0), mask=None):
    return Scan("a", pixels, "sha", file="a.tif", nm_per_pixel=nm, mask=mask)


def at_scale(scan, nm):
    return resampling.resampled(scan, nm, resampling.factors(scan, nm, 10**8))


def disc(diameter_nm, nm, side_nm=120.0):
    """Height of a cap's footprint sampled at pixel centres: 1 inside, 0 outside; and its mask."""
    y, x = ((np.arange(round(side_nm / step)) + 0.5) * step - side_nm / 2 for step in nm)
    inside = np.hypot(y[:, None], x[None]) < diameter_nm / 2
    return inside.astype(np.float32), inside.astype(np.int32) * 7


def test_the_common_scale_is_the_median_of_those_stated():
    scales = ((0.5, 0.5), (0.5, 0.5), (1.0, 1.0), (3.0, 3.0), (0.25, 1.0), None)
    scans = [scan_of(np.zeros((4, 4)), nm) for nm in scales]
    assert resampling.common_scale(scans) == 0.5
    assert resampling.common_scale(scans[1:3]) == 0.5  # of two the finer
    assert resampling.common_scale(scans[4:5]) == 0.5  # oblong pixels: of the same area
    assert resampling.common_scale(scans[5:]) is None
    assert resampling.without_scale(scans) == scans[5:] and resampling.without_scale(scans[5:]) == resampling.without_scale(scans[:5]) == []


@pytest.mark.parametrize("nm", [(0.5, 0.5), (0.5003, 0.5), (0.4997, 0.4999)])
def test_a_scan_of_this_scale_is_left_as_it_is(nm):
    scan = scan_of(np.zeros((20, 30), np.uint8), nm, np.zeros((20, 30), np.int32))
    assert resampling.factors(scan, 0.5, 10**6) == (1.0, 1.0)
    done = at_scale(scan, 0.5)
    assert done.pixels is scan.pixels and done.mask is scan.mask and done.nm_per_pixel == (0.5, 0.5)


def test_shrinking_averages_areas():
    pixels = np.random.default_rng(0).normal(size=(60, 84)).astype(np.float32)
    half = at_scale(scan_of(pixels, (0.5, 0.5)), 1.0)
    np.testing.assert_allclose(half.pixels, pixels.reshape(30, 2, 42, 2).mean((1, 3)), atol=1e-6)
    fine = np.repeat(np.repeat(pixels, 2, 0), 2, 1)  # 2/3: three half pixels make one
    wanted = fine.reshape(40, 3, 56, 3).mean((1, 3))
    np.testing.assert_allclose(at_scale(scan_of(pixels, (1.0, 1.0)), 1.5).pixels, wanted, atol=1e-6)


def test_growing_follows_a_smooth_surface():
    def surface(nm):
        y, x = (np.arange(round(80 / nm)) + 0.5) * nm, (np.arange(round(100 / nm)) + 0.5) * nm
        return (np.sin(2 * np.pi * y / 16)[:, None] + np.cos(2 * np.pi * x / 20)[None]).astype(np.float32)

    grown = at_scale(scan_of(surface(1.0)), 0.4).pixels
    assert grown.shape == (200, 250)
    assert np.abs(grown - surface(0.4))[10:-10, 10:-10].max() < 0.04  # of amplitudes 1 + 1


@pytest.mark.parametrize("nm", [(1.0, 0.5), (0.4, 2.0)])
def test_oblong_pixels_are_made_square_and_a_disc_round(nm):
    height, mask = disc(60.0, nm)
    done = at_scale(scan_of(height, nm, mask), 0.8)
    assert done.nm_per_pixel == (0.8, 0.8) and done.pixels.shape == done.mask.shape == (150, 150)
    area = np.pi * 30**2
    assert done.pixels.sum() * 0.64 == pytest.approx(area, rel=0.02) and (done.mask == 7).sum() * 0.64 == pytest.approx(area, rel=0.04)
    rows, columns = np.nonzero(done.pixels > 0.5)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1 + max(nm) / 0.8 and abs(np.ptp(rows) * 0.8 - 60) < 2 * max(nm)


@pytest.mark.parametrize("nm", [0.4, 0.7, 1.6, 2.5])
def test_masks_take_the_nearest_pixel_and_stay_on_their_image(nm):
    height, mask = disc(60.0, (1.0, 1.0))
    mask[:2], height[:2] = 9, 1.0
    done = at_scale(scan_of(height, (1.0, 1.0), mask), nm)
    assert done.mask.dtype == np.int32 and set(np.unique(done.mask)) == {0, 7, 9}
    size = done.pixels.shape[0]
    for row, column in np.random.default_rng(0).integers(size, size=(50, 2)):
        nearest = [int((place + 0.5) * 120 / size) for place in (row, column)]
        assert done.mask[row, column] == mask[*nearest]
    inside, drawn = done.mask > 0, done.pixels > 0.5
    assert (inside & drawn).sum() / (inside | drawn).sum() > 0.95


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_levels_keep_their_type_rounded_and_within_it(dtype):
    top = np.iinfo(dtype).max
    pixels = np.where(np.arange(40) // 4 % 2, top, 0).astype(dtype) * np.ones((40, 1), dtype)
    grown, half = at_scale(scan_of(pixels), 0.5).pixels, at_scale(scan_of(pixels), 8 / 3).pixels
    assert grown.dtype == half.dtype == dtype and grown.shape == (80, 80) and half.shape == (15, 15)
    assert grown.max() == top and grown.min() == 0
    shares = np.unique(half) / top * 4  # stripes of 4 px in thirds of 8 px: quarters of the top value
    np.testing.assert_allclose(shares, np.rint(shares), atol=4 / top)
    colour = at_scale(scan_of(np.dstack([pixels] * 3)), 0.5).pixels
    np.testing.assert_array_equal(colour, np.dstack([grown] * 3))


@pytest.mark.parametrize(
    ("nm", "target", "limit", "match"),
    [
        ((float("nan"), 1.0), 1.0, 10**6, "nan x 1.0 nm per pixel is no scale"),
        ((0.0, 1.0), 1.0, 10**6, "0.0 x 1.0 nm per pixel is no scale"),
        ((1.0, float("inf")), 1.0, 10**6, "1.0 x inf nm per pixel is no scale"),
        ((17.0, 17.0), 1.0, 10**6, "has 17 nm per pixel, the set is trained at 1: more than 16 times apart"),
        ((1.0, 0.01), 1.0, 10**6, r"has 1 x 0.01 \(y, x\) nm per pixel"),
        ((10.0, 10.0), 1.0, 10**4, "would have 300 x 200 pixels at 1 nm, more than config.data.max_pixels=10000"),
    ],
)
def test_scales_that_cannot_be_are_refused_by_file(nm, target, limit, match):
    with pytest.raises(DataError, match=rf"^a\.tif: {match}.*config.data.select"):
        resampling.factors(scan_of(np.zeros((20, 30), np.uint8), nm), target, limit)
