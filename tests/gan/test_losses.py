"""Losses against NumPy written from the papers' equations, and their gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan import losses

REAL, MADE = np.array([2.0, -0.5, 0.3]), np.array([-1.0, 0.7, 1.5])


def log_sigmoid(x):
    return -np.log1p(np.exp(-x))


def expected(name, smoothing):
    if name == "hinge":
        return np.maximum(0, 1 - smoothing - REAL).mean() + np.maximum(0, 1 + MADE).mean(), -MADE.mean()
    real, made = (REAL - MADE.mean(), MADE - REAL.mean()) if name == "relativistic" else (REAL, MADE)

    def entropy(positive, negative, s):
        return -((1 - s) * log_sigmoid(positive) + s * log_sigmoid(-positive)).mean() - log_sigmoid(-negative).mean()

    generator = entropy(made, real, 0.0) if name == "relativistic" else -log_sigmoid(MADE).mean()
    return entropy(real, made, smoothing), generator


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_values(name, smoothing):
    discriminator, generator = losses.LOSSES[name]
    wanted = expected(name, smoothing)
    assert float(discriminator(jnp.array(REAL), jnp.array(MADE), smoothing)) == pytest.approx(wanted[0], rel=1e-5)
    assert float(generator(jnp.array(REAL), jnp.array(MADE))) == pytest.approx(wanted[1], rel=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_generator_gains_by_raising_its_logits_and_the_discriminator_by_lowering_them(name):
    discriminator, generator = losses.LOSSES[name]
    assert np.all(jax.grad(generator, 1)(jnp.array(REAL), jnp.array(MADE)) < 0)
    assert jax.grad(discriminator, 1)(jnp.array(REAL), jnp.array(MADE)).sum() > 0


def test_smoothing_puts_the_optimum_at_its_target():
    """d/dr of the smoothed cross entropy vanishes where sigmoid(r) = 1 - smoothing."""
    best = np.log(0.9 / 0.1)
    slope = jax.grad(lambda r: losses.discriminator_cross_entropy(r, jnp.zeros(1), 0.1))(jnp.array([best]))
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_extreme_logits_stay_finite():
    big = jnp.array([1e4, -1e4])
    for discriminator, generator in losses.LOSSES.values():
        assert np.isfinite(discriminator(big, -big)) and np.isfinite(generator(big, -big))


def test_r1_of_a_quadratic():
    """D(x) = sum(a x^2) has gradient 2 a x: the penalty is mean_b sum (2 a x)^2 / 2."""
    x = jax.random.normal(jax.random.key(0), (3, 4, 5, 2))
    a = jax.random.normal(jax.random.key(1), (4, 5, 2))
    penalty = losses.r1_penalty(lambda image: (a[None] * image**2).sum((1, 2, 3)), x)
    assert float(penalty) == pytest.approx(0.5 * np.mean(((2 * np.asarray(a)[None] * np.asarray(x)) ** 2).sum((1, 2, 3))), rel=1e-5)
