"""Planted near-duplicates are found among unrelated scans, in every orientation; correlations against NumPy, pair by pair."""

import cv2
import numpy as np
import pytest

from microscopy import duplicates, simulator


def texture(seed, shape=(150, 190), reach=3.0):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=shape).astype(np.float32), (0, 0), reach)
    return cv2.normalize(noise, None, 20, 230, cv2.NORM_MINMAX).astype(np.uint8)


def pairs(images):
    return duplicates.near_duplicates(np.stack([duplicates.descriptor(image) for image in images]))


@pytest.mark.parametrize("orientation", range(8))
def test_a_copy_in_another_size_contrast_and_orientation_is_found(orientation):
    images = [texture(seed) for seed in range(12)]
    copy = np.rot90(images[3], orientation % 4)
    copy = copy[:, ::-1] if orientation > 3 else copy
    copy = cv2.resize(np.ascontiguousarray(copy), None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    noisy = np.clip(0.8 * copy + 30 + np.random.default_rng(0).normal(0, 4, copy.shape), 0, 255).astype(np.uint8)
    ((i, j, correlation, turned),) = pairs([*images, noisy])
    assert (i, j, turned) == (3, 12, orientation > 0) and correlation > 0.9


def test_correlations_are_numpys_and_the_most_alike_come_first():
    image = texture(0)
    likes = [np.clip(image + share * texture(seed), 0, 255).astype(np.uint8) for share, seed in ((0.2, 2), (0.1, 3))]
    images = [image, texture(1), *likes]
    small = [duplicates.descriptor(each).ravel() for each in images]
    found = pairs(images)
    assert {(i, j) for i, j, _, _ in found} == {(0, 2), (0, 3), (2, 3)} and not any(turned for *_, turned in found)
    for i, j, correlation, _ in found:
        assert correlation == pytest.approx(np.corrcoef(small[i], small[j])[0, 1], abs=1e-5)
    assert [value for *_, value, _ in found] == sorted((value for *_, value, _ in found), reverse=True)


def test_unrelated_scans_shading_and_flat_scans_are_not_alike():
    y, x = np.mgrid[:128, :128]
    shaded = [np.clip(y + 60 + np.random.default_rng(seed).normal(0, 6, y.shape), 0, 255).astype(np.uint8) for seed in range(4)]
    simulated = simulator.simulated_scans(simulator.SimulatorSettings(size_px=(256, 256)), num_scans=4, seed=0)
    flat = [np.full((90, 90), value, np.uint8) for value in (0, 0, 200)] + [np.full((90, 90), 1e-9, np.float32)] * 2
    assert pairs([*(texture(seed) for seed in range(6)), *shaded, *(scan.pixels for scan in simulated), *flat]) == []


def test_colour_scans_are_compared_by_their_luma():
    colour = np.dstack([texture(seed) for seed in range(3)])
    grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    assert [pair[:2] for pair in pairs([texture(9), colour, grey])] == [(1, 2)]


def test_blocks_of_rows_miss_no_pair(monkeypatch):
    images = [texture(seed) for seed in range(7)] + [texture(0), texture(6)]
    monkeypatch.setattr(duplicates, "_ROWS", 2)
    assert sorted(pair[:2] for pair in pairs(images)) == [(0, 7), (6, 8)]
