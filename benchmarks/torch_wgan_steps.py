"""One training step of the class-conditional WGAN in PyTorch, as gan/wasserstein.py takes it, and what `--peer` times of it.

Updates of the critic, each on its own share of the batch with clipped weights or the gradient penalty, then one of the generator.
"""

from collections.abc import Callable

import jax
import numpy as np
import torch

from benchmarks import segmentation, torch_affine, torch_peer, torch_side, torch_steps, torch_wgan
from benchmarks.torch_dcgan import from_flax, to_flax
from benchmarks.torch_steps import Setting, cast
from gan import wgan

check, describe = torch_wgan.check, torch_peer.describe
EAGER_PENALTY = "compiled: all passes but the gradient penalty's, which torch.compile cannot differentiate twice"


def steps(config, prepared, state, batch, num: int) -> tuple[dict[str, Callable[[], None]], list[str]]:
    """Returns (name -> a call that trains `num` steps on the batch, for every form that works here; notes on the others).

    `state` is the gan.wgan.State all begin with, as host arrays. Each waits for its device. Outputs have been held against ours.
    """
    torch_side.prepare()
    torch.manual_seed(config.seed)
    num_classes = len(prepared.classes)
    _agree(config, num_classes, state, batch)
    chosen = torch_steps.forms(config)
    calls = {f"PyTorch {setting.describe()}": _steps(config, num_classes, state, batch, num, setting) for setting in chosen}
    running, notes = torch_side.working(calls)
    partly = config.train.objective == "gp" and any("compiled" in name for name in running)
    return running, [*notes, EAGER_PENALTY] if partly else notes


def _steps(config, num_classes, state, batch, num, setting):
    nets = torch_wgan.networks(config, num_classes, setting, state)
    average = [p.detach().clone() for p in nets[0].parameters()] if config.train.ema_decay else []
    step, parts = make_step(config, setting, nets, average), shares(config, batch, setting)
    updates, size = len(parts), len(parts[0][1])

    def call():
        for _ in range(num):
            noises = torch.randn(updates + 1, size, config.model.latent_dim, device=setting.device)
            step(parts, noises, torch.rand(updates, size, device=setting.device))
        torch_peer.wait(setting.device)

    return call


def shares(config, batch, setting: Setting) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Returns (images, class numbers) of each of the critic's updates, on the device: the rows that gan.wasserstein takes."""
    layout, every = torch.channels_last if setting.channels_last else torch.contiguous_format, config.train.critic_updates
    image, label = from_flax(batch["image"]), torch.from_numpy(np.array(batch["label"])).long()
    places = [slice(number, None, every) for number in range(every)]
    return [(image[rows].to(setting.device).contiguous(memory_format=layout), label[rows].to(setting.device)) for rows in places]


def make_step(config, setting: Setting, nets, average: list) -> Callable[..., dict]:
    """Returns step(shares, noises, mixes) -> scalars, which updates generator and critic (`nets`) and the average.

    `noises` (updates + 1, b, z), the last for the generator; `mixes` (updates, b) in 0..1 for the penalty; `average` as for
    benchmarks.torch_steps.make_step.
    """
    train, owned, count = config.train, [list(net.parameters()) for net in nets], 0
    run = [torch.compile(net) if setting.compiled else net for net in nets]
    optimizers = [_adam(parameters, rate, train) for parameters, rate in zip(owned, (train.generator_rate, train.critic_rate), strict=True)]

    def step(shares, noises, mixes):
        nonlocal count
        nets[1].requires_grad_(True)
        for (real, label), noise, mix in zip(shares, noises[:-1], mixes, strict=True):
            with torch.no_grad(), cast(setting):
                generated = run[0](noise, label)
                real = torch_affine.augment(real, train)
            found = critic_losses(train, setting, (nets[1], run[1]), real, generated, label, mix)
            critic_norm = _descend(optimizers[1], owned[1], found["critic/loss"])
            if train.objective == "clip":
                weights = [parameter.detach() for parameter in owned[1]]
                torch._foreach_clamp_min_(weights, -train.clip)
                torch._foreach_clamp_max_(weights, train.clip)
        nets[1].requires_grad_(False)  # or a compiled one computes gradients nobody asks for
        with cast(setting):
            loss = -run[1](torch_steps.augment(run[0](noises[-1], label), train.augment), label).mean()
        norm = _descend(optimizers[0], owned[0], loss)
        torch_steps.follow(average, [parameter.detach() for parameter in owned[0]], train.ema_decay, count)
        count += 1
        scalars = {**found, "critic/gradient": critic_norm, "generator/loss": loss, "generator/gradient": norm}
        return {name: value.detach() for name, value in scalars.items()}

    return step


