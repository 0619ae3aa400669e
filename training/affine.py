"""Affine augmentation beyond what the input pipeline does: shift, zoom and turns of whole images, on the device. Key first, pure.

Reflections and quarter turns are the pipeline's, as are free turns where scans are larger than crops; here what comes in from outside an
image continues its border.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Policy(NamedTuple):
    """How much of each, drawn uniformly and for each image anew; with all of them 0 images stay the same bit for bit.

    `shift` the greatest shift along either axis, share of the side; `zoom` the greatest |log| of the magnification; `turn` the greatest
    angle, degrees.
    """

    shift: float = 0.0
    zoom: float = 0.0
    turn: float = 0.0


@functools.partial(jax.jit, static_argnames="policy")
def augment(key: jax.Array, image: jax.Array, policy: Policy) -> jax.Array:
    """Returns images (b, h, w, c), each moved by its own draw of the policy; bilinear, borders replicated."""
    if not any(policy):
        return image
    return warp(image, *draw(key, image.shape[0], image.shape[1:3], policy))


def draw(key: jax.Array, num: int, size: tuple[int, int], policy: Policy) -> tuple[jax.Array, jax.Array]:
    """Returns `num` random maps (matrix (num, 2, 2), offset (num, 2)) for `warp` of images of `size` (h, w) px."""
    shift_key, zoom_key, turn_key = jax.random.split(key, 3)
    shift = policy.shift * jnp.asarray([size], jnp.float32) * jax.random.uniform(shift_key, (num, 2), minval=-1.0)
    scale = jnp.exp(-policy.zoom * jax.random.uniform(zoom_key, (num,), minval=-1.0))
    angle = jnp.deg2rad(policy.turn) * jax.random.uniform(turn_key, (num,), minval=-1.0)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rows = [jnp.stack([cos, sin], axis=1), jnp.stack([-sin, cos], axis=1)]
    return scale[:, None, None] * jnp.stack(rows, axis=1), shift


def warp(image: jax.Array, matrix: jax.Array, offset: jax.Array) -> jax.Array:
    """Returns images (b, h, w, c) whose pixel at p (row, column from the middle) is taken from matrix @ p + offset, px from the middle.

    `matrix` (b, 2, 2), `offset` (b, 2). Bilinear; beyond the border its pixels are continued.
    """
    _, height, width, _ = image.shape
    middle = ((height - 1) / 2, (width - 1) / 2)
    y, x = (jnp.arange(size) - centre for size, centre in zip((height, width), middle, strict=True))

    def place(axis, size):
        of_y, of_x, start = (value[:, None, None] for value in (matrix[:, axis, 0], matrix[:, axis, 1], offset[:, axis] + middle[axis]))
        return jnp.clip(of_y * y[None, :, None] + of_x * x[None, None, :] + start, 0.0, size - 1.0)

    return jax.vmap(_bilinear)(image, place(0, height), place(1, width))


def _bilinear(image, y, x):
    """`image` (h, w, c) at rows and columns (h, w) within it."""
    height, width, channels = image.shape
    row, column = (jnp.floor(place).astype(jnp.int32) for place in (y, x))
    below, right = jnp.minimum(row + 1, height - 1), jnp.minimum(column + 1, width - 1)
    down, along = (y - row)[..., None], (x - column)[..., None]
    flat = image.reshape(-1, channels)

    def at(line, place):
        return flat.at[line * width + place].get(mode="promise_in_bounds")

    upper = at(row, column) * (1 - along) + at(row, right) * along
    lower = at(below, column) * (1 - along) + at(below, right) * along
    return (upper * (1 - down) + lower * down).astype(image.dtype)
