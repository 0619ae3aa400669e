"""U-Nets along two or three axes (Ronneberger et al. 2015, arXiv:1505.04597), a critic that holds one, and how far they see.

Images are (b, h, w, c), stacks (b, d, h, w, c), in [-1, 1]. The length of `pool` says which: (2, 2) is a U-Net of images, (2, 2, 2) one of
stacks, (1, 2, 2) one of stacks of few slices, which are convolved but never pooled.
"""

import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segmentation.batch_norm import BatchNorm
from segmentation.convolutions import convolution, halved, max_pool, transposed

ACTIVATIONS = ("relu", "leaky_relu")
NORMS = ("none", "batch", "group")
POOLS = ("mean", "flatten")
GROUPS = 8
"""Groups of maps normalised together, or fewer where the number of maps is no multiple of it."""

_he = nn.initializers.he_normal()


class Convolution(nn.Module):
    """Arrays (b, *sizes, c_i), their channels as if one after another, to (b, *sizes, maps) by a kernel of odd `sides`, zeros around."""

    maps: int
    sides: tuple[int, ...]
    use_bias: bool
    precision: Any
    dtype: Any

    @nn.compact
    def __call__(self, *parts: jax.Array) -> jax.Array:
        """Returns an array of the given dtype."""
        ends = list(itertools.accumulate(part.shape[-1] for part in parts))
        kernel = self.param("kernel", _he, (*self.sides, ends[-1], self.maps), jnp.float32).astype(self.dtype)
        kernels = jnp.split(kernel, ends[:-1], axis=-2)
        y = sum(convolution(part.astype(self.dtype), own, self.precision) for part, own in zip(parts, kernels, strict=True))
        return _with_bias(self, y)


class Upsample(nn.Module):
    """(b, *sizes, c) to (b, *(window sizes), maps) by a transposed convolution of kernel and stride `window`."""

    maps: int
    window: tuple[int, ...]
    precision: Any
    dtype: Any
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns an array of the given dtype."""
        kernel = self.param("kernel", _he, (x.shape[-1], math.prod(self.window) * self.maps), jnp.float32)
        return _with_bias(self, transposed(x.astype(self.dtype), kernel.astype(self.dtype), self.window, self.precision))


class Downsample(nn.Module):
    """(b, *sizes, c) to (b, *(sizes / 2), maps) by a convolution of 4 pixels a side and stride 2; sizes are even."""

    maps: int
    precision: Any
    dtype: Any
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns an array of the given dtype."""
        axes = x.ndim - 2
        kernel = self.param("kernel", _he, (*(2,) * axes, 2**axes * x.shape[-1], self.maps), jnp.float32)
        return _with_bias(self, halved(x.astype(self.dtype), kernel.astype(self.dtype), self.precision))


def _with_bias(layer, y):
    if not layer.use_bias:
        return y
    bias = layer.param("bias", nn.initializers.zeros, (layer.maps,), jnp.float32).astype(layer.dtype)
    return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def normalised(x: jax.Array, norm: str, train: bool, momentum: float, dtype: Any, name: str) -> jax.Array:
    """Returns x by a batch or group norm (Wu and He 2018, arXiv:1803.08494) called `name`, or as it is; for use in a compact `__call__`."""
    if norm == "batch":
        return BatchNorm(momentum=momentum, dtype=dtype, name=name)(x, train)
    if norm == "group":
        return nn.GroupNorm(num_groups=math.gcd(GROUPS, x.shape[-1]), dtype=dtype, name=name)(x)
    return x


def activated(x: jax.Array, activation: str, leak: float) -> jax.Array:
    """Returns max(x, 0), or for "leaky_relu" max(x, leak x)."""
    return nn.relu(x) if activation == "relu" else nn.leaky_relu(x, leak)


def reflected(x: jax.Array, multiples: tuple[int, ...]) -> jax.Array:
    """Returns x (b, *sizes, c) continued at the end of each axis to multiples, as `microscopy.tiling.padded` does.

    By reflection, the border pixel not repeated.
    """
    pads = [(0, -size % multiple) for size, multiple in zip(x.shape[1:-1], multiples, strict=True)]
    return jnp.pad(x, [(0, 0), *pads, (0, 0)], mode="reflect") if any(after for _, after in pads) else x


