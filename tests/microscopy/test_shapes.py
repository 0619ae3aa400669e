"""Hulls, calipers and perimeters of drawn regions against brute force, scikit-image and closed forms."""

import math

import numpy as np
import pytest
import skimage.measure
import skimage.morphology

from microscopy import shapes

EDGES = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])


def regions():
    """Yields bool images of discs, bars, rings, single pixels and random blobs."""
    y, x = np.indices((41, 47))
    for radius in (0.4, 1.0, 3.3, 9.0, 19.5):
        yield np.hypot(y - 20.2, x - 22.7) < radius
    yield (np.abs(y - 20) < 3) & (np.abs(x - 20) < 15)
    yield (np.abs((y - 20) - (x - 20)) < 2) & (np.hypot(y - 20, x - 20) < 15)
    yield (np.hypot(y - 20, x - 22) < 15) & (np.hypot(y - 20, x - 22) > 11)
    random = np.random.default_rng(0)
    for _ in range(10):
        blob = random.random((12, 15)) < 0.3
        blob[0, 0] = True
        yield blob


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 0.5), (2.0, 0.3)])
def test_feret_diameters_are_those_of_brute_force(scale):
    """All pairs of edge middles of all pixels; the smallest width over the directions of all pairs, on one of which a jaw must lie."""
    num = 0
    for image in regions():
        if image.sum() > 400:
            continue
        points = (np.argwhere(image)[:, None] + EDGES).reshape(-1, 2) * scale
        points = np.unique(points, axis=0)
        pairs = points[:, None] - points
        largest = np.sqrt((pairs**2).sum(-1)).max()
        directions = np.unique(np.round(np.arctan2(pairs[..., 0], pairs[..., 1]) % np.pi, 12))
        smallest = min(np.ptp(points @ (-math.cos(angle), math.sin(angle))) for angle in directions)
        found = shapes.feret_diameters(shapes.hull(image), scale)
        assert found == pytest.approx((largest, smallest), rel=1e-6)
        num += 1
    assert num > 10


@pytest.mark.parametrize("radius", [5.0, 9.3, 19.5])
def test_feret_diameters_of_a_disc_are_its_diameter_within_a_pixel(radius):
    y, x = np.indices((41, 47))
    largest, smallest = shapes.feret_diameters(shapes.hull(np.hypot(y - 20.2, x - 22.7) < radius))
    assert 2 * radius - 1 < smallest <= largest < 2 * radius + 1


def test_hull_pixels_are_scikit_images():
    for image in regions():
        hull = skimage.morphology.convex_hull_image(image, offset_coordinates=False) if image.sum() > 2 else image
        assert shapes.hull_pixels(shapes.hull(image)) == (hull | image).sum()


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.25, 0.25), (1.0, 2.0)])
def test_perimeters_of_discs_and_ellipses(scale):
    """Drawn as discs in nm, whatever the pixels' shape; an ellipse's perimeter is Ramanujan's."""
    y, x = (axis * size for axis, size in zip(np.indices((120, 200)), scale, strict=True))
    labels = np.zeros((120, 200), int)
    labels[np.hypot(y - 50 * scale[0], x - 50 * scale[1]) < 30 * scale[0]] = 1
    labels[((y - 50 * scale[0]) / (40 * scale[0])) ** 2 + ((x - 140 * scale[1]) / (20 * scale[0])) ** 2 < 1] = 4
    found = shapes.perimeters(labels, scale)
    assert found.shape == (5,) and found[2] == found[3] == 0
    assert found[1] == pytest.approx(2 * math.pi * 30 * scale[0], rel=0.03)
    a, b = 40 * scale[0], 20 * scale[0]
    assert found[4] == pytest.approx(math.pi * (3 * (a + b) - math.sqrt((3 * a + b) * (a + 3 * b))), rel=0.04)


def test_perimeters_are_croftons_of_scikit_image():
    for image in regions():
        reference = skimage.measure.perimeter_crofton(np.pad(image, 2), directions=4)
        assert shapes.perimeters(image.astype(int))[1] == pytest.approx(reference, rel=1e-9)


def test_perimeters_of_touching_regions_are_those_of_each_alone():
    labels = np.repeat(np.repeat(np.array([[1, 2], [0, 2]]), 10, axis=0), 12, axis=1)
    found = shapes.perimeters(labels, (1.0, 3.0))
    for label in (1, 2):
        assert found[label] == pytest.approx(shapes.perimeters((labels == label).astype(int), (1.0, 3.0))[1])
