"""Images of any size to any size, on the device: each filter is two small matrix products, one along each axis.

Every function takes images (n, h, w, c) of any real dtype in any range and returns float32 (n, height, width, c) in the same
range, not clipped: `lanczos`, `bicubic` and `pil_bicubic` overshoot at edges. A filter's weights are worked out in float64 on
the host, once for a pair of sizes. Pixel i covers [i, i + 1] in all but `tf1_bilinear`. Sizes are ints of at least 1; anything
else is a ValueError.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

LANCZOS_LOBES = 3


@functools.partial(jax.jit, static_argnames=("height", "width", "antialias"))
def bilinear(images: jax.Array, height: int, width: int, antialias: bool = True) -> jax.Array:
    """Returns float32 (n, height, width, c) by the triangle filter, edges repeated; see the module for shapes and range.

    With `antialias` the triangle is widened to the reduction and cut off at the border (as Pillow and `jax.image.resize` do);
    without it two pixels are mixed whatever the reduction (as OpenCV's INTER_LINEAR does). Enlarging, both are the same.
    """
    return _apply(images, _weights("bilinear" if antialias else "bilinear_aliased", images.shape, height, width))


@functools.partial(jax.jit, static_argnames=("height", "width"))
def area(images: jax.Array, height: int, width: int) -> jax.Array:
    """Returns float32 (n, height, width, c): each pixel the mean over the area it covers, so that the mean of an image is kept.

    Reducing, this is OpenCV's INTER_AREA; enlarging by a whole number, it repeats pixels. See the module for shapes and range.
    """
    return _apply(images, _weights("area", images.shape, height, width))


@functools.partial(jax.jit, static_argnames=("height", "width"))
def lanczos(images: jax.Array, height: int, width: int) -> jax.Array:
    """Returns float32 (n, height, width, c) by the Lanczos filter of three lobes, widened to the reduction, cut off at the border.

    See the module for shapes and range. Source: Duchon, Journal of Applied Meteorology 18 (1979), 1016; Pillow's LANCZOS.
    """
    return _apply(images, _weights("lanczos", images.shape, height, width))


@functools.partial(jax.jit, static_argnames=("height", "width", "rounded"))
def bicubic(images: jax.Array, height: int, width: int, rounded: bool = False) -> jax.Array:
    """Returns float32 (n, height, width, c) by MATLAB's `imresize` filter: cubic of a = -0.5, widened to the reduction, border mirrored.

    With `rounded` each of the two passes ends with values rounded and clipped to 0..255, as MATLAB does with uint8 images
    and as the published low-resolution files were made. The axis that is reduced more goes first, height where both are equal.
    See the module for shapes and range. Source: Keys, IEEE TASSP 29 (1981), 1153, equation 4; MATLAB's imresize.
    """
    weights = _weights("bicubic", images.shape, height, width)
    return _apply(images, weights, width_first=width / images.shape[2] < height / images.shape[1], rounded=rounded)


@functools.partial(jax.jit, static_argnames=("height", "width"))
def pil_bicubic(images: jax.Array, height: int, width: int) -> jax.Array:
    """Returns float32 (n, height, width, c) by the cubic of a = -0.5, widened to the reduction, cut off at the border.

    It is what Pillow's BICUBIC does on float images, thus the `clean` resize of the FID (Parmar, Zhang, Zhu, CVPR 2022), and
    differs from `bicubic` at the border only. See the module for shapes and range.
    """
    return _apply(images, _weights("pil_bicubic", images.shape, height, width))


@functools.partial(jax.jit, static_argnames=("height", "width"))
def tf1_bilinear(images: jax.Array, height: int, width: int) -> jax.Array:
    """Returns float32 (n, height, width, c) as TensorFlow 1 resized: pixel i looks at i * size / new size, nothing else is mixed.

    There is no shift by half a pixel and no antialiasing, and beyond the last pixel it is repeated: images move up and left. It is
    wrong, and what the FID is defined with. See the module for shapes and range. Source: tf.image.resize_bilinear, align_corners=False.
    """
    return _apply(images, _weights("tf1_bilinear", images.shape, height, width))


def _apply(images, weights, width_first=False, rounded=False) -> jax.Array:
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
    passes = [("oh,nhwc->nowc", weights[0]), ("pw,nhwc->nhpc", weights[1])]
    images = jnp.asarray(images).astype(jnp.float32)
    for equation, matrix in passes[:: -1 if width_first else 1]:
        images = product(equation, matrix, images)
        # MATLAB rounds halves up.
        images = jnp.clip(jnp.floor(images + 0.5), 0, 255) if rounded else images
    return images


def _weights(name: str, shape, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    if len(shape) != 4 or 0 in shape[1:] or height < 1 or width < 1:
        raise ValueError(f"resize takes images (n, h, w, c) and sizes of at least 1, not {tuple(shape)} to {height} x {width}")
    return _matrix(name, shape[1], height), _matrix(name, shape[2], width)


@functools.lru_cache(maxsize=256)
def _matrix(name: str, size: int, new_size: int) -> np.ndarray:
    matrix = _MATRICES[name](size, new_size).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - abs(x), 0)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = abs(x)
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(abs(x) < LANCZOS_LOBES, np.sinc(x) * np.sinc(x / LANCZOS_LOBES), 0)


def _sampled(kernel, radius: int, border: str, antialias: bool, size: int, new_size: int) -> np.ndarray:
    """Returns float64 (new_size, size): the kernel around each new pixel's centre, each row of sum 1."""
    scale = size / new_size
    wide = max(scale, 1) if antialias else 1
    margin = 0 if border == "cut" else math.ceil(radius * wide) + 1
    places = np.arange(-margin, size + margin)
    centres = (np.arange(new_size) + 0.5) * scale
    weights = kernel((places + 0.5 - centres[:, None]) / wide)
    weights /= weights.sum(1, keepdims=True)
    inside = places % (2 * size) if border == "mirror" else places.clip(0, size - 1)
    inside = np.minimum(inside, 2 * size - 1 - inside)
    matrix = np.zeros((size, new_size))
    np.add.at(matrix, inside, weights.T)
    return matrix.T


def _overlap(size: int, new_size: int) -> np.ndarray:
    edges = np.arange(new_size + 1)[:, None] * (size / new_size)
    covered = np.clip(edges - np.arange(size), 0, 1)
    return np.diff(covered, axis=0) * (new_size / size)


def _tf1(size: int, new_size: int) -> np.ndarray:
    places = np.arange(new_size) * (size / new_size)
    low = np.minimum(np.floor(places).astype(int), size - 1)
    matrix, rows = np.zeros((new_size, size)), np.arange(new_size)
    np.add.at(matrix, (rows, low), 1 - (places - low))
    np.add.at(matrix, (rows, np.minimum(low + 1, size - 1)), places - low)
    return matrix


_MATRICES = {
    "bilinear": functools.partial(_sampled, _triangle, 1, "cut", True),
    "bilinear_aliased": functools.partial(_sampled, _triangle, 1, "repeat", False),
    "area": _overlap,
    "lanczos": functools.partial(_sampled, _lanczos, LANCZOS_LOBES, "cut", True),
    "bicubic": functools.partial(_sampled, _cubic, 2, "mirror", True),
    "pil_bicubic": functools.partial(_sampled, _cubic, 2, "cut", True),
    "tf1_bilinear": _tf1,
}
