"""InceptionV3's arrays as Keras names them, turned into those of a PyTorch state dict."""

import re

import numpy as np

from metrics.inception_table import construction_order
from microscopy.scan import DataError

_ARRAY = re.compile(
    r"(?:^|/)(?:(conv2d|batch_normalization)(?:_(\d+))?|predictions)/(?:.*/)?(kernel|bias|beta|gamma|moving_mean|moving_variance)(?::0)?$"
)
_BATCH_NORM = {"beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def is_keras(names) -> bool:
    """Returns whether among the arrays' names is one such as conv2d/kernel, conv2d_1/conv2d_1/kernel:0 or model/conv2d_7/kernel."""
    return any((found := _ARRAY.search(name)) and found[1] == "conv2d" for name in names)


def to_state(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the PyTorch state dict `LAYER.conv.weight`, `LAYER.bn.*`, `fc.weight`, `fc.bias` of a Keras InceptionV3's arrays.

    Keras numbers convolutions and batch norms in the order of construction, from wherever its session stood, so the n-th number is
    the n-th layer. Its batch norm has no scale unless a gamma is there. Raises DataError without the file's name where there are
    not 94 of each. Source: keras.applications.inception_v3, whose blocks are built in torchvision's order.
    """
    layers: dict[str, dict] = {"conv2d": {}, "batch_normalization": {}}
    state = {}
    for name, array in tensors.items():
        if not (found := _ARRAY.search(name)):
            continue
        kind, number, part = found.groups()
        if kind:
            layers[kind].setdefault(int(number or 0), {})[part] = array
        elif part in ("kernel", "bias"):
            state["fc.weight" if part == "kernel" else "fc.bias"] = array.T
    names = construction_order()
    for kind, numbered in layers.items():
        if len(numbered) != len(names):
            raise DataError(f"holds {len(numbered)} layers {kind}, InceptionV3 has {len(names)}: save the model's weights whole")
    ordered = [[numbered[number] for number in sorted(numbered)] for numbered in layers.values()]
    for name, convolution, norm in zip(names, *ordered, strict=True):
        kernel = convolution.get("kernel", np.zeros(0))
        if kernel.ndim != 4:
            raise DataError(f"holds no kernel (kh, kw, in, out) for {name}: it is another network's")
        state[f"{name}.conv.weight"] = kernel.transpose(3, 2, 0, 1)
        state[f"{name}.bn.weight"] = norm.get("gamma", np.ones(kernel.shape[3], np.float32))
        state |= {f"{name}.bn.{ours}": norm[part] for part, ours in _BATCH_NORM.items() if part in norm}
    return state
