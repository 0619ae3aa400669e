"""Augmentation: what strength 0 leaves alone, that mask and image move together, SciPy's warp, statistics, keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

import resize
from segmentation import augment
from segmentation.augment import POLICIES, Policy

RANDOM = np.random.default_rng(0)


def smooth_masks(*shape):
    return (scipy.ndimage.gaussian_filter(RANDOM.normal(size=shape), (0,) * (len(shape) - 2) + (4, 4)) > 0).astype(np.int32)


def test_strength_0_is_the_identity_bit_for_bit():
    image, mask = RANDOM.uniform(-1, 1, (2, 16, 20, 3)).astype(np.float32), smooth_masks(2, 16, 20)
    found = augment.augment(jax.random.key(0), image, mask, POLICIES["none"])
    np.testing.assert_array_equal(found[0], image)
    np.testing.assert_array_equal(found[1], mask)
    still = jnp.zeros((2, 16, 20, 2))
    np.testing.assert_array_equal(augment.warp(image, still), image)
    np.testing.assert_array_equal(augment.warp_nearest(mask, still), mask)
    np.testing.assert_allclose(augment.contrast(jax.random.key(0), image, 0.0, 0.0, 1e-9), image, atol=1e-6)
    np.testing.assert_array_equal(augment.noise(jax.random.key(0), image, 0.0), image)


def test_a_mask_drawn_into_the_image_moves_with_it():
    mask = smooth_masks(3, 96, 80)
    image = np.where(mask[..., None] > 0, 0.5, -0.5).astype(np.float32)
    policy = Policy(elastic=6.0, spacing=32.0)
    deformed, moved = augment.augment(jax.random.key(1), image, mask, policy)
    assert moved.dtype == mask.dtype and (np.asarray(moved) != mask).mean() > 0.1
    for drawn, one in zip(np.asarray(deformed[..., 0] > 0), np.asarray(moved), strict=True):
        border = scipy.ndimage.grey_dilation(one, (3, 3)) != scipy.ndimage.grey_erosion(one, (3, 3))
        assert (drawn == one)[~border].all() and (~border).mean() > 0.5
    weights = 0.5 * mask
    both = augment.augment(jax.random.key(1), image, {"mask": mask, "weights": weights}, policy)[1]
    np.testing.assert_array_equal(both["weights"], 0.5 * np.asarray(both["mask"]))
    np.testing.assert_array_equal(both["mask"], moved)
    # All of it, contrast and noise included, where the two values stay apart.
    changed, same = augment.augment(jax.random.key(1), image, mask, policy._replace(gain=0.2, offset=0.1, gamma=0.2, noise=0.02))
    np.testing.assert_array_equal(same, moved)
    assert ((np.asarray(changed[..., 0]) > 0) == np.asarray(deformed[..., 0] > 0)).mean() > 0.97
    assert not np.allclose(changed, deformed, atol=0.01)


def test_a_stack_is_deformed_slice_by_slice_alike():
    mask = smooth_masks(2, 3, 40, 32)
    image = RANDOM.uniform(-1, 1, (2, 3, 40, 32, 1)).astype(np.float32)
    policy, key = Policy(elastic=5.0, spacing=16.0), jax.random.key(2)
    deformed, moved = augment.augment(key, image, mask, policy)
    assert deformed.shape == image.shape and moved.shape == mask.shape
    for index in range(3):
        one, its = augment.augment(key, image[:, index], mask[:, index], policy)
        np.testing.assert_allclose(deformed[:, index], one, atol=1e-5)
        np.testing.assert_array_equal(moved[:, index], its)


def test_warps_are_scipys_mirrored_at_the_border():
    image = RANDOM.normal(size=(2, 24, 30, 2)).astype(np.float32)
    # Mirrored once, which is all that is promised.
    field = (RANDOM.normal(size=(2, 24, 30, 2)) * 8).clip(-20, 20).astype(np.float32)
    mask = RANDOM.integers(0, 9, (2, 24, 30))
    found, moved = augment.warp(image, field), augment.warp_nearest(mask, field)
    for index in range(2):
        places = np.indices((24, 30)) + field[index].astype(np.float64).transpose(2, 0, 1)
        for channel in range(2):
            expected = scipy.ndimage.map_coordinates(image[index, ..., channel], places, order=1, mode="mirror")
            np.testing.assert_allclose(found[index, ..., channel], expected, atol=1e-4)
        nearest = scipy.ndimage.map_coordinates(mask[index], places, order=0, mode="mirror")
        assert (np.asarray(moved[index]) == nearest).mean() > 0.995  # but for ties of rounding
    far = augment.warp(image, jnp.full((2, 24, 30, 2), 1e4))
    assert np.isfinite(far).all() and np.isin(np.asarray(far), image).all()


def test_displacements_are_normal_with_the_variance_of_the_interpolated_grid_and_without_folds():
    sigma, height, width, spacing = 6.0, 64, 96, 24.0
    field = np.asarray(augment.displacements(jax.random.key(3), 600, height, width, sigma, spacing))
    assert field.shape == (600, height, width, 2) and field.dtype == np.float32
    along = []
    for nodes, size in ((3, height), (4, width)):
        unit = np.eye(nodes, dtype=np.float32).reshape(nodes, nodes, 1, 1)
        along.append(np.asarray(resize.bicubic(unit, size, 1))[..., 0, 0])
    down, right = ((weights**2).sum(0) for weights in along)
    expected = sigma * np.sqrt(down[:, None] * right)
    np.testing.assert_allclose(field.std(0), np.repeat(expected[..., None], 2, -1), rtol=0.15)
    steps = sigma**2 * (np.diff(along[0], axis=1) ** 2).sum(0).mean() * right.mean()
    assert (np.diff(field, axis=1) ** 2).mean() == pytest.approx(steps, rel=0.05)
    assert 0.8 * sigma < field.std() < 0.95 * sigma and abs(field.mean()) < 0.1 * sigma
    assert abs(np.corrcoef(field[..., 0].ravel(), field[..., 1].ravel())[0, 1]) < 0.05
    fewest = augment.displacements(jax.random.key(0), 1, 16, 16, 1.0, 1e6)
    assert fewest.shape == (1, 16, 16, 2) and float(fewest.std()) > 0.1
    for policy in POLICIES.values():
        fields = augment.displacements(jax.random.key(4), 8, 256, 256, policy.elastic, policy.spacing)
        down, right = (jnp.diff(fields[..., axis], axis=1 + axis) for axis in (0, 1))
        assert min(float(down.min()), float(right.min())) > -1  # a step of -1 is where two pixels are taken from one place


def test_contrast_is_one_curve_an_image_within_its_limits():
    ramp = np.tile(np.linspace(-1, 1, 41, dtype=np.float32).reshape(1, 41, 1, 1), (300, 1, 2, 1))
    gains = np.asarray(augment.contrast(jax.random.key(5), 0.5 * ramp, 0.3, 0.1, 0.0))
    slopes, middles = np.ptp(gains[:, :, 0, 0], axis=1), gains[:, 20, 0, 0]
    assert 0.7 <= slopes.min() < 0.75 and 1.25 < slopes.max() <= 1.3 + 1e-6
    assert -0.1 <= middles.min() < -0.09 and 0.09 < middles.max() <= 0.1 and np.abs(np.corrcoef(slopes, middles)[0, 1]) < 0.2
    bent = np.asarray(augment.contrast(jax.random.key(6), ramp, 0.0, 0.0, 0.5))
    np.testing.assert_allclose(bent[:, [0, -1]], ramp[:, [0, -1]], atol=1e-6)
    assert (np.diff(bent[:, :, 0, 0], axis=1) > 0).all()
    exponents = np.log((bent[:, 20, 0, 0] + 1) / 2) / np.log(0.5)
    assert np.exp(-0.5) - 1e-4 <= exponents.min() < 0.63 and 1.6 < exponents.max() <= np.exp(0.5) + 1e-4
    whole = np.asarray(augment.contrast(jax.random.key(7), ramp, 0.4, 0.2, 0.5))
    assert np.abs(whole).max() <= 1


def test_noise_has_each_images_own_standard_deviation_and_stays_within_the_range():
    noisy = np.asarray(augment.noise(jax.random.key(8), jnp.zeros((200, 32, 32, 1)), 0.1))
    spread = noisy.std((1, 2, 3))
    assert spread.min() < 0.005 and 0.095 < spread.max() < 0.105 and abs(spread.mean() - 0.05) < 0.006
    assert np.abs(noisy.mean((1, 2, 3))).max() < 0.02
    loud = np.asarray(augment.noise(jax.random.key(8), jnp.full((4, 32, 32, 1), 0.9), 1.0))
    assert loud.max() == 1 and loud.min() >= -1


@pytest.mark.parametrize("name", ["none", "medium"])
def test_the_same_key_gives_the_same_and_each_image_its_own(name):
    image = np.tile(RANDOM.uniform(-1, 1, (1, 48, 48, 1)).astype(np.float32), (2, 1, 1, 1))
    mask = np.tile(smooth_masks(1, 48, 48), (2, 1, 1))
    first, again, other = (augment.augment(jax.random.key(seed), image, mask, POLICIES[name]) for seed in (0, 0, 1))
    assert first[0].dtype == np.float32 and first[0].shape == image.shape and first[1].dtype == mask.dtype
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    acts = name != "none"
    assert all((not np.array_equal(a, b)) is acts for a, b in zip(first, other, strict=True))
    assert (not np.array_equal(first[0][0], first[0][1])) is acts and np.abs(first[0]).max() <= 1
