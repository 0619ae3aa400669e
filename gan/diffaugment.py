"""DiffAugment: differentiable augmentation of what the discriminator sees (Zhao et al. 2020, arXiv 2006.10738, table 1).

Images (b, h, w, c) float32 in [-1, 1]; key first; every image draws its own numbers.
"""

import jax
import jax.numpy as jnp

from microscopy import label_field


def colour(key: jax.Array, image: jax.Array) -> jax.Array:
    """Returns images with random brightness (+-0.5), saturation (0..2, colour images only) and contrast (0.5..1.5).

    The label field, where the last channel is one (`label_field.apart`), stays as it is.
    """
    image, field = label_field.apart(image)
    brightness, saturation, contrast = (jax.random.uniform(k, (image.shape[0], 1, 1, 1)) for k in jax.random.split(key, 3))
    image = image + (brightness - 0.5)
    if image.shape[-1] > 1:
        grey = image.mean(-1, keepdims=True)
        image = (image - grey) * (2.0 * saturation) + grey
    mean = image.mean((1, 2, 3), keepdims=True)
    image = (image - mean) * (contrast + 0.5) + mean
    return image if field is None else jnp.concatenate([image, field[..., None]], axis=-1)


def translation(key: jax.Array, image: jax.Array, ratio: float = 0.125) -> jax.Array:
    """Returns images shifted by up to `ratio` of their height and width in whole pixels; what enters is zero."""
    b, h, w, c = image.shape
    margin_y, margin_x = int(h * ratio + 0.5), int(w * ratio + 0.5)
    start = jax.random.randint(key, (b, 2), 0, jnp.array([[2 * margin_y + 1, 2 * margin_x + 1]]))
    padded = jnp.pad(image, ((0, 0), (margin_y, margin_y), (margin_x, margin_x), (0, 0)))
    return jax.vmap(lambda one, at: jax.lax.dynamic_slice(one, (at[0], at[1], 0), (h, w, c)))(padded, start)


def cutout(key: jax.Array, image: jax.Array, ratio: float = 0.5) -> jax.Array:
    """Returns images with a square of `ratio` of their height and width set to zero; it may reach over the edge."""
    b, h, w, _ = image.shape
    y_key, x_key = jax.random.split(key)
    size_y, size_x = int(h * ratio + 0.5), int(w * ratio + 0.5)
    top = jax.random.randint(y_key, (b, 1, 1, 1), 0, h + (1 - size_y % 2)) - size_y // 2
    left = jax.random.randint(x_key, (b, 1, 1, 1), 0, w + (1 - size_x % 2)) - size_x // 2
    y, x = jnp.arange(h).reshape(1, h, 1, 1), jnp.arange(w).reshape(1, 1, w, 1)
    hidden = (y >= top) & (y < top + size_y) & (x >= left) & (x < left + size_x)
    return jnp.where(hidden, 0.0, image)


POLICIES = {"colour": colour, "translation": translation, "cutout": cutout}
"""Name in `config.train.augment` to function."""


def augment(key: jax.Array, image: jax.Array, names: tuple[str, ...]) -> jax.Array:
    """Returns `image` after the named policies in turn; unchanged for no names."""
    for place, name in enumerate(names):
        image = POLICIES[name](jax.random.fold_in(key, place), image)
    return image
