"""SRGAN's generator and discriminator (Ledig et al. 2017, arXiv:1609.04802, fig. 4), with what users vary in them.

Images are in [-1, 1] on both sides, whatever the output: `tanh` as it is, `sigmoid` as 2 sigmoid(x) - 1, `none` unbounded.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from superres.convolutions import narrow_convolution

SCALES = (2, 4, 8)
OUTPUTS = {"tanh": jnp.tanh, "sigmoid": lambda x: 2 * nn.sigmoid(x) - 1, "none": lambda x: x}
NORMS = ("batch", "none")
POOLS = ("flatten", "mean")
_DOUBLINGS = (0, 0, 1, 1, 2, 2, 3, 3)

_kernel_init = nn.initializers.lecun_normal()


class PReLU(nn.Module):
    """max(x, 0) + slope min(x, 0) with one trained slope for all maps, 0.25 at first (He et al. 2015, arXiv:1502.01852)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns an array of the shape and dtype of x."""
        slope = self.param("slope", nn.initializers.constant(0.25), (), jnp.float32).astype(x.dtype)
        return jnp.where(x >= 0, x, slope * x)


class NarrowConvolution(nn.Module):
    """(b, h, w, c) to (b, h, w, maps) with few maps, by a kernel of odd size and a bias."""

    maps: int
    size: int
    precision: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns an array of the given dtype."""
        kernel = self.param("kernel", _kernel_init, (self.size, self.size, x.shape[-1], self.maps), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.maps,), jnp.float32)
        y = narrow_convolution(x.astype(self.dtype), kernel.astype(self.dtype), self.precision)
        return y + bias.astype(self.dtype).reshape(1, 1, 1, -1)


