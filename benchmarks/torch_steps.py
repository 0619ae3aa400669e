"""One training step of the DCGAN in PyTorch, in two orders: ours (`simultaneous`) and that of PyTorch's DCGAN example (`sequential`).

Losses, DiffAugment, Adam and the moving average are those of gan/losses.py, gan/diffaugment.py and gan/dcgan.py.
"""

import contextlib
import dataclasses
from collections.abc import Callable

import jax
import torch
from torch.nn import functional

from benchmarks import torch_dcgan
from gan.networks import NUM_BLOCKS
from training import devices
from training.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where and how PyTorch computes: device, bfloat16 by autocast, memory layout, `torch.compile`."""

    device: str
    bfloat16: bool = False
    channels_last: bool = False
    compiled: bool = False

    def describe(self) -> str:
        """Returns "eager float32, channels last" or the like."""
        words = f"{'compiled' if self.compiled else 'eager'} {'bfloat16' if self.bfloat16 else 'float32'}"
        return f"{words}, channels last" if self.channels_last else words


def settings(config) -> list[Setting]:
    """Returns what a user of this machine would choose from, on the device that JAX uses; ConfigError where PyTorch lacks it."""
    bfloat16 = devices.with_dtype(config).model.dtype == "bfloat16"
    if jax.default_backend() == "cpu":
        return [Setting("cpu", bfloat16), Setting("cpu", bfloat16, channels_last=True)]
    if not torch.cuda.is_available():
        here = jax.default_backend()
        raise ConfigError(f"--peer: JAX computes on {here} and PyTorch sees no GPU.\nJAX_PLATFORMS=cpu compares on the CPU.")
    torch.backends.cudnn.benchmark = True
    return [Setting("cuda", bfloat16, channels_last=True), Setting("cuda", bfloat16, channels_last=True, compiled=True)]


def forms(config) -> list[Setting]:
    """Returns eager and compiled, each in both memory layouts, on the device and in the type of `settings`."""
    first = settings(config)[0]
    return [dataclasses.replace(first, channels_last=last, compiled=way) for way in (False, True) for last in (False, True)]


def networks(config, setting: Setting, state) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Returns generator and discriminator with the parameters of `state` (gan.dcgan.State), in training mode."""
    grid = (config.data.height // 2**NUM_BLOCKS, config.data.width // 2**NUM_BLOCKS)
    nets = torch_dcgan.generator(config), torch_dcgan.discriminator(config)
    torch_dcgan.load_generator(nets[0], state.generator.params, state.generator.stats, grid)
    torch_dcgan.load_discriminator(nets[1], state.discriminator.params, grid)
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    nets = [net.to(setting.device, memory_format=layout).train() for net in nets]
    return tuple(torch.compile(net) if setting.compiled else net for net in nets)


def cast(setting: Setting):
    """Returns the context in which networks are applied."""
    return torch.autocast(setting.device, torch.bfloat16) if setting.bfloat16 else contextlib.nullcontext()


def make_step(config, setting: Setting, nets, order: Callable, average: list) -> Callable[[torch.Tensor, torch.Tensor], dict]:
    """Returns step(real, noise) -> scalars, which updates the networks in `order` (`simultaneous` or `sequential`) and the average.

    `real` is as from `torch_dcgan.from_flax`; `average` is a list of tensors like the generator's parameters, empty for none.
    """
    train = config.train
    rates = (train.generator_rate, train.discriminator_rate)
    betas = (train.beta1, train.beta2)
    optimizers = [torch.optim.Adam(net.parameters(), rate, betas, fused=True) for net, rate in zip(nets, rates, strict=True)]
    count = 0

    def step(real, noise):
        nonlocal count
        scalars = order(nets, optimizers, real, noise, train, setting)
        follow(average, [p.detach() for p in nets[0].parameters()], train.ema_decay, count)
        count += 1
        return scalars

    return step


def follow(average: list, tensors: list, decay: float, count: int) -> None:
    """Moves the average, a list of tensors or empty for none, towards `tensors`, as training.descent.follow does at step `count`."""
    if average:
        torch._foreach_lerp_(average, tensors, 1.0 - min(decay, (1.0 + count) / (10.0 + count)))


def simultaneous(nets, optimizers, real, noise, train, setting) -> dict[str, torch.Tensor]:
    """Returns the scalars of gan.dcgan's own update: the generated batch passes once and is pulled back twice."""
    discriminator_loss, generator_loss = LOSSES[train.loss]
    parameters = [list(net.parameters()) for net in nets]
    with cast(setting):
        generated = nets[0](noise).float()
        real_logits = nets[1](augment(real, train.augment)).float()
        logits = nets[1](augment(generated, train.augment)).float()
    loss_d = discriminator_loss(real_logits, logits, train.label_smoothing)
    loss_g = generator_loss(real_logits.detach(), logits)
    gradient_d = torch.autograd.grad(loss_d, parameters[1], retain_graph=True)
    gradient_g = torch.autograd.grad(loss_g, parameters[0])
    for optimizer, owned, gradient in zip(optimizers, parameters, (gradient_g, gradient_d), strict=True):
        for parameter, value in zip(owned, gradient, strict=True):
            parameter.grad = value
        optimizer.step()
    return _scalars(train.loss, loss_d, loss_g, real_logits, logits, norm(gradient_d), norm(gradient_g))


def sequential(nets, optimizers, real, noise, train, setting) -> dict[str, torch.Tensor]:
    """Returns the scalars of the usual script: the discriminator's update, then a second pass of the batch for the generator's."""
    discriminator_loss, generator_loss = LOSSES[train.loss]
    optimizers[1].zero_grad()
    with cast(setting):
        generated = nets[0](noise).float()
        real_logits = nets[1](augment(real, train.augment)).float()
        logits = nets[1](augment(generated.detach(), train.augment)).float()
    loss_d = discriminator_loss(real_logits, logits, train.label_smoothing)
    loss_d.backward()
    norm_d = norm([parameter.grad for parameter in nets[1].parameters()])  # the second pass adds to these gradients
    optimizers[1].step()
    optimizers[0].zero_grad()
    with cast(setting):
        loss_g = generator_loss(real_logits.detach(), nets[1](augment(generated, train.augment)).float())
    loss_g.backward()
    optimizers[0].step()
    return _scalars(train.loss, loss_d, loss_g, real_logits, logits, norm_d, norm([parameter.grad for parameter in nets[0].parameters()]))


def norm(gradient) -> torch.Tensor:
    """Returns the norm of all gradients together."""
    return torch.nn.utils.get_total_norm(gradient)


def _scalars(loss, loss_d, loss_g, real_logits, logits, norm_d, norm_g):
    word, shown = ("probability", torch.sigmoid) if loss == "cross_entropy" else ("logit", torch.clone)
    with torch.no_grad():
        return {
            "discriminator/loss": loss_d.detach(),
            "generator/loss": loss_g.detach(),
            f"discriminator/{word}_real": shown(real_logits).mean(),
            f"discriminator/{word}_generated": shown(logits).mean(),
            "generator/gradient": norm_g,
            "discriminator/gradient": norm_d,
        }


def _discriminator_cross_entropy(real, generated, smoothing=0.0):
    return (functional.softplus(-real) + smoothing * real).mean() + functional.softplus(generated).mean()


def _discriminator_hinge(real, generated, smoothing=0.0):
    return functional.relu(1.0 - smoothing - real).mean() + functional.relu(1.0 + generated).mean()


def _discriminator_relativistic(real, generated, smoothing=0.0):
    return _discriminator_cross_entropy(real - generated.mean(), generated - real.mean(), smoothing)


LOSSES = {
    "cross_entropy": (_discriminator_cross_entropy, lambda real, generated: functional.softplus(-generated).mean()),
    "hinge": (_discriminator_hinge, lambda real, generated: -generated.mean()),
    "relativistic": (_discriminator_relativistic, lambda real, generated: _discriminator_relativistic(generated, real)),
}
"""Name in a config to (discriminator loss, generator loss), as in gan/losses.py."""


def colour(image: torch.Tensor, brightness, saturation, contrast) -> torch.Tensor:
    """Returns images (b, c, h, w) with other brightness, saturation and contrast; three numbers in 0..1 an image, (b, 1, 1, 1)."""
    image = image + (brightness - 0.5)
    if image.shape[1] > 1:
        grey = image.mean(1, keepdim=True)
        image = (image - grey) * (2.0 * saturation) + grey
    mean = image.mean((1, 2, 3), keepdim=True)
    return (image - mean) * (contrast + 0.5) + mean


def translation(image: torch.Tensor, start: torch.Tensor, margins: tuple[int, int]) -> torch.Tensor:
    """Returns windows of images (b, c, h, w) padded by `margins` (y, x) with zeros, from `start` (b, 2): 0 to twice the margin."""
    b, c, h, w = image.shape
    padded = functional.pad(image, (margins[1], margins[1], margins[0], margins[0]))
    rows = start[:, :1] + torch.arange(h, device=image.device)[None]
    columns = start[:, 1:] + torch.arange(w, device=image.device)[None]
    padded = padded.gather(2, rows[:, None, :, None].expand(b, c, h, padded.shape[3]))
    return padded.gather(3, columns[:, None, None, :].expand(b, c, h, w))


def cutout(image: torch.Tensor, corner: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Returns images (b, c, h, w) with a rectangle of `size` (height, width) from `corner` (b, 2), top and left, set to zero."""
    top, left = corner[:, :1], corner[:, 1:]
    y, x = (torch.arange(n, device=image.device)[None] for n in image.shape[2:])
    rows, columns = (y >= top) & (y < top + size[0]), (x >= left) & (x < left + size[1])
    return image.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0.0)


def augment(image: torch.Tensor, names: tuple[str, ...]) -> torch.Tensor:
    """Returns `image` after the named policies of gan/diffaugment.py in turn, each image with random numbers of its own."""
    b, _, h, w = image.shape
    for name in names:
        draws = torch.rand((3, b, 1, 1, 1), device=image.device)
        if name == "colour":
            image = colour(image, *draws)
        elif name == "translation":
            margins = (int(h * 0.125 + 0.5), int(w * 0.125 + 0.5))
            steps = torch.tensor([2 * margin + 1 for margin in margins], device=image.device)
            image = translation(image, (draws[:2].reshape(2, b).T * steps).long(), margins)
        else:
            size = (int(h * 0.5 + 0.5), int(w * 0.5 + 0.5))
            places = torch.tensor([h + (1 - size[0] % 2), w + (1 - size[1] % 2)], device=image.device)
            corner = (draws[:2].reshape(2, b).T * places).long() - torch.tensor([n // 2 for n in size], device=image.device)
            image = cutout(image, corner, size)
    return image
