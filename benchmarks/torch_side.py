"""What the PyTorch twins share: settings worth comparing on this machine, weights copied, `torch.compile` tried."""

import jax
import numpy as np
import torch

from benchmarks import timing


def prepare() -> str:
    """Returns PyTorch's version, threads and device, after giving it as many threads as there are cores."""
    torch.set_num_threads(timing.num_cores())
    return f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {device()}"


def device() -> str:
    """Returns "cuda" where JAX computes on a GPU and PyTorch sees one, else "cpu"."""
    return "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"


def wait() -> None:
    """Returns when the device has done all that was asked of it."""
    if device() == "cuda":
        torch.cuda.synchronize()


def fill(tensor: torch.Tensor, array) -> None:
    """Copies an array into a parameter; ValueError where the shapes differ."""
    array = np.array(array, np.float32)
    if tuple(tensor.shape) != array.shape:
        raise ValueError(f"{tuple(tensor.shape)} in PyTorch, {array.shape} in flax")
    with torch.no_grad():
        tensor.copy_(torch.from_numpy(array))


def fill_convolution(layer, params, kernel=None) -> None:
    """Copies flax's kernel (kh, kw, in, out), or the `kernel` given, and the bias, where there is one, into a Conv2d."""
    kernel = np.asarray(params["kernel"] if kernel is None else kernel)
    fill(layer.weight, kernel.transpose(3, 2, 0, 1))
    if layer.bias is not None:
        fill(layer.bias, params["bias"])


def fill_norm(layer, params, stats=None) -> None:
    """Copies flax's scale and bias, and mean and variance where given, into a BatchNorm2d."""
    fill(layer.weight, params["scale"])
    fill(layer.bias, params["bias"])
    if stats:
        fill(layer.running_mean, stats["mean"])
        fill(layer.running_var, stats["var"])


def from_flax(image, channels_last: bool = False) -> torch.Tensor:
    """Returns float32 images (b, h, w, c) as (b, c, h, w) on the device."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.from_numpy(np.array(image, np.float32).transpose(0, 3, 1, 2).copy()).to(device(), memory_format=layout)


def from_kernel(array) -> torch.Tensor:
    """Returns flax's kernel (h, w, in, out) as (out, in, h, w) on the device, a bias as it is."""
    array = np.array(array, np.float32)
    return torch.from_numpy(array.transpose(3, 2, 0, 1).copy() if array.ndim == 4 else array).to(device())


def to_flax(image: torch.Tensor) -> np.ndarray:
    """Returns images (b, c, h, w) as float32 (b, h, w, c) on the host."""
    return image.detach().float().cpu().numpy().transpose(0, 2, 3, 1)


def placed(net: torch.nn.Module, channels_last: bool) -> torch.nn.Module:
    """Returns the network on the device in that layout."""
    return net.to(device(), memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def working(calls: dict) -> tuple[dict, list[str]]:
    """Returns the calls that run and, for those that do not, a line "name: why"; each is called once, so that it is compiled."""
    running, failures = {}, []
    for name, call in calls.items():
        try:
            call()
            running[name] = call
        except Exception as error:  # whatever a compiler that is missing or does not know a layer raises
            if "compiled" not in name:
                raise
            why = (str(error).strip() or "no message").splitlines()[0][:120]
            failures.append(f"{name}: does not work here ({type(error).__name__}: {why})")
    return running, failures
