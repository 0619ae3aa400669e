"""SRGAN of superres/networks.py in PyTorch, with its parameters, and its adversarial training step."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import torch_side
from superres.networks import SCALES
from superres.vgg import CONVOLUTIONS, LAYERS
from training.errors import ConfigError


def check(config) -> None:
    """Raises ConfigError for an option these networks do not have."""
    supported = {
        "model.pad_value": (0.0, config.model.pad_value),
        "model.output": ("tanh", config.model.output),
        "model.output_mean": (False, config.model.output_mean),
        "model.trunk_prelu": (False, config.model.trunk_prelu),
        "model.discriminator_pool": ("mean", config.model.discriminator_pool),
        "model.low_sizes": ((), tuple(config.model.low_sizes)),
        "train.loss": ("cross_entropy", config.train.loss),
        "train.vgg_padding": ("zero", config.train.vgg_padding),
        "train.freeze_norm": (False, config.train.freeze_norm),
    }
    for name, (have, asked) in supported.items():
        if asked != have:
            raise ConfigError(f"--peer: the PyTorch networks are made for config.{name}={have}, not {asked}.\nMeasure without --peer.")


class Block(nn.Module):
    """A residual block: two convolutions, normalised or not, PReLU between."""

    def __init__(self, maps: int, normed: bool):
        super().__init__()
        first, second = ([convolution(maps, maps, 3, not normed), *norm(maps, normed)] for _ in range(2))
        self.layers = nn.Sequential(*first, nn.PReLU(), *second)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns x + layers(x)."""
        return x + self.layers(x)


class Generator(nn.Module):
    """(b, c, h, w) to (b, c, scale h, scale w), both in [-1, 1]."""

    def __init__(self, config):
        super().__init__()
        model, channels = config.model, config.data.channels
        maps, normed = model.num_maps, model.norm == "batch"
        self.first = nn.Sequential(convolution(channels, maps, model.first_kernel, True), nn.PReLU())
        trunk = [convolution(maps, maps, 3, not (normed and model.trunk_norm)), *norm(maps, normed and model.trunk_norm)]
        self.trunk = nn.Sequential(*(Block(maps, normed) for _ in range(model.num_blocks)), *trunk)
        up = [[convolution(maps, 4 * maps, 3, True), nn.PReLU(), nn.PixelShuffle(2)] for _ in range(SCALES.index(model.scale) + 1)]
        self.last = nn.Sequential(*sum(up, []), convolution(maps, channels, model.last_kernel, True), nn.Tanh())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the enlarged images."""
        first = self.first(image)
        return self.last(first + self.trunk(first))


def convolution(before: int, after: int, size: int, bias: bool, stride: int = 1) -> nn.Conv2d:
    """Returns a convolution with zeros around."""
    return nn.Conv2d(before, after, size, stride, size // 2, bias=bias)


def norm(maps: int, normed: bool) -> list[nn.Module]:
    """Returns a batch norm or nothing."""
    return [nn.BatchNorm2d(maps)] if normed else []


def generator(config, params, stats) -> Generator:
    """Returns the generator with flax's parameters and statistics, in eval mode."""
    net = Generator(config)
    names = ["first"] + [f"block{block}_conv{index}" for block in range(config.model.num_blocks) for index in range(2)] + ["trunk"]
    ups = [name for name in sorted(params) if name.startswith("up") and name.endswith("_conv")]
    names = [name if name.startswith("block") else f"{name}_conv" for name in names] + [*ups, "last_conv"]
    for name, layer in zip(names, _of(net, nn.Conv2d), strict=True):
        kernel = np.asarray(params[name]["kernel"])
        held = dict(params[name], kernel=kernel)
        if name in ups:  # PyTorch's PixelShuffle has a pixel's four parts innermost
            maps = kernel.shape[-1] // 4
            held["kernel"] = kernel.reshape(*kernel.shape[:3], 4, maps).swapaxes(-1, -2).reshape(kernel.shape)
            held["bias"] = np.asarray(params[name]["bias"]).reshape(4, maps).T.reshape(-1)
        torch_side.fill_convolution(layer, held)
    normed = [name.replace("conv", "norm") for name in names if name.replace("conv", "norm") in params]
    for name, layer in zip(normed, _of(net, nn.BatchNorm2d), strict=True):
        torch_side.fill_norm(layer, params[name], stats[name])
    slopes = ["first_prelu", *(f"block{block}_prelu" for block in range(config.model.num_blocks)), *(name[:-4] + "prelu" for name in ups)]
    for name, layer in zip(slopes, _of(net, nn.PReLU), strict=True):
        torch_side.fill(layer.weight, np.reshape(params[name]["slope"], 1))
    return net.eval()


