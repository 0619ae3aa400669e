"""DiffAugment against NumPy on one image at a time, its ranges, and that gradients reach the image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan import diffaugment

IMAGE = np.asarray(jax.random.uniform(jax.random.key(0), (64, 16, 24, 3), minval=-1, maxval=1))


def test_translation_is_a_shift_with_zeros():
    moved = np.asarray(diffaugment.translation(jax.random.key(1), jnp.array(IMAGE)))
    seen = set()
    for before, after in zip(IMAGE, moved, strict=True):
        shifts = [(dy, dx) for dy in range(-2, 3) for dx in range(-3, 4) if np.array_equal(shifted(before, dy, dx), after)]
        assert len(shifts) == 1
        seen.add(shifts[0])
    assert {s[0] for s in seen} == set(range(-2, 3)) and {s[1] for s in seen} == set(range(-3, 4))


def shifted(image, dy, dx):
    padded = np.pad(image, ((8, 8), (8, 8), (0, 0)))
    return padded[8 + dy : 24 + dy, 8 + dx : 32 + dx]


def test_cutout_hides_one_square_of_half_the_size():
    cut = np.asarray(diffaugment.cutout(jax.random.key(1), jnp.array(IMAGE)))
    for before, after in zip(IMAGE, cut, strict=True):
        hidden = (after == 0).all(-1)
        rows, columns = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
        assert hidden[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 4 <= len(rows) <= 8 and 6 <= len(columns) <= 12
        np.testing.assert_array_equal(after[~hidden], before[~hidden])


def test_colour_is_brightness_saturation_and_contrast_in_turn():
    key = jax.random.key(3)
    after = np.asarray(diffaugment.colour(key, jnp.array(IMAGE)))
    draws = [np.asarray(jax.random.uniform(k, (64, 1, 1, 1))) for k in jax.random.split(key, 3)]
    bright = IMAGE + draws[0] - 0.5
    grey = bright.mean(-1, keepdims=True)
    vivid = (bright - grey) * 2 * draws[1] + grey
    mean = vivid.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(after, (vivid - mean) * (draws[2] + 0.5) + mean, atol=1e-5)


def test_no_names_change_nothing_and_unknown_names_fail():
    image = jnp.array(IMAGE)
    assert diffaugment.augment(jax.random.key(0), image, ()) is image
    with pytest.raises(KeyError):
        diffaugment.augment(jax.random.key(0), image, ("blur",))


@pytest.mark.parametrize("name", diffaugment.POLICIES)
def test_gradient_against_finite_differences(name):
    image, key = jnp.array(IMAGE[:1, :8, :8, :1]), jax.random.key(5)
    weights = jax.random.normal(jax.random.key(6), image.shape)

    def score(x):
        return (diffaugment.augment(key, x, (name,)) * weights).sum()

    gradient = jax.grad(score)(image)
    direction = jax.random.normal(jax.random.key(7), image.shape)
    slope = (score(image + 0.01 * direction) - score(image - 0.01 * direction)) / 0.02
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=2e-2)
    assert np.abs(gradient).max() > 0


def test_colour_leaves_a_label_field_as_it_is():
    key = jax.random.key(5)
    for channels in (1, 3):
        image, field = jnp.array(IMAGE[..., :channels]), jnp.array(IMAGE[..., :1])
        after = diffaugment.colour(key, jnp.concatenate([image, field], axis=-1))
        np.testing.assert_array_equal(after[..., -1:], field)
        np.testing.assert_array_equal(after[..., :-1], diffaugment.colour(key, image))
