"""Adversarial losses as functions of the two batches of logits. Each returns a float32 scalar to be minimised."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def discriminator_cross_entropy(real: jax.Array, generated: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Returns the sigmoid cross entropy of real against 1 - smoothing and of generated against 0; logits (b,).

    Goodfellow et al. 2014 (arXiv 1406.2661), eq. 1; one-sided smoothing of Salimans et al. 2016 (arXiv 1606.03498), 3.4.
    """
    return jnp.mean(jax.nn.softplus(-real) + smoothing * real) + jnp.mean(jax.nn.softplus(generated))


def generator_cross_entropy(real: jax.Array, generated: jax.Array) -> jax.Array:
    """Returns the non-saturating loss -log D(G(z)); logits (b,). Goodfellow et al. 2014, section 3."""
    del real
    return jnp.mean(jax.nn.softplus(-generated))


def discriminator_hinge(real: jax.Array, generated: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Returns the hinge loss; logits (b,). Lim and Ye 2017 (arXiv 1705.02894); Miyato et al. 2018 (arXiv 1802.05957), eq. 16.

    `smoothing` lowers the margin asked of real images to 1 - smoothing.
    """
    return jnp.mean(jax.nn.relu(1.0 - smoothing - real)) + jnp.mean(jax.nn.relu(1.0 + generated))


def generator_hinge(real: jax.Array, generated: jax.Array) -> jax.Array:
    """Returns -E D(G(z)); logits (b,). Miyato et al. 2018, eq. 17."""
    del real
    return -jnp.mean(generated)


def discriminator_relativistic(real: jax.Array, generated: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Returns the relativistic average cross entropy; logits (b,). Jolicoeur-Martineau 2018 (arXiv 1807.00734), eq. 12."""
    return discriminator_cross_entropy(real - jnp.mean(generated), generated - jnp.mean(real), smoothing)


def generator_relativistic(real: jax.Array, generated: jax.Array) -> jax.Array:
    """Returns the relativistic average loss with the roles exchanged; logits (b,). Jolicoeur-Martineau 2018, eq. 13."""
    return discriminator_cross_entropy(generated - jnp.mean(real), real - jnp.mean(generated))


LOSSES: dict[str, tuple[Callable, Callable]] = {
    "cross_entropy": (discriminator_cross_entropy, generator_cross_entropy),
    "hinge": (discriminator_hinge, generator_hinge),
    "relativistic": (discriminator_relativistic, generator_relativistic),
}
"""Name in a config to (discriminator loss, generator loss)."""


def r1_penalty(logits_of: Callable[[jax.Array], jax.Array], real: jax.Array) -> jax.Array:
    """Returns half the mean squared gradient norm of the logits at real images (b, h, w, c).

    Mescheder et al. 2018 (arXiv 1801.04406), eq. 9 without its weight gamma. Under batch normalisation a logit also
    depends on the other images of its batch; the gradient is that of the summed logits.
    """
    gradient = jax.grad(lambda image: jnp.sum(logits_of(image)))(real)
    return 0.5 * jnp.mean(jnp.sum(gradient**2, axis=(1, 2, 3)))


def critic_wasserstein(real: jax.Array, generated: jax.Array) -> jax.Array:
    """Returns E f(G(z)) - E f(x), minus the critic's estimate of the distance; values (b,).

    Arjovsky et al. 2017 (arXiv 1701.07875), eq. 2.
    """
    return jnp.mean(generated) - jnp.mean(real)


def generator_wasserstein(generated: jax.Array) -> jax.Array:
    """Returns -E f(G(z)); values (b,). Arjovsky et al. 2017, algorithm 1."""
    return -jnp.mean(generated)


def gradient_penalty(values_of: Callable[[jax.Array], jax.Array], real: jax.Array, generated: jax.Array, mix: jax.Array) -> jax.Array:
    """Returns the mean of (|gradient| - 1)^2 of the values at mix * real + (1 - mix) * generated; images (b, h, w, c), mix (b,) in 0..1.

    Gulrajani et al. 2017 (arXiv 1704.00028), eq. 3 without its weight. A value must not depend on the other images of its batch.
    """
    mix = mix.reshape(-1, 1, 1, 1)
    gradient = jax.grad(lambda image: jnp.sum(values_of(image)))(mix * real + (1.0 - mix) * generated)
    norm = jnp.sqrt(jnp.sum(gradient**2, axis=(1, 2, 3)) + 1e-12)  # the root of 0 has no gradient
    return jnp.mean((norm - 1.0) ** 2)
