"""Classifiers of images of any size: a compact CNN of 3x3 convolutions, or one with residual blocks (He et al. 2016, arXiv:1512.03385)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

KINDS = ("compact", "residual")


def pooled(x: jax.Array) -> jax.Array:
    """Returns the maximum over 2 x 2 pixels of x (b, h, w, c); an odd last line falls away, a side of 1 stays.

    Maxima of slices: the gradient of a maximum over windows is slow on XLA:CPU, and that of a reduction divides by the number of values
    that equal their maximum, which is 0 where a compiler computes them a second time and rounds them otherwise.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        if size > 1:
            first, second = (jax.lax.slice_in_dim(x, start, size - size % 2, 2, axis) for start in (0, 1))
            x = jnp.maximum(first, second)
    return x


class Classifier(nn.Module):
    """Images (b, h, w, c) in [-1, 1], of any size, to logits (b, num_classes) float32.

    `num_blocks` blocks of two 3x3 convolutions with batch norm and ReLU, 2x2 pooling after each but the last; the first has `base_width`
    maps, each next one twice as many. With `kind` "residual" a block adds its input, by a 1x1 convolution where the widths differ.
    Then the mean over all places, dropout (key `dropout`, where `train`) and a dense layer. `train` normalises by the batch's own
    statistics and moves the collection `batch_stats` by `momentum`.
    """

    num_classes: int
    kind: str = "compact"
    base_width: int = 16
    num_blocks: int = 4
    dropout: float = 0.0
    momentum: float = 0.9
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image, train: bool):
        def convolution(x, width, side=3):
            x = nn.Conv(width, (side, side), use_bias=False, dtype=self.dtype)(x)
            return nn.BatchNorm(use_running_average=not train, momentum=self.momentum, dtype=self.dtype)(x)

        x = image.astype(self.dtype)
        for number in range(self.num_blocks):
            width = self.base_width * 2**number
            y = convolution(nn.relu(convolution(x, width)), width)
            if self.kind == "residual":
                y = y + (x if x.shape[-1] == width else convolution(x, width, side=1))
            x = nn.relu(y)
            if number < self.num_blocks - 1:
                x = pooled(x)
        x = x.astype(jnp.float32).mean((1, 2))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)
