"""The U-Net of segmentation/networks.py in PyTorch, with its parameters, for images whose sizes need no continuation."""

import numpy as np
import torch
from torch import nn

from benchmarks import torch_side


class UNet(nn.Module):
    """(b, c, h, w) to logits (b, num_maps, h, w); ReLU, norm "none" or "batch"."""

    def __init__(self, channels: int, num_maps: int, base_width: int, depth: int, norm: str):
        super().__init__()
        widths = [base_width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(_level(before, width, norm) for before, width in zip([channels, *widths], widths, strict=False))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, 2) for width in widths[:-1])
        self.up = nn.ModuleList(_level(2 * width, width, norm) for width in widths[:-1])
        self.last = nn.Conv2d(base_width, num_maps, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits."""
        skipped = []
        for level, layers in enumerate(self.down):
            x = layers(nn.functional.max_pool2d(x, 2) if level else x)
            skipped.append(x)
        for level in reversed(range(len(self.up))):
            x = self.up[level](torch.cat([skipped[level], self.enlarge[level](x)], 1))
        return self.last(x)


def _level(before, width, norm):
    layers = []
    for channels in (before, width):
        layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=norm == "none"))
        layers += [nn.BatchNorm2d(width)] if norm == "batch" else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def make(model, variables, channels: int) -> UNet:
    """Returns the network of a `segmentation.networks.UNet` with the variables of that one, in eval mode."""
    net, params = UNet(channels, model.num_maps, model.base_width, model.depth, model.norm), variables["params"]
    stats = variables.get("batch_stats", {})
    for way, levels in (("down", net.down), ("up", net.up)):
        for level, layers in enumerate(levels):
            name = f"{way}{level}"
            for index, layer in enumerate(layer for layer in layers if isinstance(layer, nn.Conv2d)):
                torch_side.fill_convolution(layer, params[f"{name}_conv{index}"])
            for index, layer in enumerate(layer for layer in layers if isinstance(layer, nn.BatchNorm2d)):
                torch_side.fill_norm(layer, params[f"{name}_norm{index}"], stats[f"{name}_norm{index}"])
    for level, layer in enumerate(net.enlarge):
        kernel = np.asarray(params[f"up{level}_conv"]["kernel"])
        torch_side.fill(layer.weight, kernel.reshape(kernel.shape[0], 2, 2, -1).transpose(0, 3, 1, 2))
        torch_side.fill(layer.bias, params[f"up{level}_conv"]["bias"])
    torch_side.fill_convolution(net.last, params["last"], np.asarray(params["last"]["kernel"])[None, None])
    return net.eval()


def train_step(net: UNet, rate: float, image: torch.Tensor, labels: torch.Tensor, compiled: bool):
    """Returns a call that takes one step of Adam on the mean cross entropy and returns the loss before it."""
    net = net.train()
    forward = torch.compile(net) if compiled else net
    optimizer = torch.optim.Adam(net.parameters(), rate, fused=True)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(forward(image), labels)
        loss.backward()
        optimizer.step()
        torch_side.wait()
        return loss.detach()

    return step
