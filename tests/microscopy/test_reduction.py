"""Copies against area averages written out pixel by pixel, and the exactness of their pitch."""

import math
from fractions import Fraction

import numpy as np
import pytest

from microscopy import reduction


def overlaps(size: int, num: int, pitch: Fraction) -> np.ndarray:
    """Row i: the share of each of `size` pixels, mirrored beyond the end, in the interval [i pitch, (i + 1) pitch]."""
    shares = np.zeros((num, size))
    for i in range(num):
        for j in range(math.ceil((i + 1) * pitch)):
            overlap = min((i + 1) * pitch, j + 1) - max(i * pitch, j)
            shares[i, j if j < size else 2 * size - 1 - j] += max(0, float(overlap / pitch))
    return shares


@pytest.mark.parametrize(("crop", "length"), [((64, 64), (32, 32)), ((85, 85), (32, 32)), ((43, 86), (32, 64)), ((97, 40), (96, 40))])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_without_free_rotation_the_pitch_is_exact_and_pixels_are_area_averages(crop, length, channels):
    image = np.random.default_rng(0).normal(size=(101, 130, *channels)).astype(np.float32)
    rows, columns = (reduction.plan(*side, "none") for side in zip(image.shape, crop, length, strict=False))
    for side, size, c, n in zip((rows, columns), image.shape, crop, length, strict=False):
        assert Fraction(side.whole, side.padded) == Fraction(n, c) and side.kept == math.ceil(size * n / c)
    got = reduction.reduced(image, rows, columns)
    down, across = (
        overlaps(size, side.kept, Fraction(side.padded, side.whole)) for size, side in zip(image.shape, (rows, columns), strict=False)
    )
    wanted = np.einsum("ij,jk...,lk->il...", down, image.astype(np.float64), across)
    assert got.shape == wanted.shape and got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=2e-6)


def test_free_rotation_reduces_to_one_and_a_half_times_the_training_resolution():
    assert reduction.plan(512, 256, 96, "free") == (512, 288, 288)
    assert reduction.plan(500, 256, 96, "free") == (500, 281, 281)
    image = np.random.default_rng(0).normal(size=(64, 96)).astype(np.float32)
    got = reduction.reduced(image, reduction.plan(64, 48, 16, "free"), reduction.plan(96, 48, 16, "free"))
    np.testing.assert_allclose(got, image.reshape(32, 2, 48, 2).mean((1, 3)), atol=1e-6)


@pytest.mark.parametrize(("crop", "length", "rotation"), [(32, 32, "none"), (20, 32, "quarter"), (40, 32, "free")])
def test_a_crop_that_is_not_reduced_is_cut_from_the_scan_itself(crop, length, rotation):
    side = reduction.plan(100, crop, length, rotation)
    image = np.zeros((100, 100), np.float32)
    assert side == (100, 100, 100) and reduction.reduced(image, side, side) is image
