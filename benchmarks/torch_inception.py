"""The peer of metrics.inception in PyTorch: the FID's InceptionV3 with the same weights, batch norm folded in as in ours.

torch-fidelity's extractor is this network with its batch norms apart; it is not needed here.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from metrics.inception_table import BLOCKS, STAGES, ends


def describe() -> str:
    """Returns PyTorch's version, threads and device."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {device}"


def features(arrays: dict[str, np.ndarray], images: np.ndarray, depth: int, part: int, threads: int) -> dict[str, Callable]:
    """Returns name -> a call that gives the features (n, d) float32 on the host, `depth` stages deep, `part` images at a time.

    `arrays` are those of metrics.weights.Weights, `images` uint8 (n, 299, 299, 3): nothing is resized. Float32 throughout, no TF32.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    calls = {}
    for name, layout in (("NCHW", torch.contiguous_format), ("NHWC", torch.channels_last)):
        layers = _layers(arrays, device, layout)

        def call(layers=layers, layout=layout):
            with torch.inference_mode():
                chunks = (chunk.to(device).to(memory_format=layout) for chunk in pixels.split(part))
                return torch.cat([_forward(layers, (chunk.float() - 128) / 128, depth).cpu() for chunk in chunks]).numpy()

        calls[f"PyTorch {name}"] = call
    return calls


def _layers(arrays, device, layout) -> dict:
    kernels = {name.removesuffix("/kernel"): array for name, array in arrays.items() if array.ndim == 4}
    turned = {name: torch.tensor(array.transpose(3, 2, 0, 1).copy()).to(device, memory_format=layout) for name, array in kernels.items()}
    return {name: (kernel, torch.tensor(arrays[f"{name}/bias"]).to(device)) for name, kernel in turned.items()}


def _forward(layers, x, depth: int):
    for stage, names in enumerate(STAGES[:depth]):
        for each in names:
            x = _block(layers, x, each) if isinstance(each, str) else _conv(layers, x, *each)
        x = functional.max_pool2d(x, 3, 2) if stage < 2 else x
    return x.mean((2, 3))


def _conv(layers, x, name, _, size, stride=1, padded=True):
    padding = [side // 2 if padded else 0 for side in size]
    return functional.relu(functional.conv2d(x, *layers[name], stride, padding), inplace=True)


def _block(layers, x, block):
    branches, pool_channels = BLOCKS[block]
    halving = {} if pool_channels else {"stride": 2, "padded": False}
    outputs = []
    for branch in branches:
        y = x
        for name, *rest in branch[:-1]:
            y = _conv(layers, y, f"{block}.{name}", *rest)
        outputs += [_conv(layers, y, f"{block}.{name}", *rest, **halving) for name, *rest in ends(branch)]
    if not pool_channels:
        return torch.cat([*outputs, functional.max_pool2d(x, 3, 2)], 1)
    largest = block == "Mixed_7c"
    pooled = functional.max_pool2d(x, 3, 1, 1) if largest else functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return torch.cat([*outputs, _conv(layers, pooled, f"{block}.branch_pool", pool_channels, (1, 1))], 1)
