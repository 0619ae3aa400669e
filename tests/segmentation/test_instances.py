"""Instance maps: touching discs are cut apart, one ellipse is not, specks and empty images give nothing, either polarity is found."""

import numpy as np
import pytest
import scipy.ndimage

from microscopy.scan import DataError
from segmentation import instances

Y, X = np.mgrid[:64, :80]


def disc(y, x, radius):
    return (Y - y) ** 2 + (X - x) ** 2 <= radius**2


TOUCHING = disc(32, 22, 14) | disc(32, 48, 14)
ELLIPSE = ((Y - 32) / 12) ** 2 + ((X - 40) / 30) ** 2 <= 1


def test_two_touching_discs_are_two_particles_cut_where_they_touch():
    assert scipy.ndimage.label(TOUCHING)[1] == 1
    found = instances.from_probability(np.where(TOUCHING, 0.9, 0.1))
    assert found.dtype == np.int32 and np.unique(found).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found > 0, TOUCHING)
    left, right = found[32, 22], found[32, 48]
    assert left != right and (found[disc(32, 22, 12)] == left).all() and (found[disc(32, 48, 12)] == right).all()
    assert instances.from_probability(np.where(TOUCHING, 0.9, 0.1), split=False).max() == 1


def test_one_ellipse_and_one_disc_stay_whole():
    for shape in (ELLIPSE, disc(30, 40, 20), disc(0, 0, 15)):
        np.testing.assert_array_equal(instances.from_mask(shape), shape.astype(np.int32))


def test_an_empty_image_and_specks_give_no_instance():
    for probability in (np.zeros((20, 30)), np.full((20, 30), 0.5)):
        assert not instances.from_probability(probability).any()
    speck = np.zeros((64, 80), bool)
    speck[3:5, 3:8] = speck[40:42, 3:8] = True
    speck[20:30, 20:30] = True
    assert np.unique(instances.from_mask(speck, min_area=11)).tolist() == [0, 1]
    assert np.unique(instances.from_mask(speck, min_area=10)).tolist() == [0, 1, 2, 3]


def test_ids_are_consecutive_and_the_same_each_time():
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(128, 128)), 3)
    probability = (noise - noise.min()) / np.ptp(noise)
    found = instances.from_probability(probability)
    ids = np.unique(found)
    assert len(ids) > 5 and ids.tolist() == list(range(len(ids)))
    np.testing.assert_array_equal(found, instances.from_probability(probability))
    assert min(np.bincount(found.ravel())[1:]) >= instances.MIN_AREA


def test_oblong_pixels_change_where_a_neck_is():
    """One round particle, scanned with three times as many lines as columns, is one particle."""
    tall = ((Y - 32) / 30) ** 2 + ((X - 40) / 10) ** 2 <= 1
    assert instances.from_mask(tall, nm_per_pixel=(1.0, 3.0)).max() == 1


@pytest.mark.parametrize("polarity", ["bright", "dark"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_otsu_and_watershed_find_bright_and_dark_particles(polarity, dtype):
    shapes = TOUCHING | disc(10, 70, 8)
    image = np.where(shapes == (polarity == "bright"), 180, 60) + np.random.default_rng(1).normal(0, 5, shapes.shape)
    for asked in (polarity, "auto"):
        found = instances.otsu_watershed(image.astype(dtype), asked)
        assert found.max() == 3
        assert np.count_nonzero((found > 0) != shapes) < 0.03 * np.count_nonzero(shapes)
    other = {"bright": "dark", "dark": "bright"}[polarity]
    assert np.count_nonzero(instances.otsu_watershed(image.astype(dtype), other)[shapes]) < 100


def test_an_image_of_one_value_has_no_particles_in_any_polarity():
    for polarity in instances.POLARITIES:
        assert not instances.otsu_watershed(np.full((16, 16), 7, np.uint8), polarity).any()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: instances.otsu_watershed(np.zeros((4, 4)), "grey"), "polarity 'grey': choose auto, bright, dark"),
        (lambda: instances.otsu_watershed(np.zeros((4, 4, 3))), "one channel"),
        (lambda: instances.from_probability(np.full((4, 4), np.nan)), "NaN"),
        (lambda: instances.from_probability(np.full((4, 4), 1.5)), "0 to 1 is needed"),
        (lambda: instances.from_mask(np.zeros((4, 4))), "a bool mask"),
    ],
)
def test_what_is_no_image_or_probability_is_told(call, match):
    with pytest.raises(DataError, match=match):
        call()
