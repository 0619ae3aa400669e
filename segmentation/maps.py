"""What a network's output maps mean: logits of background and foreground, a map in [-1, 1], a probability.

Maps are (b, *sizes, 1 or 2), linear. Of two the second is the foreground's logit. One map z has the output tanh(z), as in the published
U-Net in a GAN, and the logits -z and z, so that (1 + tanh z) / 2 is the probability in both readings.
"""

import jax
import jax.numpy as jnp


def class_logits(maps: jax.Array) -> jax.Array:
    """Returns the logits (b, *sizes, 2) of background and foreground."""
    return maps if maps.shape[-1] == 2 else jnp.concatenate([-maps, maps], axis=-1)


def signs(maps: jax.Array) -> jax.Array:
    """Returns (b, *sizes) in [-1, 1], +1 foreground: tanh z, or the difference of both classes' probabilities."""
    return jnp.tanh(_half_difference(maps))


def probability(maps: jax.Array) -> jax.Array:
    """Returns the probability of foreground, (b, *sizes) in 0..1."""
    return jax.nn.sigmoid(2 * _half_difference(maps))


def _half_difference(maps):
    return maps[..., 0] if maps.shape[-1] == 1 else (maps[..., 1] - maps[..., 0]) / 2
