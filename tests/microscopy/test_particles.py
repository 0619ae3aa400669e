"""Measuring drawn discs and caps of known place, size, height and volume."""

import math
import time

import numpy as np
import pytest
import scipy.ndimage

from microscopy import particles, surfaces, tip
from microscopy.scan import DataError

DISCS = [(30.0, 40.0, 9.0), (80.5, 30.0, 14.0), (70.0, 120.0, 11.0), (25.0, 110.0, 6.0)]
WITHOUT_SCALE = {
    *("label", "y", "x", "area", "equivalent_diameter", "feret_max", "feret_min"),
    *("eccentricity", "circularity", "solidity", "touches_border"),
}


def drawn(discs=DISCS, shape=(128, 160)):
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for label, (centre_y, centre_x, radius) in enumerate(discs, 1):
        labels[np.hypot(y - centre_y, x - centre_x) < radius] = label
    return labels


def caps(diameters_px, ratio, scale=0.25, shape=(256, 256)):
    """Returns (heights in nm of spherical caps on a flat substrate, diameters in nm, heights in nm)."""
    diameters = np.array(diameters_px) * scale
    centres = np.array([[60.3, 70.8], [60.6, 180.1], [180.2, 70.5], [185.4, 190.9]])[: len(diameters)] * scale
    return surfaces.add_caps(np.zeros(shape), scale, centres, diameters, ratio * diameters), diameters, ratio * diameters


def test_measured_discs():
    rows = particles.measure(drawn(), intensity=drawn() * 2.0, nm_per_pixel=(0.5, 0.5))
    assert [row["label"] for row in rows] == [1, 2, 3, 4]
    for row, (y, x, radius) in zip(rows, DISCS, strict=True):
        assert (row["y"], row["x"]) == pytest.approx((y, x), abs=0.1)
        assert (row["y_nm"], row["x_nm"]) == (row["y"] / 2, row["x"] / 2)
        assert row["equivalent_diameter"] == pytest.approx(2 * radius, rel=0.02)
        assert row["equivalent_diameter_nm"] == pytest.approx(radius, rel=0.02)
        assert row["feret_max"] == pytest.approx(2 * radius, abs=1) and row["feret_min_nm"] == pytest.approx(radius, abs=0.5)
        assert row["area_nm2"] == pytest.approx(math.pi * radius**2 / 4, rel=0.04)
        assert row["mean_intensity"] == row["max_intensity"] == 2 * row["label"]
        assert row["circularity"] == pytest.approx(1, abs=0.06) and row["solidity"] > 0.98 and row["eccentricity"] < 0.25
        assert row["touches_border"] is False


def test_shape_of_an_ellipse_and_of_a_crescent():
    y, x = np.indices((120, 160))
    row = particles.measure(((y - 60) / 20) ** 2 + ((x - 80) / 50) ** 2 < 1)[0]
    assert row["eccentricity"] == pytest.approx(math.sqrt(1 - (20 / 50) ** 2), abs=0.005) and row["solidity"] > 0.99
    crescent = particles.measure((np.hypot(y - 60, x - 80) < 40) & (np.hypot(y - 60, x - 100) > 40))[0]
    assert crescent["solidity"] < 0.7 and crescent["circularity"] < 0.6


def test_doubled_pixels_give_exactly_four_times_the_area_and_eight_times_the_volume_at_twice_the_height():
    height, _, _ = caps([36, 20, 28, 44], 0.4)
    for scale in ((0.25, 0.25), (0.3, 0.7)):
        small = particles.measure(height > 0, nm_per_pixel=scale, height=height)
        large = particles.measure(height > 0, nm_per_pixel=(2 * scale[0], 2 * scale[1]), height=2 * height)
        for before, after in zip(small, large, strict=True):
            assert after["area_nm2"] == 4 * before["area_nm2"] and after["volume_nm3"] == 8 * before["volume_nm3"]
            assert after["equivalent_diameter_nm"] == 2 * before["equivalent_diameter_nm"]
            assert after["circularity"] == pytest.approx(before["circularity"]) and after["area"] == before["area"]


