"""Generator and critic of the class-conditional WGAN for images of any multiple of 16 pixels a side; layers as in gan/networks.py.

"concat" tells the class as a one-hot vector: beside the noise, and as constant planes beside the critic's image (Mirza and
Osindero 2014, arXiv 1411.1784). "projection" tells it as a learned embedding beside the noise, and adds the inner product of another
with the critic's summed last features to its value (Miyato and Koyama 2018, arXiv 1802.05637, eq. 5 and fig. 14).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan.networks import Convolution, Downsample, Upsample, dropout

CONDITIONINGS = ("concat", "projection")
NORMS = ("none", "layer")
MAX_DOUBLINGS = 7
MAX_WIDENING = 16
"""Blocks have n, 2n, 4n ... filters, at most this many times n."""

_normal = nn.initializers.normal(0.02)


def widths(base_filters: int, num_blocks: int) -> list[int]:
    """Returns the filters of each block, counted from the image: n, 2n, 4n, ... up to 16n."""
    return [base_filters * min(2**block, MAX_WIDENING) for block in range(num_blocks)]


def num_doublings(height: int, width: int) -> int:
    """Returns how often the generator doubles its first grid: as long as both sides are even, 7 times at most (128 px from one pixel)."""
    return next(k for k in range(MAX_DOUBLINGS, -1, -1) if not (height % 2**k or width % 2**k))


def num_halvings(height: int, width: int) -> int:
    """Returns how often the critic halves an image: while both sides are even and one is above 4 pixels."""
    num = 0
    while height % 2 == width % 2 == 0 and max(height, width) > 4:
        height, width, num = height // 2, width // 2, num + 1
    return num


class ClassGenerator(nn.Module):
    """Noise (b, z) and class numbers (b,) to images (b, height, width, channels) float32 in [-1, 1].

    A dense layer to the first grid (one pixel for sides of 16, 32, 64 or 128, three by three for 48 or 96), then `num_doublings` transposed
    convolutions, all but the last with batch norm, LeakyReLU and dropout. `train` normalises by the batch's own statistics, else by the
    collection `batch_stats`; dropout acts where `drop` and needs the key `dropout`.
    """

    height: int
    width: int
    channels: int
    num_classes: int
    base_filters: int
    kernel_size: int = 5
    leak: float = 0.2
    dropout: float = 0.0
    conditioning: str = "concat"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, noise, label, train: bool, drop: bool = False):
        if self.conditioning == "projection":
            told = nn.Embed(self.num_classes, noise.shape[-1], embedding_init=nn.initializers.normal(1.0), name="class")(label)
        else:
            told = jax.nn.one_hot(label, self.num_classes)
        num = num_doublings(self.height, self.width)
        grid = (self.height >> num, self.width >> num)
        first, *hidden = reversed(widths(self.base_filters, num))
        x = jnp.concatenate([noise, told], axis=1)
        x = nn.Dense(grid[0] * grid[1] * first, kernel_init=_normal, dtype=self.dtype)(x)
        x = nn.leaky_relu(x, self.leak).reshape(-1, *grid, first)
        for features in hidden:
            x = Upsample(features, self.kernel_size, False, False, self.dtype)(x)
            x = nn.BatchNorm(use_running_average=not train, momentum=0.0, dtype=self.dtype)(x)
            x = nn.leaky_relu(x, self.leak)
            if drop and self.dropout > 0:
                x = dropout(self.make_rng("dropout"), x, self.dropout)
        x = Upsample(self.channels, self.kernel_size, False, True, self.dtype)(x)
        return jnp.tanh(x.astype(jnp.float32))


class Critic(nn.Module):
    """Images (b, h, w, c) in [-1, 1] and class numbers (b,) to values (b,) float32, larger for what it takes for real.

    `num_halvings` strided convolutions, which end at 4 x 4 for 16 to 128 px and 3 x 3 for 48 or 96, one that is not strided, a dense layer
    and, with `sigmoid`, the sigmoid. `norm` is "none" or "layer": each image over all its pixels and filters, as Gulrajani et al. 2017
    (arXiv 1704.00028) advise in place of batch norm. Dropout needs the key `dropout` and acts where `train`.
    """

    num_classes: int
    base_filters: int
    kernel_size: int = 5
    leak: float = 0.2
    dropout: float = 0.0
    norm: str = "none"
    conditioning: str = "concat"
    sigmoid: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image, label, train: bool):
        b, height, width = image.shape[:3]
        x = image
        if self.conditioning == "concat":
            planes = jax.nn.one_hot(label, self.num_classes).reshape(b, 1, 1, -1)
            x = jnp.concatenate([x, jnp.broadcast_to(planes, (b, height, width, self.num_classes))], axis=-1)
        x, num_strided = x.astype(self.dtype), num_halvings(height, width)
        for block, features in enumerate(widths(self.base_filters, num_strided + 1)):
            layer = Downsample if block < num_strided else Convolution
            x = layer(features, self.kernel_size, True, self.dtype, name=f"conv{block}")(x)
            if self.norm == "layer":
                x = nn.LayerNorm(reduction_axes=(1, 2, 3), feature_axes=-1, dtype=self.dtype, name=f"norm{block}")(x)
            x = nn.leaky_relu(x, self.leak)
            if train and self.dropout > 0:
                x = dropout(self.make_rng("dropout"), x, self.dropout)
        value = nn.Dense(1, kernel_init=_normal, dtype=self.dtype, name="value")(x.reshape(b, -1))[:, 0].astype(jnp.float32)
        if self.conditioning == "projection":
            told = nn.Embed(self.num_classes, x.shape[-1], embedding_init=_normal, name="class")(label)
            value = value + jnp.sum(told * jnp.sum(x.astype(jnp.float32), axis=(1, 2)), axis=1)
        return jax.nn.sigmoid(value) if self.sigmoid else value