class UNet(nn.Module):
    """Images or stacks (b, *sizes, c) of any sizes to float32 (b, *sizes, num_maps).

    `depth` poolings by `pool` (1 or 2 along each axis); base_width 2^level maps at each level, two convolutions of `kernel` (odd) there
    and two on the way back, zeros around them (the paper has none and loses its borders); the level below enters by a transposed
    convolution. Sizes that are no multiple of pool^depth are `reflected` and cropped back. The output is linear; `segmentation.maps`
    makes probabilities of it, or a tanh map. `norm` acts before the activation: "batch" by the batch's own statistics where
    `train`, which `batch_stats` follow by 1 - `momentum`, else by these; "group" by each image's own. `dropout` is the rate where
    `train`, after the two deepest levels of the contracting path, and needs the key `dropout`. `leak` is that of leaky_relu.
    `precision` is that of the convolutions; None is the device's own (a GPU multiplies float32 with 10 bits), "highest" float32.
    """

    num_maps: int = 2
    base_width: int = 64
    depth: int = 4
    pool: tuple[int, ...] = (2, 2)
    kernel: tuple[int, ...] = (3, 3)
    activation: str = "relu"
    leak: float = 0.01
    norm: str = "none"
    dropout: float = 0.0
    momentum: float = 0.9
    precision: Any = None
    dtype: Any = jnp.float32

    def _level(self, parts, name, level, train):
        """Two convolutions, each with norm and activation, the first of all `parts`."""
        for index in range(2):
            conv = Convolution(
                self.base_width * 2**level, self.kernel, self.norm == "none", self.precision, self.dtype, name=f"{name}{level}_conv{index}"
            )
            x = normalised(conv(*parts), self.norm, train, self.momentum, self.dtype, f"{name}{level}_norm{index}")
            parts = (activated(x, self.activation, self.leak),)
        return parts[0]

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        """Returns the output maps; ValueError where a field is none of those named above or the image has other axes."""
        _check(self, image)
        x = reflected(image.astype(self.dtype), multiple(self))
        skipped = []
        for level in range(self.depth + 1):
            x = self._level((max_pool(x, self.pool) if level else x,), "down", level, train)
            if self.dropout > 0 and level >= self.depth - 1:
                x = nn.Dropout(self.dropout, deterministic=not train, name=f"dropout{level}")(x)
            skipped.append(x)
        for level in reversed(range(self.depth)):
            up = Upsample(self.base_width * 2**level, self.pool, self.precision, self.dtype, name=f"up{level}_conv")(x)
            x = self._level((skipped[level], up), "up", level, train)
        # A convolution of one pixel a side is a matrix product.
        x = nn.Dense(self.num_maps, precision=self.precision, dtype=self.dtype, name="last")(x)
        return x[(slice(None), *(slice(size) for size in image.shape[1:-1]))].astype(jnp.float32)


