"""The affine warp against SciPy's, and the draws against what the policy says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from training import affine
from training.affine import Policy

IMAGES = jax.random.uniform(jax.random.key(0), (4, 17, 22, 3), minval=-1)
ALL = Policy(shift=0.2, zoom=0.3, turn=180.0)


def test_the_warp_is_scipys_affine_transform_with_the_border_continued():
    matrix, offset = affine.draw(jax.random.key(1), 4, (17, 22), ALL)
    found = np.asarray(affine.augment(jax.random.key(1), IMAGES, ALL))
    middle = np.array([8.0, 10.5])
    for image, m, o, one in zip(*(np.asarray(a, np.float64) for a in (IMAGES, matrix, offset, found)), strict=True):
        for channel in range(3):
            moved = scipy.ndimage.affine_transform(image[..., channel], m, middle - m @ middle + o, order=1, mode="nearest")
            np.testing.assert_allclose(one[..., channel], moved, atol=2e-5)


def test_nothing_asked_for_is_nothing_done():
    np.testing.assert_array_equal(affine.augment(jax.random.key(0), IMAGES, Policy()), IMAGES)


@pytest.mark.parametrize("policy", [Policy(shift=0.1), Policy(zoom=0.2), Policy(turn=30.0)])
def test_draws_fill_their_range_and_leave_the_rest_alone(policy):
    matrix, offset = (np.asarray(a) for a in affine.draw(jax.random.key(2), 4000, (20, 40), policy))
    scale = np.sqrt(np.abs(np.linalg.det(matrix)))
    angle = np.degrees(np.arctan2(matrix[:, 0, 1], matrix[:, 0, 0]))
    greatest = [np.abs(offset[:, 0]).max() / 20, np.abs(offset[:, 1]).max() / 40, np.abs(np.log(scale)).max(), np.abs(angle).max()]
    np.testing.assert_allclose(greatest, [policy.shift, policy.shift, policy.zoom, policy.turn], rtol=0.01, atol=1e-4)
    assert (np.linalg.det(matrix) > 0).all()


def test_a_shift_moves_the_image_and_a_zoom_magnifies_it():
    image = jnp.zeros((1, 21, 21, 1)).at[0, 8:13, 8:13].set(1.0)
    eye = jnp.eye(2)[None]
    np.testing.assert_array_equal(affine.warp(image, eye, jnp.array([[2.0, -3.0]])), jnp.roll(image, (-2, 3), (1, 2)))
    assert float(affine.warp(image, eye / 2, jnp.zeros((1, 2))).sum()) == pytest.approx(4 * 25, rel=0.05)
