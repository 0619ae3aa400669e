"""What benchmarks.throughput times of DCGAN in PyTorch: training steps, chunks of generated images and single layers."""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks import timing, torch_dcgan, torch_steps

check = torch_dcgan.check


def describe(config) -> str:
    """Returns PyTorch's version, threads and device."""
    device = torch.cuda.get_device_name() if torch_steps.settings(config)[0].device == "cuda" else "CPU"
    return f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {device}"


def steps(config, prepared, state, batch, num: int) -> tuple[dict[str, Callable[[], None]], list[str]]:
    """Returns (name -> a call that trains `num` steps on the batch, for every setting and order; no notes).

    `state` is the gan.dcgan.State all begin with, as host arrays. Each waits for its device. Compiled networks are timed in the
    usual order only: PyTorch does not pull a compiled graph back twice.
    """
    del prepared
    torch.set_num_threads(timing.num_cores())
    torch.manual_seed(config.seed)
    chosen = torch_steps.settings(config)
    plans = [(setting, torch_steps.simultaneous, "our update") for setting in chosen if not setting.compiled]
    plans += [(setting, torch_steps.sequential, "usual update") for setting in (chosen[0], chosen[-1])]
    image = batch["image"]
    calls = {f"PyTorch {setting.describe()}, {name}": _steps(config, state, image, num, setting, order) for setting, order, name in plans}
    return calls, []


def _steps(config, state, image, num, setting, order):
    nets = torch_steps.networks(config, setting, state)
    average = [p.detach().clone() for p in nets[0].parameters()] if config.train.ema_decay else []
    step = torch_steps.make_step(config, setting, nets, order, average)
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    real = torch_dcgan.from_flax(image).to(setting.device, memory_format=layout)

    def call():
        for _ in range(num):
            step(real, torch.randn(len(real), config.model.latent_dim, device=setting.device))
        wait(setting.device)

    return call


def wait(device: str) -> None:
    """Returns when `device` has done all that was asked of it."""
    if device == "cuda":
        torch.cuda.synchronize()


def chunks(config, prepared, state, size: int) -> dict[str, Callable[[], np.ndarray]]:
    """Returns name -> a call that gives `size` generated images as float32 on the host, for every setting."""
    del prepared
    torch.set_num_threads(timing.num_cores())
    return {f"PyTorch {setting.describe()}": _chunk(config, state, size, setting) for setting in torch_steps.settings(config)}


def _chunk(config, state, size, setting):
    net = torch_steps.networks(config, setting, state)[0].eval()

    def call():
        with torch.inference_mode(), torch_steps.cast(setting):
            return net(torch.randn(size, config.model.latent_dim, device=setting.device)).float().cpu().numpy()

    return call


def layer(config, layer) -> tuple[Callable[[], None], Callable[[], None]]:
    """Returns calls that run one `benchmarks.layers.Layer` forward, and forward and backward to its parameters and its input."""
    torch.set_num_threads(timing.num_cores())
    setting, batch_size = torch_steps.settings(config)[0], config.train.batch_size
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    net = torch_layer(layer, config.model).to(setting.device, memory_format=layout)
    shape = (layer.shape[-1], *layer.shape[:-1])
    x = torch.randn(batch_size, *shape, device=setting.device)
    x = (x if len(shape) == 1 else x.to(memory_format=layout)).requires_grad_()
    wanted = [*net.parameters(), x]
    with torch_steps.cast(setting):
        cotangent = torch.ones_like(net(x))

    def forward():
        with torch.no_grad(), torch_steps.cast(setting):
            net(x)
        wait(setting.device)

    def both():
        with torch_steps.cast(setting):
            y = net(x)
        torch.autograd.grad(y, wanted, cotangent)
        wait(setting.device)

    return forward, both


def torch_layer(layer, model) -> torch.nn.Module:
    """Returns the module of benchmarks.torch_dcgan for a layer; a norm with its leaky ReLU and dropout."""
    before = layer.shape[-1]
    if layer.kind == "dense":
        return torch.nn.Linear(before, layer.features, bias=layer.bias)
    if layer.kind == "up":
        return torch_dcgan.transposed_convolution(before, layer.features, model.kernel_size, layer.bias)
    if layer.kind == "down":
        return torch_dcgan.strided_convolution(before, layer.features, model.kernel_size, layer.bias)
    leak = torch.nn.LeakyReLU(model.leak, inplace=True)
    norm = torch.nn.BatchNorm2d(before, track_running_stats=False)
    return torch.nn.Sequential(norm, leak, torch.nn.Dropout(layer.dropout)) if layer.dropout else torch.nn.Sequential(norm, leak)
