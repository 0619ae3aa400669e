"""Scan errors: drift geometry, tilt, 1/f spectrum, spikes."""

import math

import numpy as np
import pytest

from microscopy import acquisition


@pytest.mark.parametrize("drift", [(0.0, 0.0), (3.3, -7.9), (-5.0, 4.0)])
def test_drift_reads_the_specimen_where_it_says(drift):
    """A linear ramp is interpolated without error, so the pixels tell the positions they were read from."""
    y, x = np.indices((90, 100)).astype(float)
    origin, shape = np.array([10.0, 12.0]), (64, 70)
    i, j = np.indices(shape)
    read_y, read_x = (acquisition.drifted(ramp, shape, origin, np.array(drift)) for ramp in (y, x))
    np.testing.assert_allclose(read_y, 10 + i + drift[0] * i / 64, atol=1e-9)
    np.testing.assert_allclose(read_x, 12 + j + drift[1] * i / 64, atol=1e-9)
    back = acquisition.undrift(np.stack([read_y.ravel(), read_x.ravel()], -1), shape, origin, np.array(drift))
    np.testing.assert_allclose(back, np.stack([i.ravel(), j.ravel()], -1), atol=1e-9)


@pytest.mark.parametrize("drift", [(0.0, 0.0), (4.0, -6.0), (-9.0, 12.0)])
def test_discs_lie_where_the_heights_are_read(drift):
    """The ramps tell where each pixel was read; the label map must be the discs at exactly these positions."""
    y, x = np.indices((90, 100)).astype(float)
    motion = ((64, 70), np.array([13.0, 15.0]), np.array(drift))
    read_y, read_x = (acquisition.drifted(ramp, *motion) for ramp in (y, x))
    centres, diameters = np.array([[40.3, 50.8], [13.2, 20.0], [70.0, 90.1], [5.0, 5.0]]), np.array([18.0, 9.0, 30.0, 6.0])
    labels = acquisition.drifted_discs(centres, diameters, *motion)
    assert labels.dtype == np.int32 and labels.shape == (64, 70) and set(np.unique(labels)) == {0, 1, 2, 3}
    for index, (centre, diameter) in enumerate(zip(centres, diameters, strict=True)):
        assert np.array_equal(labels == index + 1, np.hypot(read_y - centre[0], read_x - centre[1]) < diameter / 2)
    place = acquisition.undrift(centres[:1], *motion)[0]
    np.testing.assert_allclose(np.argwhere(labels == 1).mean(0), place, atol=0.1)


def test_tilt_stays_below_its_limit_and_is_a_plane():
    slopes = []
    for seed in range(50):
        plane = acquisition.tilted_plane((32, 48), 0.25, 2.0, np.random.default_rng(seed))
        down, right = np.diff(plane, axis=0), np.diff(plane, axis=1)
        assert np.ptp(down) < 1e-9 and np.ptp(right) < 1e-9 and abs(plane.mean()) < 1e-9
        slopes.append(math.degrees(math.atan(math.hypot(down[0, 0], right[0, 0]) / 0.25)))
    assert 1.7 < max(slopes) <= 2.0 and min(slopes) < 0.5


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5])
def test_flicker_spectrum_over_time(exponent):
    noise = np.stack([acquisition.flicker((64, 128), 0.7, exponent, np.random.default_rng(seed)) for seed in range(8)])
    assert noise.std(axis=(1, 2)) == pytest.approx(np.full(8, 0.7)) and abs(noise.mean()) < 1e-9
    power = (np.abs(np.fft.rfft(noise.reshape(8, -1))) ** 2).mean(0)[1:]
    frequency = np.fft.rfftfreq(64 * 128)[1:]
    # Bins of equal width on the log axis: the mean of a periodogram's logarithm would weigh the fastest decade alone.
    edges = np.geomspace(3e-4, 0.4, 12)
    bins = np.digitize(frequency, edges)
    binned = [(frequency[bins == k].mean(), power[bins == k].mean()) for k in range(1, len(edges))]
    assert np.polyfit(*np.log(binned).T, 1)[0] == pytest.approx(-exponent, abs=0.1)


def test_spikes_number_length_and_height():
    shape = (512, 512)
    added = acquisition.spikes(shape, 0.25, 200.0, 1.5, 2.0, np.random.default_rng(0)).ravel()
    starts = (added != 0) & (np.roll(added, 1) == 0)
    assert 160 < starts.sum() < 240
    assert (added != 0).sum() / starts.sum() == pytest.approx(1 + 2.0 / 0.25, rel=0.25)
    assert np.abs(added[starts]).mean() == pytest.approx(1.5, rel=0.25)
    assert (added > 0).any() and (added < 0).any()
    assert not acquisition.spikes(shape, 0.25, 0.0, 1.5, 2.0, np.random.default_rng(0)).any()
