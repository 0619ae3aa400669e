"""Deliberately damaged masks, on the device: what a critic has to tell from true ones and from each other. Key first, pure.

Masks are float (b, h, w) in [-1, 1], +1 foreground. Every image draws its own kind and strength.
"""

import jax
import jax.numpy as jnp

import resize

KINDS = ("outline", "regions", "shift", "mix", "pixels", "around")
SHIFT = 12
"""px a mask is moved at most along each axis."""
FINEST, COARSEST = 8, 64
"""px from node to node of the random fields, at least and at most."""


def damage(key: jax.Array, truth: jax.Array, predicted: jax.Array) -> jax.Array:
    """Returns float32 (b, h, w) in [-1, 1], each mask damaged in one of `KINDS`, and about half of them softened.

    "outline": the true mask's outline moved in or out; "regions": smooth regions of the other sign, as membranes lost and cells filled;
    "shift": the mask moved by up to `SHIFT` px; "mix": between the predicted and the true mask, or as far beyond the predicted one;
    "pixels": single pixels of the other sign; "around": a smooth field added to the predicted mask. All strengths begin at nearly
    nothing, so that critics see small differences too. The kinds are ours.
    """
    kind_key, soft_key, *keys = jax.random.split(key, 2 + len(KINDS))
    num = truth.shape[0]
    made = [_outline(keys[0], truth), _regions(keys[1], truth), _shifted(keys[2], truth), _mixed(keys[3], truth, predicted)]
    made += [_pixels(keys[4], truth), _around(keys[5], predicted)]
    kind = jax.random.randint(kind_key, (num, 1, 1), 0, len(KINDS))
    chosen = jnp.select([kind == number for number in range(len(KINDS))], made)
    factor = jnp.minimum(jax.random.uniform(soft_key, (num, 1, 1), minval=0.5, maxval=1.5), 1.0)
    return factor * chosen


def field(key: jax.Array, num: int, height: int, width: int, spacing: int) -> jax.Array:
    """Returns smooth random fields (num, height, width), about standard normal: normal numbers `spacing` px apart, bicubic between."""
    nodes = [max(2, -(-size // spacing)) for size in (height, width)]
    return resize.bicubic(jax.random.normal(key, (num, *nodes, 1)), height, width)[..., 0]


def _fields(key, num, height, width):
    """Of two scales, each image's own mixture of them."""
    fine_key, coarse_key, mix_key = jax.random.split(key, 3)
    share = jax.random.uniform(mix_key, (num, 1, 1))
    fine, coarse = (field(k, num, height, width, spacing) for k, spacing in ((fine_key, FINEST), (coarse_key, COARSEST)))
    return (share * fine + (1 - share) * coarse) / jnp.sqrt(share**2 + (1 - share) ** 2)


def _strength(key, num):
    """(num, 1, 1) in 0..1, small ones more often."""
    return jax.random.uniform(key, (num, 1, 1)) ** 2


def _outline(key, truth):
    """A blurred mask, 9 px wide, cut at another level than 0."""
    blurred = jax.lax.reduce_window(truth, 0.0, jax.lax.add, (1, 9, 9), (1, 1, 1), "SAME") / 81
    strength_key, sign_key = jax.random.split(key)
    sign = jnp.where(jax.random.bernoulli(sign_key, 0.5, (truth.shape[0], 1, 1)), 1.0, -1.0)
    return jnp.where(blurred + sign * 0.9 * _strength(strength_key, truth.shape[0]) > 0, 1.0, -1.0)


def _regions(key, truth):
    field_key, strength_key = jax.random.split(key)
    level = 3 - 2.5 * _strength(strength_key, truth.shape[0])
    return jnp.where(_fields(field_key, *truth.shape) > level, -truth, truth)


def _shifted(key, truth):
    moves = jax.random.randint(key, (truth.shape[0], 2), -SHIFT, SHIFT + 1)
    return jax.vmap(lambda mask, move: jnp.roll(mask, move, (0, 1)))(truth, moves)


def _mixed(key, truth, predicted):
    share = jax.random.uniform(key, (truth.shape[0], 1, 1), minval=-1.0, maxval=1.0)
    return jnp.clip(predicted + share * (truth - predicted), -1.0, 1.0)


def _pixels(key, truth):
    strength_key, pixel_key = jax.random.split(key)
    return jnp.where(jax.random.uniform(pixel_key, truth.shape) < 0.4 * _strength(strength_key, truth.shape[0]), -truth, truth)


def _around(key, predicted):
    field_key, strength_key = jax.random.split(key)
    return jnp.clip(predicted + 1.5 * _strength(strength_key, predicted.shape[0]) * _fields(field_key, *predicted.shape), -1.0, 1.0)
