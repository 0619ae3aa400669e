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


def test_wasserstein_losses_by_hand():
    real, generated = jnp.array([1.0, 3.0]), jnp.array([-2.0, 0.5, 0.0])
    assert float(losses.critic_wasserstein(real, generated)) == pytest.approx(-0.5 - 2.0)
    assert float(losses.generator_wasserstein(generated)) == pytest.approx(0.5)


@pytest.mark.parametrize("slope", [1.0, 0.0, 3.5])
def test_gradient_penalty_of_a_linear_critic_is_its_slope_less_one_squared(slope):
    direction = np.random.default_rng(0).normal(size=(4, 5, 2)).astype(np.float32)
    direction *= slope / np.linalg.norm(direction)
    real, generated = (jax.random.normal(jax.random.key(i), (3, 4, 5, 2)) for i in (1, 2))
    penalty = losses.gradient_penalty(lambda x: jnp.einsum("bhwc,hwc->b", x, direction), real, generated, jnp.array([0.0, 0.4, 1.0]))
    assert float(penalty) == pytest.approx((slope - 1.0) ** 2, abs=1e-5)


def test_gradient_penalty_is_taken_between_each_pair_and_has_a_gradient_everywhere():
    """Of f(x) = |x|^2 / 2 the gradient is the point itself, mix * real + (1 - mix) * generated."""
    real, generated = (jax.random.normal(jax.random.key(i), (3, 2, 2, 1)) for i in (1, 2))
    mix = np.array([0.1, 0.5, 0.8], np.float32)
    points = mix.reshape(3, 1, 1, 1) * np.asarray(real) + (1 - mix.reshape(3, 1, 1, 1)) * np.asarray(generated)
    found = losses.gradient_penalty(lambda x: 0.5 * jnp.sum(x**2, axis=(1, 2, 3)), real, generated, jnp.asarray(mix))
    assert float(found) == pytest.approx(np.mean((np.sqrt((points**2).sum((1, 2, 3))) - 1) ** 2), rel=1e-5)
    flat = jax.grad(lambda a: losses.gradient_penalty(lambda x: a * jnp.sum(x, axis=(1, 2, 3)), real, generated, jnp.asarray(mix)))(0.0)
    assert np.isfinite(flat)