def critic_losses(train, setting: Setting, critics, real, generated, label, mix) -> dict[str, torch.Tensor]:
    """Returns the scalars of an update of the critic; `critics` are the plain one, which the penalty takes, and the one to run."""
    with cast(setting):
        real, generated = (torch_steps.augment(image, train.augment) for image in (real, generated))
        distance = critics[1](real, label).mean() - critics[1](generated, label).mean()
    if train.objective == "clip":
        return {"critic/distance": distance, "critic/loss": -distance}
    with cast(setting):
        penalty = gradient_penalty(lambda image: critics[0](image, label), real, generated, mix)
    return {"critic/distance": distance, "critic/penalty": penalty, "critic/loss": train.penalty_weight * penalty - distance}


def gradient_penalty(values_of: Callable, real: torch.Tensor, generated: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
    """Returns gan.losses.gradient_penalty of images (b, c, h, w), mix (b,): differentiable once more."""
    image = torch.lerp(generated, real, mix.reshape(-1, 1, 1, 1)).requires_grad_()
    (gradient,) = torch.autograd.grad(values_of(image).sum(), image, create_graph=True)
    return ((torch.sqrt(gradient.pow(2).sum((1, 2, 3)) + 1e-12) - 1.0) ** 2).mean()


def _adam(parameters, rate, train):
    weights, rest = ([one for one in parameters if (one.ndim > 1) == wanted] for wanted in (True, False))
    groups = [{"params": weights, "weight_decay": 2.0 * train.l2}, {"params": rest}]
    return torch.optim.Adam(groups, rate, (train.beta1, train.beta2), fused=True)


def _descend(optimizer, parameters, loss) -> torch.Tensor:
    """Takes one step and returns the gradient's norm; `backward` lays gradients out like their parameters, as fused Adam needs them."""
    optimizer.zero_grad()
    loss.backward(inputs=parameters)
    norm = torch_steps.norm([parameter.grad for parameter in parameters])
    optimizer.step()
    return norm


def _agree(config, num_classes, state, batch) -> None:
    """Ends where images or values differ: speeds of different things are not compared."""
    generator, critic = wgan.make_networks(config, num_classes)
    image, label = (np.asarray(batch[name]) for name in ("image", "label"))
    noise = np.float32(np.random.default_rng(config.seed).normal(size=(len(label), config.model.latent_dim)))

    @jax.jit
    def ours(state, noise, image, label):
        variables = {"params": state.generator.params, "batch_stats": state.generator.stats}
        value = critic.apply({"params": state.critic.params}, image, label, train=False)
        return generator.apply(variables, noise, label, train=False), value

    setting = torch_steps.settings(config)[0]
    nets = [net.eval() for net in torch_wgan.networks(config, num_classes, setting, state)]
    labels = torch.from_numpy(np.array(label)).long().to(setting.device)
    with torch.inference_mode(), cast(setting):
        made = to_flax(nets[0](torch.from_numpy(noise).to(setting.device), labels))
        values = nets[1](from_flax(image).to(setting.device), labels).cpu().numpy()
    for one, other in zip(ours(state, noise, image, label), (made, values), strict=True):
        segmentation.agree(np.asarray(one), other, tolerance(setting))


def tolerance(setting: Setting) -> float:
    """Returns the share of the largest output by which ours may differ; accelerators round products, bfloat16 everything."""
    return segmentation.TOLERANCE if setting.device == "cpu" and not setting.bfloat16 else 3e-2


def chunks(config, prepared, state, size: int) -> dict[str, Callable[[], np.ndarray]]:
    """Returns name -> a call that gives `size` generated images, classes in turn, as float32 on the host."""
    torch_side.prepare()
    num_classes = len(prepared.classes)
    return {f"PyTorch {setting.describe()}": _chunk(config, num_classes, state, size, setting) for setting in torch_steps.settings(config)}


def _chunk(config, num_classes, state, size, setting):
    net = torch_wgan.networks(config, num_classes, setting, state)[0].eval()
    net = torch.compile(net) if setting.compiled else net
    labels = torch.arange(size, device=setting.device) % num_classes

    def call():
        with torch.inference_mode(), cast(setting):
            return net(torch.randn(size, config.model.latent_dim, device=setting.device), labels).float().cpu().numpy()

    return call
