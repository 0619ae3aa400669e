"""Augmentation of scans and masks together, on the device: elastic deformation, contrast, noise. Key first, pure.

Crops, turns and mirrors are `input_pipeline`'s. Images are float (b, h, w, c) in [-1, 1], masks int (b, h, w); stacks have their
slices second in both, and all slices of a stack are deformed alike. Every image draws its own numbers.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

import resize

FEWEST_NODES = 3
"""Nodes of the deformation's grid along an axis at least, as in Ronneberger et al. 2015."""


class Policy(NamedTuple):
    """How much of each. A field of 0 leaves its part out, and an image and mask that no part touches are the same bit for bit.

    `elastic` standard deviation of the displacements at the nodes of a grid, px; `spacing` from node to node, px, about; `gain` and
    `offset` the greatest change of contrast (1 +- gain) and brightness (+-offset, of a range of 2); `gamma` the greatest |log| of the
    exponent; `noise` the greatest standard deviation of Gaussian noise. "Greatest" of what each image draws uniformly.
    """

    elastic: float = 0.0
    spacing: float = 128.0
    gain: float = 0.0
    offset: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0


POLICIES = {
    "none": Policy(),
    "light": Policy(elastic=4.0, gain=0.1, offset=0.05, gamma=0.1, noise=0.02),
    "medium": Policy(elastic=8.0, gain=0.2, offset=0.1, gamma=0.25, noise=0.05),
    "strong": Policy(elastic=12.0, gain=0.4, offset=0.2, gamma=0.5, noise=0.1),
}
"""Name in the config to policy. Ronneberger et al. 2015 have 10 px on a grid of 3 x 3; the other strengths are ours."""


@functools.partial(jax.jit, static_argnames="policy")
def augment(key: jax.Array, image: jax.Array, mask, policy: Policy) -> tuple[jax.Array, jax.Array]:
    """Returns image and mask, of the shapes and dtypes given, after elastic deformation of both, then contrast and noise of the image.

    `mask` may be any tree of arrays of its shape, say a mask and the weights of its pixels: all move together. The image is clipped to
    [-1, 1] where contrast or noise act. Sources: Ronneberger et al. 2015 (arXiv:1505.04597, section 3.1) for the deformation; the rest
    is as in most segmentation pipelines (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z, its supplement).
    """
    elastic_key, contrast_key, noise_key = jax.random.split(key, 3)
    if policy.elastic:
        height, width = image.shape[-3:-1]
        field = displacements(elastic_key, image.shape[0], height, width, policy.elastic, policy.spacing)
        image, mask = _deformed(image, mask, field)
    if policy.gain or policy.offset or policy.gamma:
        image = contrast(contrast_key, image, policy.gain, policy.offset, policy.gamma)
    if policy.noise:
        image = noise(noise_key, image, policy.noise)
    return image, mask


def _deformed(image, mask, field):
    """Slices of a stack become channels and come back, so that they move together."""

    def applied(form, x):
        return form(x, field) if image.ndim == 4 else jnp.moveaxis(form(jnp.moveaxis(x, 1, 3), field), 3, 1)

    return applied(warp, image), jax.tree.map(functools.partial(applied, warp_nearest), mask)


def displacements(key: jax.Array, num: int, height: int, width: int, sigma: float, spacing: float) -> jax.Array:
    """Returns smooth random fields, float32 (num, height, width, 2): how many px below (0) and to the right (1) a pixel is taken from.

    Independent normal numbers of mean 0 and standard deviation `sigma` px on a grid of one node in `spacing` px, `FEWEST_NODES` at least,
    bicubically enlarged: between nodes the standard deviation is lower, 0.85 to 0.9 sigma over all.
    """
    nodes = [max(round(size / spacing), FEWEST_NODES) for size in (height, width)]
    return resize.bicubic(sigma * jax.random.normal(key, (num, *nodes, 2)), height, width)


def _mirrored(place, size: int):
    """Returns places within 0..size - 1, reflected at the border pixels' centres; at most once, what is left over stays at the border."""
    return jnp.clip((size - 1) - jnp.abs((size - 1) - jnp.abs(place)), 0, size - 1)


def _places(field):
    height, width = field.shape[1:3]
    y = jnp.arange(height, dtype=jnp.float32).reshape(1, -1, 1) + field[..., 0]
    x = jnp.arange(width, dtype=jnp.float32).reshape(1, 1, -1) + field[..., 1]
    return _mirrored(y, height), _mirrored(x, width)


def _taken(values, row, column):
    """Returns values (b, h, w, ..) at (b, h, w) rows and columns."""
    b, h, w = row.shape
    flat = values.reshape(b, h * w, *values.shape[3:])
    at = (row * w + column).reshape(b, h * w)
    return jax.vmap(lambda one, index: one.at[index].get(mode="promise_in_bounds"))(flat, at).reshape(values.shape)


def warp(image: jax.Array, field: jax.Array) -> jax.Array:
    """Returns image (b, h, w, ..) with each pixel taken from where `field` (b, h, w, 2) points, bilinear, reflected at the border."""
    y, x = _places(field)
    row, column = y.astype(jnp.int32), x.astype(jnp.int32)
    below, right = jnp.minimum(row + 1, image.shape[1] - 1), jnp.minimum(column + 1, image.shape[2] - 1)
    down, along = ((value - whole).reshape(*value.shape, *(1,) * (image.ndim - 3)) for value, whole in ((y, row), (x, column)))
    upper = _taken(image, row, column) * (1 - along) + _taken(image, row, right) * along
    lower = _taken(image, below, column) * (1 - along) + _taken(image, below, right) * along
    return (upper * (1 - down) + lower * down).astype(image.dtype)


def warp_nearest(mask: jax.Array, field: jax.Array) -> jax.Array:
    """Returns mask (b, h, w, ..) of any dtype with each pixel that of the one nearest to where `field` points: no new values arise."""
    row, column = (jnp.floor(place + 0.5).astype(jnp.int32) for place in _places(field))
    return _taken(mask, row, column)


def contrast(key: jax.Array, image: jax.Array, gain: float, offset: float, gamma: float) -> jax.Array:
    """Returns image (b, ..) in [-1, 1]: with u = (x + 1) / 2, (2 u^g - 1) a + o, clipped; g, a and o drawn once an image.

    log g is uniform within +-gamma, a within 1 +- gain, o within +-offset.
    """
    shape = (image.shape[0],) + (1,) * (image.ndim - 1)
    g, a, o = (jax.random.uniform(k, shape, minval=-1.0) for k in jax.random.split(key, 3))
    if gamma:
        image = 2 * jnp.clip((image + 1) / 2, 0.0, 1.0) ** jnp.exp(gamma * g) - 1
    return jnp.clip(image * (1 + gain * a) + offset * o, -1.0, 1.0)


def noise(key: jax.Array, image: jax.Array, sigma: float) -> jax.Array:
    """Returns image (b, ..) plus Gaussian noise, clipped to [-1, 1]; its standard deviation is drawn once an image, uniform in 0..sigma."""
    strength_key, noise_key = jax.random.split(key)
    strength = sigma * jax.random.uniform(strength_key, (image.shape[0],) + (1,) * (image.ndim - 1))
    return jnp.clip(image + strength * jax.random.normal(noise_key, image.shape, image.dtype), -1.0, 1.0)
