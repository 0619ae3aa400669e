"""Data consistency of an upscaled image: reduced again, is it the image that was measured? And back-projection, which makes it so.

Images are float (n, h, w, c) in [-1, 1]. `down` and `up` are filters of `resize` (`resize.bicubic` is what published pairs are
made with, `resize.area` what a coarser scan measures) and must be the reduction that the low-resolution image was made with.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

import resize

Filter = Callable[[jax.Array, int, int], jax.Array]
PEAK = 2.0  # the width of [-1, 1]


@functools.partial(jax.jit, static_argnames="down")
def consistency_rmse(upscaled: jax.Array, low: jax.Array, down: Filter = resize.bicubic) -> jax.Array:
    """Returns float32 (n), the root mean square of down(upscaled) - low over each image's pixels and channels, in the images' unit.

    `upscaled` (n, H, W, c), `low` (n, h, w, c). 0 where the image adds detail but takes nothing back of what was measured.
    """
    return jnp.sqrt(jnp.mean(_residual(upscaled, low, down) ** 2, axis=(1, 2, 3)))


def consistency_psnr(upscaled: jax.Array, low: jax.Array, down: Filter = resize.bicubic) -> jax.Array:
    """Returns float32 (n), the PSNR in dB of down(upscaled) against `low`, 20 log10(2 / `consistency_rmse`); inf where they are equal."""
    return 20 * jnp.log10(PEAK / consistency_rmse(upscaled, low, down))


@functools.partial(jax.jit, static_argnames=("num_steps", "down", "up"))
def back_project(
    upscaled: jax.Array, low: jax.Array, num_steps: int, down: Filter = resize.bicubic, up: Filter = resize.bicubic
) -> jax.Array:
    """Returns float32 (n, H, W, c): `upscaled` after `num_steps` times x <- x + up(low - down(x)), by which down(x) comes to `low`.

    Iterative back-projection (Irani and Peleg, CVGIP: Graphical Models and Image Processing 53, 231, 1991). With `resize.area` both
    ways and a whole-number scale down(up(x)) = x, and one step is exact: the nearest consistent image. With `resize.bicubic` a step
    leaves what of the error lies at the low-resolution image's finest frequencies to the next. Not clipped: clipping to [-1, 1]
    afterwards takes some of the consistency back where the image is saturated.
    """

    def step(_, image):
        return image - up(_residual(image, low, down), *image.shape[1:3])

    return jax.lax.fori_loop(0, num_steps, step, upscaled.astype(jnp.float32))


def _residual(upscaled: jax.Array, low: jax.Array, down: Filter) -> jax.Array:
    return down(upscaled, *low.shape[1:3]) - low.astype(jnp.float32)
