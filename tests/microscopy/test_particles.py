"""Thresholding and measuring on drawn discs of known place and size."""

import math

import numpy as np
import pytest

from microscopy import particles
from microscopy.scan import DataError

DISCS = [(30.0, 40.0, 9.0), (80.5, 30.0, 14.0), (70.0, 120.0, 11.0), (25.0, 110.0, 6.0)]


def drawn(discs=DISCS, shape=(128, 160)):
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for label, (centre_y, centre_x, radius) in enumerate(discs, 1):
        labels[np.hypot(y - centre_y, x - centre_x) < radius] = label
    return labels


def test_measured_discs():
    rows = particles.measure(drawn(), intensity=drawn() * 2.0, nm_per_pixel=(0.5, 0.5))
    assert [row["label"] for row in rows] == [1, 2, 3, 4]
    for row, (y, x, radius) in zip(rows, DISCS, strict=True):
        assert (row["y"], row["x"]) == pytest.approx((y, x), abs=0.1)
        assert row["equivalent_diameter"] == pytest.approx(2 * radius, rel=0.02)
        assert row["equivalent_diameter_nm"] == pytest.approx(radius, rel=0.02)
        assert row["area_nm2"] == pytest.approx(math.pi * radius**2 / 4, rel=0.04)
        assert row["mean_intensity"] == row["max_intensity"] == 2 * row["label"]


def test_scale_of_oblong_pixels():
    row = particles.measure(drawn() == 1, nm_per_pixel=(1.0, 4.0))[0]
    assert row["area_nm2"] == 4 * row["area"] and row["equivalent_diameter_nm"] == pytest.approx(2 * row["equivalent_diameter"])


def test_without_scale_or_intensity_nothing_prints_them():
    assert set(particles.measure(drawn() > 0)[0]) == {"label", "y", "x", "area", "equivalent_diameter"}


def test_touching_discs_are_one_in_a_bool_mask_and_two_in_an_instance_map():
    labels = drawn([(40.0, 40.0, 10.0), (40.0, 59.0, 10.0)])
    assert len(particles.measure(labels)) == 2 and len(particles.measure(labels > 0)) == 1


@pytest.mark.parametrize("scale", [1.0, 1e-9, 255.0])
def test_otsu_finds_noisy_discs_at_any_height_scale(scale):
    labels = drawn()
    image = scale * (labels > 0) + 0.1 * scale * np.random.default_rng(0).normal(size=labels.shape)
    mask = particles.otsu_mask(image)
    assert mask.dtype == bool and mask.shape == labels.shape
    assert (mask & (labels > 0)).sum() / (mask | (labels > 0)).sum() > 0.95


def test_summary_counts_particles_not_specks():
    image = (drawn() > 0) + 0.1 * np.random.default_rng(0).normal(size=(128, 160))
    image[100:103, 60:63] = 1.0
    found = particles.summary(image, nm_per_pixel=(0.25, 0.25))
    assert found["particles"] == 4 and particles.summary(image, min_area=5)["particles"] == 5
    assert found["median_diameter"] == pytest.approx(20.0, rel=0.05)
    assert found["median_diameter_nm"] == pytest.approx(5.0, rel=0.05)
    assert found["coverage"] == pytest.approx(sum(math.pi * r * r for _, _, r in DISCS) / (128 * 160), rel=0.05)
    assert "median_diameter_nm" not in particles.summary(image)


def test_a_flat_image_has_no_particles():
    found = particles.summary(np.full((32, 32), 0.1), nm_per_pixel=(1.0, 1.0))
    assert found["particles"] == 0 and found["coverage"] == 0 and math.isnan(found["median_diameter"])


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="one channel"):
        particles.otsu_mask(np.zeros((4, 4, 3)))
    with pytest.raises(DataError, match="NaN"):
        particles.summary(np.array([[0.0, np.nan]]))
    with pytest.raises(DataError, match="bool or int"):
        particles.measure(np.zeros((4, 4)))
    with pytest.raises(DataError, match="same shape"):
        particles.measure(np.zeros((4, 4), bool), intensity=np.zeros((4, 5)))
