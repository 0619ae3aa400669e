"""Invented and lost particles of drawn discs and of simulated scans."""

import numpy as np
import pytest
import scipy.ndimage

import resize
from metrics import invented
from microscopy.scan import DataError
from microscopy.simulator import SimulatorSettings, simulate_scan

DISCS = [(20, 20, 8), (20, 60, 6), (60, 25, 7), (64, 66, 9)]


def drawn(discs, size=88):
    y, x = np.mgrid[:size, :size]
    return sum(((y - cy) ** 2 + (x - cx) ** 2 <= r**2).astype(float) for cy, cx, r in discs)


def counts(upscaled, truth, **settings):
    found = invented.invented_particles(upscaled, truth, **settings)
    return tuple(found[name] for name in ("true", "found", "matched", "invented", "lost"))


def test_counts_of_drawn_discs():
    truth = drawn(DISCS)
    assert counts(truth, truth) == (4, 4, 4, 0, 0)
    assert counts(drawn([*DISCS, (40, 43, 4)]), truth) == (4, 5, 4, 1, 0)
    assert counts(drawn(DISCS[1:]), truth) == (4, 3, 3, 0, 1)
    assert counts(drawn([*DISCS[2:], (42, 80, 5), (4, 42, 4)]), truth) == (4, 4, 2, 2, 2)
    moved = [(20, 20 + 17, 8), *DISCS[1:]]
    assert counts(drawn(moved), truth) == (4, 4, 3, 1, 1)
    assert counts(np.zeros_like(truth), truth) == (4, 0, 0, 0, 4)


def test_blurred_and_merged_particles_are_not_invented_and_specks_are_nothing():
    pair = [(30, 20, 8), (30, 40, 8)]
    merged = np.maximum(drawn(pair), drawn([(30, 30, 4)]))
    assert counts(merged, drawn(pair)) == (2, 1, 0, 0, 0)
    wide = [(30, 20, 13), (30, 70, 5)]  # IoU 64 / 169 with a disc of radius 8
    assert counts(drawn(wide), drawn([(30, 20, 8), (30, 70, 5)])) == (2, 2, 1, 1, 0)
    slightly = [(30, 20, 10.9), (30, 70, 5)]
    assert counts(drawn(slightly), drawn([(30, 20, 8), (30, 70, 5)])) == (2, 2, 2, 0, 0)
    speck = drawn([*DISCS, (42, 42, 1)])
    assert counts(speck, drawn(DISCS), smoothing=0) == (4, 4, 4, 0, 0)
    assert counts(speck, drawn(DISCS), smoothing=0, min_area=5) == (4, 5, 4, 1, 0)


def test_both_images_are_cut_at_the_truths_threshold():
    truth = drawn(DISCS)
    faint = truth + 0.3 * drawn([(40, 43, 4)])  # half-way up, nothing is there
    assert counts(faint, truth) == (4, 4, 4, 0, 0)
    assert counts(faint, truth, threshold=0.1)[3] == 1
    assert 0.2 < invented.particle_threshold(truth) < 0.8
    assert invented.particle_threshold(10 * truth + 5) == pytest.approx(10 * invented.particle_threshold(truth) + 5, abs=0.1)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_bilinear_invents_nothing_on_simulated_scans_and_a_planted_particle_is_found(scale):
    settings, total, planted = SimulatorSettings(size_px=(256, 256)), np.zeros(5, int), 0
    y, x = np.mgrid[:256, :256]
    for seed in range(4):
        height = simulate_scan(settings, seed).height
        height -= np.median(height, axis=1, keepdims=True)
        low = resize.area(height[None, ..., None], 256 // scale, 256 // scale)
        upscaled = np.asarray(resize.bilinear(low, 256, 256))[0, ..., 0]
        total += counts(upscaled, height)
        free = scipy.ndimage.distance_transform_edt(
            invented.particle_instances(height, invented.particle_threshold(height), min_area=1) == 0
        )
        cy, cx = np.unravel_index(free.argmax(), free.shape)
        fake = np.where((y - cy) ** 2 + (x - cx) ** 2 <= 6**2, height.max(), upscaled)
        planted += counts(fake, height)[3]
    assert total[0] > 30 and total[3] == 0 and planted == 4
    assert total[2] > 0.75 * total[0]


def test_bad_input_is_refused():
    truth = drawn(DISCS)
    for call, message in (
        (lambda: counts(truth, truth * 0), "flat"),
        (lambda: counts(truth[1:], truth), "same shape"),
        (lambda: counts(truth * np.nan, truth), "NaN"),
    ):
        with pytest.raises(DataError, match=message):
            call()
    assert counts(truth, truth * 0, threshold=0.5) == (0, 4, 0, 4, 0)
