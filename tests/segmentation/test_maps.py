"""Logits, signed maps and probabilities say the same."""

import jax
import numpy as np
import pytest

from segmentation import maps


@pytest.mark.parametrize("num_maps", [1, 2])
def test_all_readings_are_one_probability(num_maps):
    out = np.random.default_rng(num_maps).normal(0, 3, (2, 5, 4, num_maps)).astype(np.float32)
    expected = 1 / (1 + np.exp(-2 * out[..., 0].astype(np.float64))) if num_maps == 1 else None
    if num_maps == 2:
        powers = np.exp(out.astype(np.float64))
        expected = powers[..., 1] / powers.sum(-1)
    np.testing.assert_allclose(maps.probability(out), expected, atol=1e-6)
    np.testing.assert_allclose(maps.signs(out), 2 * expected - 1, atol=1e-6)
    np.testing.assert_allclose(jax.nn.softmax(maps.class_logits(out))[..., 1], expected, atol=1e-6)
    if num_maps == 1:
        np.testing.assert_allclose(maps.signs(out), np.tanh(out[..., 0]), atol=1e-6)