def test_oblong_pixels():
    """A disc in nm scanned with pixels of 1 x 2.5 nm: round in nm, its numbers those of the same disc on square pixels."""
    y, x = np.indices((100, 50))
    oblong = particles.measure(np.hypot(y - 50.2, (x - 22.6) * 2.5) < 35, nm_per_pixel=(1.0, 2.5))[0]
    assert oblong["area_nm2"] == 2.5 * oblong["area"]
    assert oblong["equivalent_diameter_nm"] == pytest.approx(70, abs=1)
    assert (oblong["y_nm"], oblong["x_nm"]) == pytest.approx((50.2, 22.6 * 2.5), abs=0.5)
    assert oblong["feret_max_nm"] == pytest.approx(70, abs=2.5) and oblong["feret_min_nm"] == pytest.approx(70, abs=2.5)
    assert oblong["eccentricity"] < 0.25 and oblong["circularity"] == pytest.approx(1, abs=0.06)
    assert oblong["feret_max"] > 2 * oblong["feret_min"]


def test_without_scale_intensity_or_height_nothing_prints_them():
    assert set(particles.measure(drawn() > 0)[0]) == WITHOUT_SCALE
    without_scale = particles.measure(drawn() > 0, height=drawn() * 1.0)[0]
    assert {name for name in without_scale if "nm" in name} == {"background_nm", "height_max_nm", "height_robust_nm", "rim_height_nm"}


def test_touching_discs_are_one_in_a_bool_mask_and_two_in_an_instance_map_or_when_split():
    labels = drawn([(40.0, 40.0, 10.0), (40.0, 56.0, 10.0)])
    assert len(particles.measure(labels)) == 2 and len(particles.measure(labels > 0)) == 1
    rows = particles.measure(labels > 0, split=True)
    assert sorted(row["x"] for row in rows) == pytest.approx([39.3, 56.7], abs=0.7)


def test_particles_at_the_border_are_flagged():
    labels = drawn([(0.0, 40.0, 10.0), (40.0, 155.0, 10.0), (60.0, 60.0, 10.0), (127.0, 100.0, 5.0), (90.0, 4.0, 6.0)])
    assert [row["touches_border"] for row in particles.measure(labels)] == [True, True, False, True, True]


@pytest.mark.parametrize(("ratio", "noise"), [(0.5, 0.0), (0.3, 0.0), (0.1, 0.0), (0.5, 0.05), (0.3, 0.05)])
def test_caps_found_in_heights_have_their_diameter_height_and_volume(ratio, noise):
    """On two terraces: what counts is the substrate beside the particle."""
    height, diameters, heights = caps([36, 44, 60, 50], ratio)
    step = 0.335 if ratio > 0.2 else 0.05
    height[:, 128:] += step
    height += noise * np.random.default_rng(0).normal(size=height.shape)
    rows = particles.measure(None, nm_per_pixel=(0.25, 0.25), height=height, min_area=12)
    assert len(rows) == 4
    for row, diameter, top in zip(sorted(rows, key=lambda row: (row["y"] > 128, row["x"])), diameters, heights, strict=True):
        assert row["equivalent_diameter_nm"] == pytest.approx(diameter, abs=0.25)  # one pixel
        assert row["volume_nm3"] == pytest.approx(surfaces.cap_volume(diameter, top), rel=0.02)
        assert row["height_robust_nm"] == pytest.approx(top, rel=0.02)
        assert top * 0.98 < row["height_max_nm"] < top + 5 * noise
        assert row["background_nm"] == pytest.approx(0 if row["x_nm"] < 32 else step, abs=noise / 5)