class Critic(nn.Module):
    """Scans (b, *sizes, c) and masks (r b, *sizes, 1), both in [-1, 1], to numbers (r b,) float32: how good each mask is for its scan.

    Mask i belongs to scan i modulo b.

    A U-Net of scan and mask, `num_strided` convolutions of stride 2, a hidden dense layer, one linear number: a predicted quality, or a
    logit. Published are "U-Net, then convolutions, then dense layers" and no numbers: all fields are ours. The convolutions have
    base_width maps, twice as many from each to the next up to 8 times; sizes are `reflected` to multiples before. `pool` "mean"
    averages over space and takes any size, and a mean is what most of the qualities are; "flatten" ties the weights to one size.
    With `windows` each place of the last strided convolution says a number too, by one linear layer: how good the mask is in its window
    of 2^num_strided pixels a side. Ours: a crop then teaches as many numbers as it has windows. With `products` the U-Net sees the scan
    alone, and the strided convolutions see its maps, the mask, and each map times the mask: agreement of a mask with what the scan shows is
    a product, which ReLUs learn slowly, and masks of one scan share its maps. Ours too.
    `axes`: 2 for images, 3 for stacks. The other fields are the U-Net's; norm "none" makes a mask's number independent of the others
    in its batch.
    """

    base_width: int = 16
    depth: int = 4
    num_strided: int = 4
    hidden: int = 64
    axes: int = 2
    kernel: tuple[int, ...] = (3, 3)
    activation: str = "leaky_relu"
    leak: float = 0.01
    norm: str = "none"
    dropout: float = 0.0
    pool: str = "mean"
    windows: bool = False
    products: bool = False
    momentum: float = 0.9
    precision: Any = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array | None]:
        """Returns the numbers, and those of the windows (b, *places) float32 or None.

        ValueError where a field is none of those named above or scan and mask do not fit together."""
        if self.pool not in POOLS or image.shape[1:-1] != mask.shape[1:-1] or mask.shape[0] % image.shape[0]:
            raise ValueError(f"pool={self.pool!r}: choose {', '.join(POOLS)}; scans {image.shape} and masks {mask.shape} of equal sizes")
        shared = {name: getattr(self, name) for name in _SHARED}
        multiples, each = (2 ** max(self.depth, self.num_strided),) * self.axes, (mask.shape[0] // image.shape[0], *(1,) * (self.axes + 1))
        image, mask = reflected(image, multiples), reflected(mask.astype(image.dtype), multiples)
        seen = image if self.products else jnp.concatenate([jnp.tile(image, each), mask], axis=-1)
        x = UNet(num_maps=self.base_width, pool=(2,) * self.axes, name="unet", **shared)(seen, train)
        x = activated(x, self.activation, self.leak)
        if self.products:
            x = jnp.tile(x, each)
            x = jnp.concatenate([x, mask, x * mask], axis=-1)
        for index in range(self.num_strided):
            conv = Downsample(self.base_width * 2 ** min(index, 3), self.precision, self.dtype, self.norm == "none", name=f"strided{index}")
            x = normalised(conv(x), self.norm, train, self.momentum, self.dtype, f"strided{index}_norm")
            x = activated(x, self.activation, self.leak)
        # The last layers are float32: bfloat16 would tell qualities near 1 apart by steps of 0.004.
        x = x.astype(jnp.float32)
        windows = nn.Dense(1, precision=self.precision, name="windows")(x)[..., 0] if self.windows else None
        x = x.reshape(x.shape[0], -1) if self.pool == "flatten" else x.mean(tuple(range(1, x.ndim - 1)))
        x = activated(nn.Dense(self.hidden, precision=self.precision, name="hidden")(x), self.activation, self.leak)
        return nn.Dense(1, precision=self.precision, name="last")(x)[:, 0], windows


_SHARED = ("base_width", "depth", "kernel", "activation", "leak", "norm", "dropout", "momentum", "precision", "dtype")


def _check(model: UNet, image) -> None:
    for name, allowed in {"activation": ACTIVATIONS, "norm": NORMS}.items():
        if getattr(model, name) not in allowed:
            raise ValueError(f"{name}={getattr(model, name)!r}: choose {', '.join(allowed)}")
    if len(model.pool) not in (2, 3) or set(model.pool) - {1, 2} or len(model.kernel) != len(model.pool):
        raise ValueError(f"pool={model.pool}, kernel={model.kernel}: two or three numbers each, 1 or 2 in pool")
    if any(side % 2 == 0 for side in model.kernel):
        raise ValueError(f"kernel={model.kernel}: odd numbers")
    if image.ndim != len(model.pool) + 2:
        raise ValueError(f"pool={model.pool} is for images with {len(model.pool) + 2} axes, batch and channels included, not {image.shape}")


def multiple(model: UNet) -> tuple[int, ...]:
    """Returns pool^depth along each axis: sizes are continued to multiples of it, and tiles must begin at multiples of it."""
    return tuple(side**model.depth for side in model.pool)


def example(model: UNet, channels: int) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of an image, or a stack, that a network's parameters can be worked out from."""
    return jax.ShapeDtypeStruct((1, *(64,) * len(model.pool), channels), jnp.float32)


def receptive_radius(model: UNet) -> tuple[int, ...]:
    """Returns along each axis how many input pixels away the farthest lies that changes an output pixel of a `UNet`.

    Exact, the largest over all places of an output pixel in the grid of poolings, and thus the least `halo` with which tiles equal the
    whole (`microscopy.tiling`). For a kernel of half width k, with m = 2^depth where the axis is pooled: each of the two convolutions on
    the way back at level l reaches k 2^l pixels, so 2 k (m - 1) for all, as do those on the way there; the deepest two reach 2 k m, and
    the place within a window of the deepest level m - 1. Not pooled: 2 k (2 depth + 1). Raises ValueError for norm "group", whose
    statistics are the whole image's: no halo makes its tiles equal the whole. Batch norm by stored statistics reaches no further.
    """
    if model.norm == "group":
        raise ValueError("norm='group': it sees the whole image, no halo is wide enough")
    halves = [side // 2 for side in model.kernel]
    return tuple(
        (4 * half + 1) * (m - 1) + 2 * half * m if side == 2 else 2 * half * (2 * model.depth + 1)
        for half, side, m in zip(halves, model.pool, multiple(model), strict=True)
    )