def pixel_shuffle(x: jax.Array) -> jax.Array:
    """Returns (b, 2h, 2w, c) of x (b, h, w, 4c): the maps of a pixel's four parts lie one after another, rows first.

    Sub-pixel convolution: Shi et al. 2016, arXiv:1609.05158. PyTorch's PixelShuffle has the four parts innermost instead,
    which scatters single numbers; superres/conversion.py reorders its kernels.
    """
    b, h, w, maps = x.shape
    return x.reshape(b, h, w, 2, 2, maps // 4).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, maps // 4)


def _same_for_parts(key, shape, dtype):
    """The four parts of a pixel start alike, so that no checkerboard is there to be unlearned (Aitken et al. 2017, arXiv:1707.02937)."""
    return jnp.tile(_kernel_init(key, (*shape[:3], shape[3] // 4), dtype), (1, 1, 1, 4))


class Generator(nn.Module):
    """Images (b, h, w, channels) to float32 (b, scale h, scale w, channels), both in [-1, 1].

    `norm` "none" leaves out every batch norm (EDSR: Lim et al. 2017, arXiv:1707.02921). `train` normalises by the batch's own
    statistics and moves `batch_stats` towards them by 1 - `momentum`; else `batch_stats` normalise.
    `pad_value` surrounds the image at the first convolution: -1 is what zero padding is for a network made for 0..1.
    `output_mean` makes three maps and takes the mean of their outputs, for one channel: what a grey picture gets from an RGB network
    is the mean of three tanh, which no last kernel of one map equals, so that the maps stay apart until there.
    `precision` is that of the convolutions; None is the device's own (a GPU multiplies float32 with 10 bits), "highest" float32.
    """

    scale: int = 4
    channels: int = 1
    num_blocks: int = 16
    num_maps: int = 64
    first_kernel: int = 9
    last_kernel: int = 9
    norm: str = "batch"
    trunk_norm: bool = True
    trunk_prelu: bool = False
    output: str = "tanh"
    output_mean: bool = False
    pad_value: float = 0.0
    momentum: float = 0.9
    precision: Any = None
    dtype: Any = jnp.float32

    def _conv(self, name, maps, size, bias, init=_kernel_init):
        kernel, pad = (size, size), (size // 2, size // 2)
        options = {"use_bias": bias, "kernel_init": init, "precision": self.precision, "dtype": self.dtype, "name": name}
        return nn.Conv(maps, kernel, padding=(pad, pad), **options)

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        """Returns the enlarged images; ValueError where a field is none of those named above."""
        self._check()
        normed = self.norm == "batch"

        def norm(x, name):
            layer = nn.BatchNorm(use_running_average=not train, momentum=self.momentum, dtype=self.dtype, name=name)
            return layer(x) if normed else x

        first = PReLU(name="first_prelu")(self._first(image.astype(self.dtype)))
        x = first
        for block in range(self.num_blocks):
            y = norm(self._conv(f"block{block}_conv0", self.num_maps, 3, not normed)(x), f"block{block}_norm0")
            y = PReLU(name=f"block{block}_prelu")(y)
            x = x + norm(self._conv(f"block{block}_conv1", self.num_maps, 3, not normed)(y), f"block{block}_norm1")
        x = self._conv("trunk_conv", self.num_maps, 3, not (normed and self.trunk_norm))(x)
        x = norm(x, "trunk_norm") if self.trunk_norm else x
        x = first + (PReLU(name="trunk_prelu")(x) if self.trunk_prelu else x)
        for step in range(SCALES.index(self.scale) + 1):
            # One slope for all maps: before the shuffle or after it is the same.
            x = self._conv(f"up{step}_conv", 4 * self.num_maps, 3, True, _same_for_parts)(x)
            x = pixel_shuffle(PReLU(name=f"up{step}_prelu")(x))
        maps = 3 if self.output_mean else self.channels
        x = NarrowConvolution(maps, self.last_kernel, self.precision, self.dtype, name="last_conv")(x)
        x = OUTPUTS[self.output](x.astype(jnp.float32))
        return x.mean(-1, keepdims=True) if self.output_mean else x

    def _first(self, x):
        pad = self.first_kernel // 2
        if not self.pad_value:
            return self._conv("first_conv", self.num_maps, self.first_kernel, True)(x)
        x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=self.pad_value)
        options = {"kernel_init": _kernel_init, "precision": self.precision, "dtype": self.dtype, "name": "first_conv"}
        return nn.Conv(self.num_maps, (self.first_kernel, self.first_kernel), padding="VALID", **options)(x)

    def _check(self):
        choices = {"scale": SCALES, "channels": (1, 3), "norm": NORMS, "output": tuple(OUTPUTS)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose {', '.join(map(str, allowed))}")
        for name in ("first_kernel", "last_kernel"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name}={getattr(self, name)}: an odd number")
        if self.output_mean and self.channels != 1:
            raise ValueError("output_mean needs channels=1")


class Discriminator(nn.Module):
    """Images (b, h, w, channels) in [-1, 1] to logits (b,) float32, positive where it takes them for real.

    Eight 3x3 convolutions of `base_maps` to 8 times as many, every second of stride 2, then 16 times as many units. Batch norm, on
    all convolutions but the first, is always by the statistics of the batch it is given; `norm` "none" leaves it out. `pool` "flatten" is
    the paper's and ties the weights to one image size: 0.5 M for each of the (h/16)(w/16) places, 18.9 M at 96x96 and 134 M at 256x256.
    "mean" averages over space and takes any size.
    """

    base_maps: int = 64
    leak: float = 0.2
    norm: str = "batch"
    pool: str = "mean"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Returns the logits; ValueError where `norm` or `pool` is none of those named above."""
        if self.norm not in NORMS or self.pool not in POOLS:
            raise ValueError(f"norm={self.norm!r}, pool={self.pool!r}: choose {', '.join(NORMS)}; {', '.join(POOLS)}")
        x = image.astype(self.dtype)
        for index, doublings in enumerate(_DOUBLINGS):
            maps = self.base_maps * 2**doublings
            normed = self.norm == "batch" and index > 0
            stride = 1 + index % 2
            conv = nn.Conv(maps, (3, 3), (stride, stride), ((1, 1), (1, 1)), use_bias=not normed, dtype=self.dtype, name=f"conv{index}")
            x = conv(x)
            x = nn.BatchNorm(use_running_average=False, dtype=self.dtype, name=f"norm{index}")(x) if normed else x
            x = nn.leaky_relu(x, self.leak)
        x = x.reshape(x.shape[0], -1) if self.pool == "flatten" else x.mean((1, 2))
        x = nn.leaky_relu(nn.Dense(16 * self.base_maps, dtype=self.dtype, name="hidden")(x), self.leak)
        return nn.Dense(1, dtype=self.dtype, name="logit")(x)[:, 0].astype(jnp.float32)
