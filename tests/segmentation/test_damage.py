"""Damaged masks: within range, each kind there, from nearly nothing to much."""

import jax
import jax.numpy as jnp
import numpy as np

from segmentation import losses
from segmentation.damage import SHIFT, damage, field


def test_damage_is_within_range_graded_and_follows_its_key():
    truth = losses.to_signs(field(jax.random.key(0), 60, 48, 64, 12))
    predicted = jnp.clip(truth + 0.6 * field(jax.random.key(1), 60, 48, 64, 16), -1, 1)
    run = jax.jit(damage)
    found = [np.asarray(run(jax.random.key(seed), truth, predicted)) for seed in (2, 2, 3)]
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
    assert found[0].shape == truth.shape and found[0].dtype == np.float32 and np.abs(found[0]).max() <= 1
    quality = np.asarray(losses.iou(losses.to_signs(found[0]), truth))
    assert quality.max() > 0.9 and quality.min() < 0.6 and len(np.unique(quality.round(2))) > 15


def test_a_mask_that_is_all_foreground_and_predicted_so_stays_sound():
    ones = jnp.ones((40, 16, 16))
    found = np.asarray(damage(jax.random.key(0), ones, ones))
    assert np.isfinite(found).all() and (np.abs(found) <= 1).all() and (found > 0.49).any()


def test_fields_are_smooth_and_about_standard_normal():
    smooth = np.asarray(field(jax.random.key(0), 200, 64, 64, 16))
    assert abs(smooth.mean()) < 0.05 and 0.7 < smooth.std() < 1.1
    assert np.abs(np.diff(smooth, axis=1)).mean() < 0.15 * smooth.std() and SHIFT < 16
