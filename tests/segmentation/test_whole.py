"""Whole scans: the network sees its own, coarser pixels, and what it says comes back to the scan's."""

import numpy as np
import pytest

from segmentation import networks
from segmentation.whole import make_whole, sized

MODEL = networks.UNet(base_width=2, depth=1)


def test_a_network_of_coarser_pixels_sees_their_means_and_is_brought_back():
    image = np.random.default_rng(0).uniform(-1, 1, (90, 132, 1)).astype(np.float32)
    seen = []

    def probability(images):
        seen.append(np.asarray(images))
        return (images[..., 0] + 1) / 2

    found = make_whole(MODEL, probability, 3.0)(image)
    means = image.reshape(30, 3, 44, 3).mean((1, 3))
    np.testing.assert_allclose(seen[0][0, :30, :44, 0], means, atol=1e-6)
    assert found.shape == (90, 132) and found.dtype == np.float32
    np.testing.assert_allclose(found[1::3, 1::3], (means + 1) / 2, atol=1e-6)  # a coarse pixel's centre is a fine one's


def test_a_network_of_the_scans_pixels_sees_them_as_they_are():
    image = np.random.default_rng(1).uniform(-1, 1, (70, 50, 3)).astype(np.float32)
    found = make_whole(MODEL, lambda images: (images[..., 1] + 1) / 2)(image)
    np.testing.assert_array_equal(found, (image[..., 1] + 1) / 2)


@pytest.mark.parametrize("size", [(5, 9), (40, 60), (5, 60)])
def test_a_constant_stays_one_at_any_size(size):
    assert np.ptp(sized(np.full((20, 30, 2), 0.25, np.float32), size)) == 0
