"""Masks of drawn particles: Otsu's, footprints down to the substrate, and touching particles cut apart."""

import numpy as np
import pytest

from microscopy import surfaces, thresholds
from microscopy.scan import DataError


def discs(places, shape=(100, 120), scale=(1.0, 1.0)):
    """Returns bool (h, w), the union of discs (y, x, radius) in units in which a pixel is `scale`."""
    y, x = (axis * size for axis, size in zip(np.indices(shape), scale, strict=True))
    return np.any([np.hypot(y - cy, x - cx) < radius for cy, cx, radius in places], axis=0)


@pytest.mark.parametrize("scale", [1.0, 1e-9, 255.0])
def test_otsu_finds_noisy_discs_at_any_height_scale(scale):
    truth = discs([(30, 40, 9), (70, 30, 14), (60, 90, 11)])
    image = scale * truth + 0.1 * scale * np.random.default_rng(0).normal(size=truth.shape)
    mask = thresholds.otsu_mask(image)
    assert mask.dtype == bool and mask.shape == truth.shape
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("terraced", [False, True])
def test_footprints_reach_down_to_the_substrate_where_otsu_stops_half_way(noise, terraced):
    random = np.random.default_rng(0)
    substrate = surfaces.terraces((256, 256), 0.25, 0.335, 16.0, 1.0, random) if terraced else np.zeros((256, 256))
    centres, diameters = np.array([[12.0, 15.0], [40.0, 20.0], [30.0, 50.0], [55.0, 50.0]]), np.array([9.0, 8.0, 7.0, 10.0])
    height = surfaces.add_caps(substrate, 0.25, centres, diameters, 0.45 * diameters)
    truth = discs([(*centre, diameter / 2) for centre, diameter in zip(centres, diameters, strict=True)], (256, 256), (0.25, 0.25))
    height = height - 0.002 * np.arange(256) + noise * random.normal(size=height.shape)
    found, otsu = thresholds.footprint_mask(height), thresholds.otsu_mask(height)
    assert (found & truth).sum() / (found | truth).sum() > 0.9 and found.sum() == pytest.approx(truth.sum(), rel=0.05)
    assert otsu.sum() < 0.9 * truth.sum()


def test_a_flat_map_has_no_footprints():
    assert not thresholds.footprint_mask(np.full((20, 30), 2.5)).any()


def test_footprints_without_any_substrate_to_be_seen_are_the_cores():
    height = np.pad(np.full((10, 10), 3.0), 1)
    assert np.array_equal(thresholds.footprint_mask(height), thresholds.otsu_mask(height))


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 1.0), (2.0, 1.5)])
@pytest.mark.parametrize("gap", [13.0, 16.0, 19.0])
def test_overlapping_discs_are_cut_at_the_neck(gap, scale):
    """Each disc's half goes to it: the cut is the chord between the two, which are of one radius."""
    unit = np.sqrt(scale[0] * scale[1])
    first, second = (40.0 * unit, 30.0 * unit), (40.0 * unit, (30.0 + gap) * unit)
    shape = (int(80 * unit / scale[0]), int(80 * unit / scale[1]))
    union = discs([(*first, 10 * unit), (*second, 10 * unit)], shape, scale)
    cut = thresholds.split_touching(union, scale)
    assert cut.dtype == np.int32 and set(np.unique(cut)) == {0, 1, 2} and np.array_equal(cut > 0, union)
    x = np.indices(shape)[1] * scale[1]
    left = cut[round(first[0] / scale[0]), round(first[1] / scale[1])]
    nearer = np.where(x < (first[1] + second[1]) / 2, left, 3 - left)
    assert (cut == nearer)[union].mean() > 0.95


def test_discs_of_different_sizes_in_a_row():
    union = discs([(50, 20, 12), (50, 40, 9), (50, 56, 8), (50, 80, 17)])
    assert thresholds.split_touching(union).max() == 4


@pytest.mark.parametrize("depth", [0.05, 0.1])
def test_one_particle_stays_one(depth):
    """Discs of any place and size, ellipses and bars, also with a ragged outline, are not cut."""
    random = np.random.default_rng(0)
    y, x = np.indices((100, 120))
    for _ in range(20):
        cy, cx, radius = random.uniform(40, 60), random.uniform(50, 70), random.uniform(2, 30)
        shapes = [np.hypot(y - cy, x - cx) < radius, np.hypot((y - cy) / 0.5, x - cx) < radius]
        shapes.append(np.hypot(y - cy, x - cx) + random.normal(0, 0.4, y.shape) < radius + 3)
        shapes.append((np.abs(y - cy) < radius / 3 + 1) & (np.abs(x - cx) < radius))
        for shape in shapes[: 3 if depth < 0.1 else 4]:
            whole = thresholds.instances(shape)
            largest = whole == np.bincount(whole[whole > 0]).argmax()
            assert thresholds.split_touching(largest, depth=depth).max() == 1


def test_splitting_keeps_instances_apart_and_numbers_them_anew():
    labels = np.zeros((40, 60), np.uint16)
    labels[discs([(20, 15, 10)], (40, 60))] = 500
    labels[discs([(20, 35, 10)], (40, 60)) & (labels == 0)] = 7
    cut = thresholds.split_touching(labels)
    assert cut.max() == 2 and len(np.unique(cut[labels == 7])) == len(np.unique(cut[labels == 500])) == 1
    assert np.array_equal(thresholds.split_touching(np.zeros((5, 5), bool)), np.zeros((5, 5)))


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="one channel"):
        thresholds.otsu_mask(np.zeros((4, 4, 3)))
    with pytest.raises(DataError, match="NaN"):
        thresholds.footprint_mask(np.array([[0.0, np.nan]]))
    with pytest.raises(DataError, match="bool or int"):
        thresholds.split_touching(np.zeros((4, 4)))


def test_a_stack_has_one_threshold_for_all_planes_and_the_rarer_side():
    truth = np.stack([discs([(30, 40, 9), (70, 30, 14)]), discs([(60, 90, 11)]), np.zeros((100, 120), bool)], axis=-1)
    image = np.where(truth, 40.0, 200.0) + np.random.default_rng(0).normal(0, 5, truth.shape)
    mask = thresholds.stack_otsu(image, smoothing=0.5)
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9 and not mask[..., 2].any()  # a threshold of its own would cut the noise
    turned = thresholds.stack_otsu(-image, smoothing=0.5)
    assert (mask & turned).sum() / (mask | turned).sum() > 0.95  # the histogram's bins lie elsewhere
    assert not thresholds.stack_otsu(np.ones((4, 5, 2))).any()
