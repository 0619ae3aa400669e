"""Weights of the pixels between cells."""

import numpy as np
import pytest
import scipy.ndimage

from microscopy.boundaries import boundary_weights

RANDOM = np.random.default_rng(0)


def brute_force(instances, class_weights, w0, sigma):
    """Returns the weight map by all distances between all pixels."""
    places = np.argwhere(np.ones(instances.shape, bool)).astype(float)
    found = np.zeros(instances.size)
    for index, place in enumerate(places):
        number = instances[tuple(place.astype(int))]
        found[index] = class_weights[int(number > 0)]
        each = [np.sqrt(((places[instances.ravel() == n] - place) ** 2).sum(1).min()) for n in np.unique(instances[instances > 0])]
        if number == 0 and len(each) > 1:
            found[index] += w0 * np.exp(-(sum(sorted(each)[:2]) ** 2) / (2 * sigma**2))
    return found.reshape(instances.shape)


@pytest.mark.parametrize(("shape", "blur"), [((24, 31), 1.2), ((4, 9, 11), 0.7)])
def test_boundary_weights_by_all_distances(shape, blur):
    instances = scipy.ndimage.label(scipy.ndimage.gaussian_filter(RANDOM.normal(size=shape), blur) > 0.2)[0]
    instances[instances == 2] = 0  # a number that is not used
    assert instances.max() > 3
    for class_weights, w0, sigma in (((1.0, 1.0), 10.0, 5.0), ((0.5, 2.0), 4.0, 1.0)):
        found = boundary_weights(instances, class_weights, w0, sigma)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, brute_force(instances, class_weights, w0, sigma), atol=1e-5)


def test_boundary_weights_are_high_between_two_cells_only():
    instances = np.zeros((40, 40), int)
    instances[5:35, 5:18], instances[5:35, 20:33] = 1, 2
    weights = boundary_weights(instances)
    assert weights[20, 18] == pytest.approx(1 + 10 * np.exp(-9 / 50)) and weights[20, 10] == 1
    assert weights[20, 0] < 1.1 and not np.ptp(boundary_weights(np.minimum(instances, 1)) - 1)
    assert (boundary_weights(np.zeros((5, 6), int)) == 1).all()
    np.testing.assert_array_equal(boundary_weights(instances * 1_000_000_007), weights)
    assert (boundary_weights(np.full((5, 6), 2_000_000_000), (0.5, 2.0)) == 2).all()
