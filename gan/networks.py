"""DCGAN's generator and discriminator for any height and width divisible by 16 (Radford et al. 2016, arXiv 1511.06434).

The layers are also those of the class-conditional WGAN (gan/conditional.py).
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan.convolutions import convolution, strided_convolution, transposed_convolution

NUM_BLOCKS = 4
"""Strided blocks in either network: the smallest grid is height/16 x width/16."""

_normal = nn.initializers.normal(0.02)


class Downsample(nn.Module):
    """(b, h, w, c) to (b, h/2, w/2, features) by a strided convolution."""

    features: int
    kernel_size: int
    use_bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", _normal, shape, jnp.float32)
        return _with_bias(self, strided_convolution(x.astype(self.dtype), kernel.astype(self.dtype)))


class Convolution(nn.Module):
    """(b, h, w, c) to (b, h, w, features) by a convolution."""

    features: int
    kernel_size: int
    use_bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", _normal, shape, jnp.float32)
        return _with_bias(self, convolution(x.astype(self.dtype), kernel.astype(self.dtype)))


def _with_bias(layer, y):
    if not layer.use_bias:
        return y
    return y + layer.param("bias", nn.initializers.zeros, (layer.features,), jnp.float32).astype(layer.dtype).reshape(1, 1, 1, -1)


class Upsample(nn.Module):
    """(b, h, w, c) to (b, 2h, 2w, features): a transposed convolution, or with `resize` nearest neighbour and a convolution.

    The second has no checkerboard (Odena et al. 2016, doi 10.23915/distill.00003) and costs four times the first.
    """

    features: int
    kernel_size: int
    resize: bool
    use_bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x):
        if self.resize:
            x = x.repeat(2, axis=1).repeat(2, axis=2)
            size = (self.kernel_size, self.kernel_size)
            return nn.Conv(self.features, size, use_bias=self.use_bias, kernel_init=_normal, dtype=self.dtype)(x)
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", _normal, shape, jnp.float32)
        return _with_bias(self, transposed_convolution(x.astype(self.dtype), kernel.astype(self.dtype)))


def dropout(key, x, rate: float):
    """Returns x (b, ...) with each number zero at probability `rate`, to the nearest 1/256, and the rest scaled up to the same mean.

    A byte a number: hashing 32 random bits for each costs a fifth of a discriminator's pass on a CPU.
    """
    dropped, size = round(rate * 256), math.prod(x.shape[1:])
    words = jax.random.bits(key, (x.shape[0], -(-size // 4)), jnp.uint32)
    random_bytes = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(x.shape[0], -1)[:, :size].reshape(x.shape)
    return jnp.where(random_bytes >= dropped, x * (256 / (256 - dropped)), jnp.zeros_like(x))


class Generator(nn.Module):
    """Noise (b, z) to images (b, height, width, channels) float32 in [-1, 1].

    `base_filters` n counts the filters of the last hidden block; each block towards the noise has twice as many:
    8n - 4n - 2n - n - channels. `train` normalises by the batch's own statistics, else by the collection `batch_stats`.
    """

    height: int
    width: int
    channels: int
    base_filters: int
    kernel_size: int = 5
    leak: float = 0.01
    resize_convolution: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, noise, train: bool):
        widths = [self.base_filters * 2**i for i in reversed(range(NUM_BLOCKS))]
        grid = (self.height // 2**NUM_BLOCKS, self.width // 2**NUM_BLOCKS)

        def norm(x):
            x = nn.BatchNorm(use_running_average=not train, momentum=0.0, dtype=self.dtype)(x)
            return nn.leaky_relu(x, self.leak)

        x = nn.Dense(grid[0] * grid[1] * widths[0], use_bias=False, kernel_init=_normal, dtype=self.dtype)(noise)
        x = norm(x.reshape(noise.shape[0], *grid, widths[0]))
        for features in widths[1:]:
            x = norm(Upsample(features, self.kernel_size, self.resize_convolution, False, self.dtype)(x))
        x = Upsample(self.channels, self.kernel_size, self.resize_convolution, True, self.dtype)(x)
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """Images (b, height, width, channels) in [-1, 1] to logits (b,) float32, positive where it takes them for real.

    Strided convolutions of n - 2n - 4n - 8n filters and a dense layer. `norm` is "batch" (always the statistics of the
    batch it is given; none on the first block), "spectral" (Miyato et al. 2018, arXiv 1802.05957; its power iteration
    advances where `update_stats`) or "none". Dropout needs the key `dropout` and acts where `train`. The last channel, where it is a label
    field, is multiplied by `label_weight`: a smooth field is told from a generated one long before the images are.
    """

    base_filters: int
    kernel_size: int = 5
    leak: float = 0.01
    dropout: float = 0.3
    norm: str = "batch"
    dtype: Any = jnp.float32
    label_weight: float = 1.0

    @nn.compact
    def __call__(self, image, train: bool, update_stats: bool = False):
        def apply(layer, x):
            return nn.SpectralNorm(layer)(x, update_stats=update_stats) if self.norm == "spectral" else layer(x)

        x = image.astype(self.dtype)
        if self.label_weight != 1.0:
            x = x.at[..., -1].multiply(self.label_weight)
        for block in range(NUM_BLOCKS):
            normalised = self.norm == "batch" and block > 0
            features = self.base_filters * 2**block
            x = apply(Downsample(features, self.kernel_size, not normalised, self.dtype, name=f"conv{block}"), x)
            if normalised:
                x = nn.BatchNorm(use_running_average=False, dtype=self.dtype, name=f"norm{block}")(x)
            x = nn.leaky_relu(x, self.leak)
            if train and self.dropout > 0:
                x = dropout(self.make_rng("dropout"), x, self.dropout)
        x = apply(nn.Dense(1, kernel_init=_normal, dtype=self.dtype, name="logit"), x.reshape(x.shape[0], -1))
        return x[:, 0].astype(jnp.float32)