@pytest.mark.parametrize("scale", [(0.25, 0.25), (0.25, 0.5)])
def test_caps_under_a_given_mask_on_a_tilt(scale):
    y, x = (axis * size for axis, size in zip(np.indices((200, 160)), scale, strict=True))
    profile = surfaces.cap_profile(np.hypot(y - 25.1, x - 20.2), 12.0, 4.0)
    row = particles.measure(profile > 0, nm_per_pixel=scale, height=7.0 + profile + 0.02 * x - 0.01 * y)[0]
    assert row["volume_nm3"] == pytest.approx(surfaces.cap_volume(12.0, 4.0), rel=0.02)
    assert row["equivalent_diameter_nm"] == pytest.approx(12.0, abs=0.25)


def test_the_robust_height_is_blind_to_a_spike():
    height, _, heights = caps([36], 0.4)
    height[60, 70] += 5.0
    row = particles.measure(height > 0, height=height)[0]
    assert row["height_max_nm"] > heights[0] + 4.9 and row["height_robust_nm"] == pytest.approx(heights[0], rel=0.01)


def test_a_particle_without_room_around_it_takes_all_free_pixels():
    height = np.full((20, 20), 5.0)
    height[0, 0] = 2.0
    crowded = particles.measure(np.pad(np.ones((18, 18), bool), ((2, 0), (2, 0))), height=height, nm_per_pixel=(1.0, 1.0))[0]
    assert crowded["background_nm"] == 5.0
    full = particles.measure(np.ones((20, 20), bool), height=height, nm_per_pixel=(1.0, 1.0), tip_radius_nm=1.0)[0]
    assert all(math.isnan(full[name]) for name in ("background_nm", "height_max_nm", "volume_nm3", "tip_corrected_diameter_nm"))


@pytest.mark.parametrize("radius", [2.0, 5.0])
def test_a_spherical_tip_is_taken_off_a_spherical_cap(radius):
    """Scanned by brute force: grey dilation with the tip's own sphere as structure (SciPy)."""
    scale, reach = 0.25, int(radius / 0.25)
    cap = surfaces.cap_profile(np.hypot(*(np.indices((141, 141)) - 70) * scale), 12.0, 4.0)
    y, x = np.indices((2 * reach + 1, 2 * reach + 1)) - reach
    sphere = np.hypot(y, x) * scale <= radius
    structure = np.where(sphere, np.sqrt(np.maximum(radius**2 - (y**2 + x**2) * scale**2, 0)) - radius, -np.inf)
    scanned = scipy.ndimage.grey_dilation(cap, footprint=sphere, structure=np.where(sphere, structure, 0))
    for threshold in (0.02, 1.5):  # at the substrate, and a mask cut well above it
        row = particles.measure(scanned > threshold, nm_per_pixel=(scale, scale), height=scanned, tip_radius_nm=radius)[0]
        assert row["equivalent_diameter_nm"] > 13 or threshold > 1
        assert row["tip_corrected_diameter_nm"] == pytest.approx(12.0, abs=2 * scale)


def test_a_paraboloidal_tip_is_taken_off_a_paraboloid():
    distance = np.hypot(*(np.indices((161, 161)) - 80) * 0.25)
    scanned = tip.dilate(np.maximum(3.0 - distance**2 / 12.0, 0), 0.25, 4.0)  # 12 nm wide at its foot
    row = particles.measure(scanned > 0.01, nm_per_pixel=(0.25, 0.25), height=scanned, tip_radius_nm=4.0)[0]
    assert row["equivalent_diameter_nm"] > 14 and row["tip_corrected_diameter_nm"] == pytest.approx(12.0, abs=0.5)


def test_tip_correction_in_closed_form():
    assert particles.without_tip(10.0, 3.0, 0.0) == pytest.approx(10.0)
    assert particles.without_tip(10.0, 3.0, 2.0) == pytest.approx(math.sqrt(100 - 48))
    assert particles.without_tip(4 * math.sqrt(5.0 * 3.0), 6.0, 5.0) == pytest.approx(0, abs=1e-6)  # a whole sphere stands on a point
    assert math.isnan(particles.without_tip(4.0, 3.0, 20.0)) and math.isnan(particles.without_tip(4.0, 1.0, 1.0, 1.0))


