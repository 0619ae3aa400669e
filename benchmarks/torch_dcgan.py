"""The DCGAN of gan/networks.py in PyTorch, with its parameters: what `--peer` compares with.

Images are NCHW and mirrored in both directions. Then PyTorch's symmetric paddings give the very sums that "SAME" padding gives
unmirrored (an odd kernel needs one row more after than before), and neither side pads in a step of its own.
"""

import numpy as np
import torch
from torch import nn

from benchmarks import torch_side
from gan.networks import NUM_BLOCKS
from training.errors import ConfigError


def check(config) -> None:
    """Raises ConfigError for an option these networks do not have."""
    supported = {
        "task": ("gan.dcgan", config.task),
        "model.discriminator_norm": ("batch", config.model.discriminator_norm),
        "model.resize_convolution": (False, config.model.resize_convolution),
        "train.r1_weight": (0.0, config.train.r1_weight),
    }
    for name, (have, asked) in supported.items():
        if asked != have:
            raise ConfigError(f"--peer: the PyTorch networks are made for config.{name}={have}, not {asked}.\nMeasure without --peer.")


def generator(config) -> nn.Sequential:
    """Returns noise (b, z) -> mirrored images (b, channels, height, width); in `eval` mode by the statistics it has collected."""
    data, model = config.data, config.model
    widths = [model.base_filters * 2**i for i in reversed(range(NUM_BLOCKS))]
    grid = (data.height // 2**NUM_BLOCKS, data.width // 2**NUM_BLOCKS)
    layers = [nn.Linear(model.latent_dim, widths[0] * grid[0] * grid[1], bias=False), nn.Unflatten(1, (widths[0], *grid))]
    for block, before in enumerate(widths):
        last = block == NUM_BLOCKS - 1
        after = data.channels if last else widths[block + 1]
        layers += [nn.BatchNorm2d(before), nn.LeakyReLU(model.leak, inplace=True)]
        layers.append(transposed_convolution(before, after, model.kernel_size, bias=last))
    return nn.Sequential(*layers, nn.Tanh())


def discriminator(config) -> nn.Sequential:
    """Returns mirrored images (b, channels, height, width) -> logits (b,); batch norm by the batch's own statistics, always."""
    data, model = config.data, config.model
    layers, before = [], data.channels
    for block in range(NUM_BLOCKS):
        after = model.base_filters * 2**block
        layers.append(strided_convolution(before, after, model.kernel_size, bias=block == 0))
        if block:
            layers.append(nn.BatchNorm2d(after, track_running_stats=False))
        layers += [nn.LeakyReLU(model.leak, inplace=True), nn.Dropout(model.dropout)]
        before = after
    pixels = (data.height // 2**NUM_BLOCKS) * (data.width // 2**NUM_BLOCKS)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * pixels, 1), nn.Flatten(0))


def strided_convolution(before: int, after: int, kernel_size: int, bias: bool) -> nn.Conv2d:
    """Returns the layer that halves height and width: gan.networks.Downsample, mirrored."""
    return nn.Conv2d(before, after, kernel_size, stride=2, padding=(kernel_size - 1) // 2, bias=bias)


def transposed_convolution(before: int, after: int, kernel_size: int, bias: bool) -> nn.ConvTranspose2d:
    """Returns the layer that doubles height and width: gan.networks.Upsample, mirrored."""
    padding = (kernel_size - 1) // 2
    return nn.ConvTranspose2d(before, after, kernel_size, 2, padding, output_padding=kernel_size % 2, bias=bias)


def load_generator(net: nn.Sequential, params, stats, grid: tuple[int, int]) -> None:
    """Copies flax parameters, and statistics where there are any, into `net`; `grid` is the smallest (height, width)."""
    layers = list(net)
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
    ups = [layer for layer in layers if isinstance(layer, nn.ConvTranspose2d)]
    kernel = np.asarray(params["Dense_0"]["kernel"])
    kernel = kernel.reshape(kernel.shape[0], *grid, -1)[:, ::-1, ::-1]
    torch_side.fill(layers[0].weight, kernel.transpose(3, 1, 2, 0).reshape(-1, kernel.shape[0]))
    for i, (norm, up) in enumerate(zip(norms, ups, strict=True)):
        torch_side.fill_norm(norm, params[f"BatchNorm_{i}"], stats[f"BatchNorm_{i}"] if stats else None)
        fill_transposed(up, params[f"Upsample_{i}"])


def load_discriminator(net: nn.Sequential, params, grid: tuple[int, int]) -> None:
    """Copies flax parameters into `net`; `grid` is the smallest (height, width)."""
    convolutions = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in net if isinstance(layer, nn.BatchNorm2d)]
    for i, layer in enumerate(convolutions):
        fill_mirrored(layer, params[f"conv{i}"])
    for i, norm in enumerate(norms, 1):
        torch_side.fill_norm(norm, params[f"norm{i}"])
    (logit,) = (layer for layer in net if isinstance(layer, nn.Linear))
    fill_last(logit, params["logit"], grid)


def fill_mirrored(layer: nn.Conv2d, params) -> None:
    """Copies the parameters of a gan.networks.Downsample or Convolution, its kernel mirrored."""
    torch_side.fill_convolution(layer, params, np.asarray(params["kernel"])[::-1, ::-1])


def fill_transposed(layer: nn.ConvTranspose2d, params) -> None:
    """Copies the parameters of a gan.networks.Upsample; mirrored, its kernel is the one flax has."""
    torch_side.fill(layer.weight, np.asarray(params["kernel"]).transpose(2, 3, 0, 1))
    if layer.bias is not None:
        torch_side.fill(layer.bias, params["bias"])


def fill_last(layer: nn.Linear, params, grid: tuple[int, int]) -> None:
    """Copies the dense layer that follows a grid of (height, width) places, mirrored."""
    kernel = np.asarray(params["kernel"]).reshape(*grid, -1)[::-1, ::-1]
    torch_side.fill(layer.weight, kernel.transpose(2, 0, 1).reshape(1, -1))
    torch_side.fill(layer.bias, params["bias"])


def from_flax(image) -> torch.Tensor:
    """Returns images (b, h, w, c) as the networks here take them: (b, c, h, w), mirrored in both directions."""
    return torch.from_numpy(np.array(np.asarray(image, np.float32)[:, ::-1, ::-1].transpose(0, 3, 1, 2)))


def to_flax(image: torch.Tensor) -> np.ndarray:
    """Returns images (b, c, h, w), mirrored, as (b, h, w, c) unmirrored: the inverse of `from_flax`."""
    return image.detach().float().cpu().numpy().transpose(0, 2, 3, 1)[:, ::-1, ::-1]
