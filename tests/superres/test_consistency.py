"""Consistency and back-projection against closed forms and NumPy's block means."""

import numpy as np
import pytest

import resize
from superres.consistency import back_project, consistency_psnr, consistency_rmse

PAIRS = [(resize.bicubic, resize.bicubic), (resize.area, resize.bicubic), (resize.bicubic, resize.area)]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def block_means(images, scale):
    n, h, w, c = images.shape
    return images.astype(np.float64).reshape(n, h // scale, scale, w // scale, scale, c).mean((2, 4))


def test_the_error_is_that_of_the_reduced_image():
    upscaled, low = noise(3, 24, 32, 2), noise(3, 6, 8, 2, seed=1)
    expected = np.sqrt(((block_means(upscaled, 4) - low) ** 2).mean((1, 2, 3)))
    found = consistency_rmse(upscaled, low, resize.area)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(consistency_psnr(upscaled, low, resize.area), 10 * np.log10(4 / expected**2), rtol=1e-5)
    np.testing.assert_allclose(consistency_rmse(upscaled, resize.bicubic(upscaled, 6, 8)), 0, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_one_step_of_area_means_is_exact_and_the_nearest_consistent_image(scale):
    upscaled, low = noise(2, 6 * scale, 5 * scale, 1), noise(2, 6, 5, 1, seed=1)
    found = back_project(upscaled, low, 1, resize.area, resize.area)
    closed = upscaled + (low - block_means(upscaled, scale)).repeat(scale, 1).repeat(scale, 2)
    np.testing.assert_allclose(found, closed, atol=2e-6)
    assert consistency_rmse(found, low, resize.area).max() < 1e-6
    np.testing.assert_allclose(back_project(found, low, 5, resize.area, resize.area), found, atol=2e-6)


@pytest.mark.parametrize(("down", "up"), PAIRS)
@pytest.mark.parametrize(("size", "low_size"), [((64, 48), (16, 12)), ((64, 64), (25, 25))])
def test_the_error_falls_at_every_step(down, up, size, low_size):
    upscaled, low = noise(2, *size, 1), noise(2, *low_size, 1, seed=1)
    errors = np.stack([consistency_rmse(back_project(upscaled, low, steps, down, up), low, down) for steps in (0, 1, 2, 4, 8, 20)])
    assert (np.diff(errors, axis=0) < 0).all() and (errors[0] > 0.3).all()
    assert (errors[-1] < 1e-3).all(), errors


def test_what_is_consistent_stays_and_no_step_changes_nothing():
    upscaled = noise(1, 32, 32, 3)
    np.testing.assert_array_equal(back_project(upscaled, noise(1, 8, 8, 3, seed=1), 0), upscaled)
    np.testing.assert_allclose(back_project(upscaled, resize.bicubic(upscaled, 8, 8), 10), upscaled, atol=1e-5)
