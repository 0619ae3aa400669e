"""Planted bands and clipped values are found with their size; clean scans have none."""

import cv2
import numpy as np
import pytest

from microscopy import flaws, simulator


def texture(seed, shape=(200, 260)):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=shape).astype(np.float32), (0, 0), 3)
    return cv2.normalize(noise, None, 5, 250, cv2.NORM_MINMAX).astype(np.uint8)


def side_of(image, side, depth):
    lines = {"top": np.s_[:depth], "bottom": np.s_[-depth:], "left": np.s_[:, :depth], "right": np.s_[:, -depth:]}
    return image[lines[side]]


SIDES = ("top", "right", "bottom", "left")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("depth", [2, 3, 30, 90])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_band_of_one_value_is_found_at_each_side(side, depth, dtype):
    for value in (0, 128, 255):
        image = texture(depth).astype(dtype)
        side_of(image, side, depth)[:] = value
        assert flaws.constant_bands(image) == tuple(depth * (name == side) for name in SIDES)


def test_bands_at_several_sides_and_in_colour():
    image = texture(0)
    image[:, :4], image[:, -11:] = 7, 99
    image[:9], image[-20:] = 255, 0
    assert flaws.constant_bands(image) == (9, 11, 20, 4)
    assert flaws.constant_bands(np.dstack([image] * 3)) == (9, 11, 20, 4)


@pytest.mark.parametrize("jpeg", [False, True])
@pytest.mark.parametrize(("ground", "ink"), [(0, 255), (255, 0), (40, 250)])
def test_an_info_bar_with_lettering_is_found_up_to_two_lines(jpeg, ground, ink):
    image = texture(1, (300, 400))
    image[260:] = ground
    cv2.putText(image, "10.0 kV  x50,000  500 nm", (8, 288), cv2.FONT_HERSHEY_SIMPLEX, 0.8, ink, 2)
    image[298:, 300:] = ink  # lettering that touches the border
    if jpeg:
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_UNCHANGED)
    top, right, bottom, left = flaws.constant_bands(image)
    assert (top, right, left) == (0, 0, 0) and 40 <= bottom <= 42


def test_a_dark_ground_that_fades_in_is_image():
    y, x = np.mgrid[:200, :260]
    glow = 250 * np.exp(-((y - 100) ** 2 + (x - 130) ** 2) / (2 * 35.0**2)) + np.random.default_rng(0).normal(8, 2, (200, 260))
    assert flaws.constant_bands(np.clip(glow, 0, 255).astype(np.uint8)) == (0, 0, 0, 0)
    disc = np.where(np.hypot(y - 100, x - 130) < 60, 255, 0).astype(np.uint8)
    assert flaws.constant_bands(disc) == (0, 0, 0, 0)  # more than half is ground: what a mask looks like


@pytest.mark.parametrize(
    "pixels", [np.zeros((20, 20), np.uint8), np.full((1, 9), 3.5, np.float32), texture(3), texture(4).astype(np.float32)]
)
def test_scans_without_bands(pixels):
    assert flaws.constant_bands(pixels) == (0, 0, 0, 0)


def test_clean_simulated_scans_have_no_flaw():
    for scan in simulator.simulated_scans(simulator.SimulatorSettings(size_px=(256, 256)), num_scans=4, seed=0):
        assert (
            flaws.constant_bands(scan.pixels) == (0, 0, 0, 0)
            and max(share for _, share in flaws.clipped(scan.pixels, (0, 0, 0, 0))) < 0.001
        )


def test_the_share_of_clipped_pixels_is_counted_outside_the_bands():
    image = texture(5)
    image[:40] = 0
    image[50:60], image[80:85] = 5, 250
    low, high = flaws.clipped(image, (40, 0, 0, 0))
    assert (
        low == (5.0, np.mean(image[40:] == 5)) and high == (250.0, np.mean(image[40:] == 250)) and low[1] >= 10 / 160 and high[1] >= 5 / 160
    )
    assert flaws.clipped(image, (0, 0, 0, 0))[0] == (0.0, np.mean(image == 0))
    assert flaws.clipped(np.full((4, 4), 2.5, np.float32), (0, 0, 0, 0)) == [(2.5, 1.0), (2.5, 1.0)]
