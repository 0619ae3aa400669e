"""The classifier of classification/networks.py in PyTorch, with its parameters, and its training step: what `--peer` times."""

from collections.abc import Callable

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import segmentation, torch_affine, torch_peer, torch_side, torch_steps
from benchmarks.torch_steps import Setting, cast
from benchmarks.torch_wgan_steps import tolerance
from classification import classifier

describe = torch_peer.describe


def check(config) -> None:
    """Returns for every config: all the classifier's options are here."""
    del config


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, ReLU between them and after them; a residual one adds its input."""

    def __init__(self, before: int, after: int, momentum: float, residual: bool):
        super().__init__()

        def convolution(before, side=3):
            norm = nn.BatchNorm2d(after, momentum=1.0 - momentum)
            return nn.Sequential(nn.Conv2d(before, after, side, padding=side // 2, bias=False), norm)

        self.first, self.second, self.residual = convolution(before), convolution(after), residual
        self.skip = convolution(before, 1) if residual and before != after else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (b, after, h, w)."""
        y = self.second(functional.relu(self.first(x), inplace=True))
        return functional.relu(y + self.skip(x) if self.residual else y, inplace=True)


class Classifier(nn.Module):
    """Images (b, c, h, w) in [-1, 1] to logits (b, num_classes) float32."""

    def __init__(self, config, num_classes: int):
        super().__init__()
        model, before = config.model, config.data.channels
        widths = [model.base_width * 2**number for number in range(model.num_blocks)]
        residual = model.kind == "residual"
        pairs = zip([before, *widths], widths, strict=False)
        self.blocks = nn.ModuleList(Block(before, after, model.momentum, residual) for before, after in pairs)
        self.dropout, self.logits = nn.Dropout(model.dropout), nn.Linear(widths[-1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits."""
        for number, block in enumerate(self.blocks):
            x = functional.max_pool2d(x, [min(2, side) for side in x.shape[2:]]) if number else x
            x = block(x)
        return self.logits(self.dropout(x.float().mean((2, 3)))).float()


def network(config, setting: Setting, params, stats) -> Classifier:
    """Returns the classifier with flax's parameters and statistics, in training mode; not compiled."""
    net = Classifier(config, len(params["Dense_0"]["bias"]))
    pairs = [pair for block in net.blocks for pair in (block.first, block.second, block.skip) if isinstance(pair, nn.Sequential)]
    for number, (layer, norm) in enumerate(pairs):
        torch_side.fill_convolution(layer, params[f"Conv_{number}"])
        torch_side.fill_norm(norm, params[f"BatchNorm_{number}"], stats[f"BatchNorm_{number}"])
    torch_side.fill(net.logits.weight, np.asarray(params["Dense_0"]["kernel"]).T)
    torch_side.fill(net.logits.bias, params["Dense_0"]["bias"])
    return net.to(setting.device, memory_format=torch.channels_last if setting.channels_last else torch.contiguous_format).train()


def cross_entropy(logits: torch.Tensor, label: torch.Tensor, counted: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Returns classification.classifier.cross_entropy of logits (n, num_classes), labels (n,) and class weights (num_classes)."""
    own = counted[label]
    return (own * functional.cross_entropy(logits, label, reduction="none", label_smoothing=smoothing)).sum() / own.sum()


def make_step(config, setting: Setting, net: Classifier, counted: torch.Tensor, average: list) -> Callable[..., dict]:
    """Returns step(image, label) -> scalars, which updates the network and `average`, a list like `averaged(net)`, empty for none."""
    train, owned, count = config.train, list(net.parameters()), 0
    run = torch.compile(net) if setting.compiled else net
    optimizer = torch.optim.AdamW(owned, train.rate, (train.beta1, train.beta2), weight_decay=train.weight_decay, fused=True)

    def step(image, label):
        nonlocal count
        optimizer.zero_grad()
        with cast(setting):
            logits = run(torch_affine.augment(image, train))
        loss = cross_entropy(logits, label, counted, train.label_smoothing)
        loss.backward()
        scalars = {"network/loss": loss.detach(), "network/accuracy": (logits.argmax(1) == label).float().mean()}
        scalars["network/gradient"] = torch_steps.norm([parameter.grad for parameter in owned])
        optimizer.step()
        torch_steps.follow(average, averaged(net), train.ema_decay, count)
        count += 1
        return scalars

    return step


def averaged(net: Classifier) -> list[torch.Tensor]:
    """Returns what the moving average follows: parameters and batch statistics."""
    return [tensor.detach() for tensor in (*net.parameters(), *net.buffers()) if tensor.is_floating_point()]


def steps(config, prepared, state, batch, num: int) -> tuple[dict[str, Callable[[], None]], list[str]]:
    """Returns (name -> a call that trains `num` steps on the batch, for every form that works here; notes on the others).

    `state` is the classifier.State all begin with, as host arrays. Each waits for its device. Logits have been held against ours.
    """
    torch_side.prepare()
    torch.manual_seed(config.seed)
    _agree(config, state, batch)
    counted = classifier.class_weights(config, prepared)
    chosen = torch_steps.forms(config)
    return torch_side.working({f"PyTorch {setting.describe()}": _steps(config, counted, state, batch, num, setting) for setting in chosen})


def _steps(config, counted, state, batch, num, setting):
    net = network(config, setting, state.network.params, state.network.stats)
    average = [tensor.clone() for tensor in averaged(net)] if config.train.ema_decay else []
    step = make_step(config, setting, net, torch.from_numpy(counted).to(setting.device), average)
    image = torch_side.from_flax(batch["image"], setting.channels_last)
    label = torch.from_numpy(np.array(batch["label"])).long().to(setting.device)

    def call():
        for _ in range(num):
            step(image, label)
        torch_peer.wait(setting.device)

    return call


def _agree(config, state, batch) -> None:
    """Ends where logits differ: speeds of different things are not compared."""
    params, stats = jax.tree.map(np.asarray, (state.network.params, state.network.stats))
    setting = torch_steps.settings(config)[0]
    ours = classifier.make_logits(config, len(params["Dense_0"]["bias"]))(params, stats, batch["image"])
    with torch.inference_mode(), cast(setting):
        theirs = network(config, setting, params, stats).eval()(torch_side.from_flax(batch["image"]))
    segmentation.agree(np.asarray(ours), theirs.cpu().numpy(), tolerance(setting))