def _of(net, kind):
    return [layer for layer in net.modules() if isinstance(layer, kind)]


def discriminator(config, params) -> nn.Sequential:
    """Returns the discriminator with flax's parameters: images (b, c, h, w) to logits (b, 1)."""
    model, layers, before = config.model, [], config.data.channels
    for index in range(8):
        after, normed = model.discriminator_maps * 2 ** (index // 2), model.discriminator_norm == "batch" and index > 0
        layers.append(convolution(before, after, 3, not normed, 1 + index % 2))
        torch_side.fill_convolution(layers[-1], params[f"conv{index}"])
        if normed:
            layers.append(nn.BatchNorm2d(after, track_running_stats=False))
            torch_side.fill_norm(layers[-1], params[f"norm{index}"])
        layers.append(nn.LeakyReLU(model.leak, inplace=True))
        before = after
    dense = [nn.Linear(before, 2 * before), nn.Linear(2 * before, 1)]
    for name, layer in zip(("hidden", "logit"), dense, strict=True):
        torch_side.fill(layer.weight, np.asarray(params[name]["kernel"]).T)
        torch_side.fill(layer.bias, params[name]["bias"])
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense[0], nn.LeakyReLU(model.leak, inplace=True), dense[1])


def features(arrays: dict[str, torch.Tensor], image: torch.Tensor, layers) -> list[torch.Tensor]:
    """Returns VGG's features of images (b, 1 or 3, h, w) in [-1, 1] at `layers`, as superres.vgg.features; kernels (out, in, h, w)."""
    x, found = ((image + 1) / 2).expand(-1, 3, -1, -1), []
    x = functional.conv2d(x, arrays["preprocess/kernel"], arrays["preprocess/bias"])
    for index, (name, layer) in enumerate(zip(CONVOLUTIONS, LAYERS, strict=True)):
        if len(found) == len(set(layers)):
            break
        x = functional.max_pool2d(x, 2) if name.endswith("_1") and index else x
        x = functional.relu(functional.conv2d(x, arrays[f"{name}/kernel"], arrays[f"{name}/bias"], padding=1))
        found += [x] if layer in layers else []
    return found


def train_step(config, nets, high: torch.Tensor, reductions, frozen, twice: bool):
    """Returns a call that makes one adversarial update and returns the generator's loss before it.

    `nets` are generator and discriminator, `reductions` the matrices (h, H) and (w, W) that make the low-resolution input, `frozen`
    VGG's arrays or {}. As ours the generated batch passes the discriminator once and is pulled back twice; where `twice` it passes it
    again for the generator's loss: a compiled network cannot be pulled back twice.
    """
    train, arrays = config.train, {name: torch_side.from_kernel(array) for name, array in frozen.items()}
    rows, columns = (torch.from_numpy(np.array(matrix)).to(high.device) for matrix in reductions)
    rates, betas = (train.generator_rate, train.discriminator_rate), (train.beta1, train.beta2)
    owned = [list(net.train().parameters()) for net in nets]
    optimizers = [torch.optim.Adam(parameters, rate, betas, fused=True) for parameters, rate in zip(owned, rates, strict=True)]
    average = [parameter.detach().clone() for parameter in owned[0]] if train.ema_decay else []

    def fidelity(image):
        loss = train.pixel_weight * functional.mse_loss(image, high)
        if arrays and train.content_weight:
            pairs = zip(features(arrays, image, train.content_layers), features(arrays, high, train.content_layers), strict=True)
            loss = loss + train.content_weight * sum(functional.mse_loss(a, b) for a, b in pairs) / len(train.content_layers)
        return loss

    def step():
        image = nets[0](torch.einsum("hH,bcHW,wW->bchw", rows, high, columns))
        real, made = nets[1](high), nets[1](image.detach() if twice else image)
        loss_d = functional.softplus(-real).mean() + functional.softplus(made).mean()
        gradient_d = torch.autograd.grad(loss_d, owned[1], retain_graph=not twice)
        fooled = functional.softplus(-(nets[1](image) if twice else made)).mean()
        loss = fidelity(image) + train.adversarial_weight * fooled
        gradient_g = torch.autograd.grad(loss, owned[0])
        for optimizer, parameters, gradients in zip(optimizers, owned, (gradient_g, gradient_d), strict=True):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
        if average:
            torch._foreach_lerp_(average, [parameter.detach() for parameter in owned[0]], 1.0 - train.ema_decay)
        torch_side.wait()
        return loss.detach()

    return step
