"""Gaussian smoothing on the device: the published remedy against the fine artefacts of an upscaled image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

TRUNCATE = 4.0


@functools.partial(jax.jit, static_argnames="sigma")
def gaussian_blur(images: jax.Array, sigma: float) -> jax.Array:
    """Returns float32 (n, h, w, c), each channel smoothed by a Gaussian of standard deviation `sigma` pixels, the same range; 0: as it was.

    Sampled, cut off at four standard deviations, weights of sum 1, the border mirrored with its pixel repeated: what
    `scipy.ndimage.gaussian_filter` does to the two axes by default. Raises ValueError for a sigma below 0 or not finite.
    """
    if not 0 <= sigma < np.inf:
        raise ValueError(f"sigma {sigma}: 0 pixels or more are needed")
    images = images.astype(jnp.float32)
    if sigma == 0:
        return images
    radius = int(TRUNCATE * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = weights / weights.sum()
    for axis in (1, 2):
        size = images.shape[axis]
        margin = [(radius, radius) if axis == one else (0, 0) for one in range(4)]
        wide = jnp.pad(images, margin, mode="symmetric")
        images = sum(float(weight) * jax.lax.slice_in_dim(wide, i, i + size, axis=axis) for i, weight in enumerate(weights))
    return images