def test_a_thousand_particles_take_little_time():
    labels = np.zeros((2000, 2000), np.int32)
    y, x = np.indices((60, 60))
    random = np.random.default_rng(0)
    for label in range(1000):
        row, column = 62 * (label // 32), 62 * (label % 32)
        labels[row : row + 60, column : column + 60][np.hypot(y - 30, x - 30) < random.uniform(12, 28)] = label + 1
    height = 5.0 * (labels > 0) + 0.1 * random.normal(size=labels.shape)
    start = time.process_time()
    rows = particles.measure(labels > 0, nm_per_pixel=(0.5, 0.5), height=height)
    assert len(rows) == 1000 and time.process_time() - start < 6  # 1.2 s on one core here; room for slower machines


def test_summary_counts_particles_not_specks():
    image = (drawn() > 0) + 0.1 * np.random.default_rng(0).normal(size=(128, 160))
    image[100:103, 60:63] = 1.0
    found = particles.summary(image, nm_per_pixel=(0.25, 0.25))
    assert found["particles"] == 4 and particles.summary(image, min_area=5)["particles"] == 5
    assert found["median_diameter"] == pytest.approx(20.0, rel=0.05)
    assert found["median_diameter_nm"] == pytest.approx(5.0, rel=0.05)
    assert found["coverage"] == pytest.approx(sum(math.pi * r * r for _, _, r in DISCS) / (128 * 160), rel=0.05)
    assert "median_diameter_nm" not in particles.summary(image)


def test_summary_is_that_of_the_measured_rows():
    image = (drawn() > 0) + 0.1 * np.random.default_rng(0).normal(size=(128, 160))
    rows = [row for row in particles.measure(particles.otsu_mask(image), nm_per_pixel=(0.5, 0.7)) if row["area"] >= 12]
    found = particles.summary(image, nm_per_pixel=(0.5, 0.7))
    assert found["particles"] == len(rows) and found["coverage"] == sum(row["area"] for row in rows) / image.size
    assert found["median_diameter"] == np.median([row["equivalent_diameter"] for row in rows])
    assert found["median_diameter_nm"] == pytest.approx(np.median([row["equivalent_diameter_nm"] for row in rows]))


def test_a_flat_image_has_no_particles():
    found = particles.summary(np.full((32, 32), 0.1), nm_per_pixel=(1.0, 1.0))
    assert found["particles"] == 0 and found["coverage"] == 0 and math.isnan(found["median_diameter"])
    assert particles.measure(None, height=np.zeros((9, 9))) == []


def test_bad_input_is_refused():
    mask, flat = np.zeros((4, 4), bool), np.zeros((4, 4))
    with pytest.raises(DataError, match="one channel"):
        particles.otsu_mask(np.zeros((4, 4, 3)))
    with pytest.raises(DataError, match="NaN"):
        particles.summary(np.array([[0.0, np.nan]]))
    with pytest.raises(DataError, match="bool or int"):
        particles.measure(flat)
    for name in ("intensity", "height"):
        with pytest.raises(DataError, match=f"{name} .* same shape"):
            particles.measure(mask, **{name: np.zeros((4, 5))})
    with pytest.raises(DataError, match="give a mask, or heights"):
        particles.measure(None)
    for labels in (np.full((4, 4), -1), np.full((4, 4), 2**31 - 1)):
        with pytest.raises(DataError, match="number instances from 1"):
            particles.measure(labels)
    for scale in ((0.0, 1.0), (1.0, math.inf), (1.0,)):
        with pytest.raises(DataError, match="nm_per_pixel"):
            particles.measure(mask, nm_per_pixel=scale)
    for given in ({"tip_radius_nm": 1.0}, {"tip_radius_nm": 1.0, "height": flat}, {"tip_radius_nm": -1.0, "height": flat}):
        with pytest.raises(DataError, match="tip_radius_nm"):
            particles.measure(mask, **given)
