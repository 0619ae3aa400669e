"""The U-Net's layers over any number of axes, in the forms XLA compiles well forward and backward, on CPU and GPU.

Arrays are (b, *sizes, c): two axes are an image, three a stack. Measured on XLA:CPU, two cores, against the plain forms: the gradient
of a maximum over windows by `reduce_window` takes 7 times as long as of one slice against the other, a convolution along three axes 6
to 8 times as long as the sum of its slices' convolutions along two, forward and backward, and one of two arrays one after another along
their channels 1.5 to 2.5 times as long as the sum of their two convolutions.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUTS = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def _plain(x, kernel, precision):
    layout = _LAYOUTS[x.ndim - 2]
    return lax.conv_general_dilated(x, kernel, (1,) * (x.ndim - 2), "SAME", dimension_numbers=layout, precision=precision)


def _by_slices(x, kernel, precision):
    """A convolution along three axes: for each slice of the kernel one along two of all slices of the stack, shifted and added."""
    b, d, *slice_shape = x.shape
    half = kernel.shape[0] // 2
    padded = jnp.pad(x, ((0, 0), (half, half), (0, 0), (0, 0), (0, 0)))
    parts = [_plain(padded[:, i : i + d].reshape(b * d, *slice_shape), one, precision) for i, one in enumerate(kernel)]
    return sum(parts).reshape(b, d, *slice_shape[:-1], -1)


def convolution(x: jax.Array, kernel: jax.Array, precision=None) -> jax.Array:
    """Returns (b, *sizes, d) for x (b, *sizes, c) along two or three axes and a kernel (*sides, c, d) of odd sides, zeros around x."""
    if x.ndim == 4:
        return _plain(x, kernel, precision)
    if kernel.shape[0] == 1:
        return _by_slices(x, kernel, precision)
    by_slices, plain = (lambda x, kernel, form=form: form(x, kernel, precision) for form in (_by_slices, _plain))
    return lax.platform_dependent(x, kernel, cpu=by_slices, default=plain)


def max_pool(x: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """Returns the maximum over windows, each of `window` (1 or 2) along the axes, that tile x (b, *sizes, c); sizes must be multiples.

    Of two equal maxima along an axis each has half the gradient.
    """
    for axis, side in enumerate(window, 1):
        if side == 2:
            x = jnp.maximum(lax.slice_in_dim(x, 0, None, 2, axis), lax.slice_in_dim(x, 1, None, 2, axis))
    return x


def transposed(x: jax.Array, kernel: jax.Array, window: tuple[int, ...], precision=None) -> jax.Array:
    """Returns x (b, *sizes, c) enlarged by `window` along the axes: a transposed convolution whose kernel and stride are both `window`.

    `kernel` is (c, prod(window) d): the d maps of a pixel's parts one after another, the last axis fastest. Windows do not overlap, so
    it is one matrix product and a shuffle of its outputs (Shi et al. 2016, arXiv:1609.07009), and so is its gradient.
    """
    axes = len(window)
    y = jnp.matmul(x, kernel, precision=precision)
    # Without the barrier XLA:CPU fuses the shuffle into the products of the gradient, which then take three times as long.
    y = lax.optimization_barrier(y).reshape(*x.shape[:-1], *window, kernel.shape[1] // math.prod(window))
    order = [axis for i in range(axes) for axis in (1 + i, 1 + axes + i)]
    sizes = [size * side for size, side in zip(x.shape[1:-1], window, strict=True)]
    return y.transpose(0, *order, 2 * axes + 1).reshape(x.shape[0], *sizes, -1)


def halved(x: jax.Array, kernel: jax.Array, precision=None) -> jax.Array:
    """Returns x (b, *sizes, c) of even sizes at half of them: a convolution of 4 pixels a side and stride 2, one zero around x.

    `kernel` is (2, 2, 4c, d) along two axes, (2, 2, 2, 8c, d) along three: it convolves blocks of two pixels a side with stride 1, so
    no gradient has to spread out its input.
    """
    axes = x.ndim - 2
    x = jnp.pad(x, ((0, 0), *((1, 1),) * axes, (0, 0)))
    pairs = [part for size in x.shape[1:-1] for part in (size // 2, 2)]
    order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
    blocks = x.reshape(x.shape[0], *pairs, x.shape[-1]).transpose(order).reshape(x.shape[0], *pairs[::2], -1)
    return lax.conv_general_dilated(blocks, kernel, (1,) * axes, "VALID", dimension_numbers=_LAYOUTS[axes], precision=precision)
