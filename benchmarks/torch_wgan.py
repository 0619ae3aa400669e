"""The class-conditional WGAN of gan/conditional.py in PyTorch, with its parameters: what `--peer` compares with.

Images are mirrored in both directions, as in benchmarks/torch_dcgan.py, where the reason stands; so are its layers.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import torch_side, torch_steps
from benchmarks.torch_dcgan import fill_last, fill_mirrored, fill_transposed, strided_convolution, transposed_convolution
from gan.conditional import widths
from training.errors import ConfigError


def check(config) -> None:
    """Raises ConfigError for an option these networks do not have."""
    size = config.model.kernel_size
    if size % 2 == 0:
        raise ConfigError(f"--peer: the PyTorch networks are made for odd config.model.kernel_size, not {size}.\nMeasure without --peer.")
    height, width = config.data.height, config.data.width
    if height != width or height not in (16, 32, 64, 128):
        raise ConfigError(f"--peer: the PyTorch networks are made for squares of 16, 32, 64 or 128 px, not {height} x {width}.")


class Generator(nn.Module):
    """Noise (b, z) and class numbers (b,) to mirrored images (b, channels, size, size) float32; dropout where it trains."""

    def __init__(self, config, num_classes: int):
        super().__init__()
        data, model = config.data, config.model
        self.num_classes, self.projected = num_classes, model.conditioning == "projection"
        self.told = nn.Embedding(num_classes, model.latent_dim) if self.projected else None
        before, *hidden = reversed(widths(model.base_filters, int(math.log2(data.height))))
        self.first = nn.Linear(model.latent_dim + (model.latent_dim if self.projected else num_classes), before)
        layers = [nn.LeakyReLU(model.leak, inplace=True), nn.Unflatten(1, (before, 1, 1))]
        for after in hidden:
            layers += [transposed_convolution(before, after, model.kernel_size, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.LeakyReLU(model.leak, inplace=True), *_dropout(model.generator_dropout)]
            before = after
        self.layers = nn.Sequential(*layers, transposed_convolution(before, data.channels, model.kernel_size, bias=True))

    def forward(self, noise: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Returns the images."""
        told = self.told(label) if self.projected else functional.one_hot(label, self.num_classes).to(noise.dtype)
        return torch.tanh(self.layers(self.first(torch.cat([noise, told], 1))).float())


class Critic(nn.Module):
    """Mirrored images (b, c, size, size) and class numbers (b,) to values (b,) float32."""

    def __init__(self, config, num_classes: int):
        super().__init__()
        data, model = config.data, config.model
        self.num_classes, self.projected, self.sigmoid = num_classes, model.conditioning == "projection", model.sigmoid
        before, layers, num_strided = data.channels + (0 if self.projected else num_classes), [], int(math.log2(data.height)) - 2
        for block, after in enumerate(widths(model.base_filters, num_strided + 1)):
            strided = block < num_strided
            same = nn.Conv2d(before, after, model.kernel_size, padding=model.kernel_size // 2)
            layers.append(strided_convolution(before, after, model.kernel_size, bias=True) if strided else same)
            layers += [nn.GroupNorm(1, after, eps=1e-6)] if model.critic_norm == "layer" else []  # 1e-6: flax's LayerNorm
            layers += [nn.LeakyReLU(model.leak, inplace=True), *_dropout(model.dropout)]
            before = after
        self.layers, self.value = nn.Sequential(*layers), nn.Linear(16 * before, 1)
        self.told = nn.Embedding(num_classes, before) if self.projected else None

    def forward(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Returns the values."""
        if not self.projected:
            planes = functional.one_hot(label, self.num_classes).to(image.dtype)[:, :, None, None]
            image = torch.cat([image, planes.expand(-1, -1, *image.shape[2:])], 1)
        x = self.layers(image)
        value = self.value(x.flatten(1))[:, 0].float()
        if self.projected:
            value = value + (self.told(label) * x.float().sum((2, 3))).sum(1)
        return torch.sigmoid(value) if self.sigmoid else value


def _dropout(rate: float) -> list[nn.Module]:
    return [nn.Dropout(rate)] if rate > 0 else []


def _of(net, kind) -> list[nn.Module]:
    return [layer for layer in net.modules() if isinstance(layer, kind)]


def networks(config, num_classes: int, setting: torch_steps.Setting, state) -> tuple[Generator, Critic]:
    """Returns generator and critic with the parameters of `state` (gan.wgan.State), in training mode; not compiled."""
    nets = Generator(config, num_classes), Critic(config, num_classes)
    load_generator(nets[0], state.generator.params, state.generator.stats)
    load_critic(nets[1], state.critic.params)
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    return tuple(net.to(setting.device, memory_format=layout).train() for net in nets)


def load_generator(net: Generator, params, stats) -> None:
    """Copies flax parameters, and statistics where there are any, into `net`."""
    torch_side.fill(net.first.weight, np.asarray(params["Dense_0"]["kernel"]).T)
    torch_side.fill(net.first.bias, params["Dense_0"]["bias"])
    for i, layer in enumerate(_of(net, nn.ConvTranspose2d)):
        fill_transposed(layer, params[f"Upsample_{i}"])
    for i, layer in enumerate(_of(net, nn.BatchNorm2d)):
        torch_side.fill_norm(layer, params[f"BatchNorm_{i}"], stats[f"BatchNorm_{i}"] if stats else None)
    if net.projected:
        torch_side.fill(net.told.weight, params["class"]["embedding"])


def load_critic(net: Critic, params) -> None:
    """Copies flax parameters into `net`."""
    for i, layer in enumerate(_of(net, nn.Conv2d)):
        fill_mirrored(layer, params[f"conv{i}"])
    for i, layer in enumerate(_of(net, nn.GroupNorm)):
        torch_side.fill_norm(layer, params[f"norm{i}"])
    fill_last(net.value, params["value"], (4, 4))
    if net.projected:
        torch_side.fill(net.told.weight, params["class"]["embedding"])
