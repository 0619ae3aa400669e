"""VGG19's weights from the activation-normalised .npz layout, torchvision's .pth or .safetensors; found or downloaded for `auto`."""

import pathlib

import numpy as np

from metrics.weights import Weights, check_published, fetched, read_with
from microscopy.scan import DataError
from superres import vgg

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
SHA256_PREFIX = "dcbb9e9d"
"""First digits of the file's SHA-256; the publisher's file name carries them, and more are not published."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
"""Places of the convolutions in torchvision's vgg19().features."""


def load_vgg(source: str, layers) -> Weights:
    """Returns the Weights whose arrays `vgg.features` needs for `layers`, of a file or, for `auto`, of torchvision's VGG19 of ImageNet.

    `auto` takes the file in the cache folder, else downloads it there (548 MB, https, first digits of SHA-256 compared). A file of the
    first convolutions only serves the layers it reaches. Raises DataError naming file and remedy. Source: pytorch.org/vision.
    """
    path = fetched(URL, SHA256_PREFIX, "VGG19") if source == "auto" else pathlib.Path(source)
    weights = read_with(path, lambda tensors: _chosen(_named(tensors), layers))
    if source == "auto":
        check_published(path, weights.sha256, SHA256_PREFIX)
    return weights


def _named(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns `LAYER/kernel`, `LAYER/bias` of a file that has them, or of torchvision's `features.N.weight` with its preprocessing."""
    if "preprocess/kernel" in tensors:
        return tensors
    if "features.0.weight" not in tensors:
        raise DataError("holds neither preprocess/kernel and conv1_1/kernel nor features.0.weight: it is another network's")
    arrays = {"preprocess/kernel": np.diag(1 / np.array(_DEVIATION)).reshape(1, 1, 3, 3), "preprocess/bias": -np.divide(_MEAN, _DEVIATION)}
    for place, name in zip(_TORCHVISION, vgg.CONVOLUTIONS, strict=True):
        kernel, bias = tensors.get(f"features.{place}.weight"), tensors.get(f"features.{place}.bias")
        if kernel is not None and bias is not None and kernel.ndim == 4:
            arrays |= {f"{name}/kernel": kernel.transpose(2, 3, 1, 0), f"{name}/bias": bias}
    return arrays


def _chosen(arrays: dict[str, np.ndarray], layers) -> dict[str, np.ndarray]:
    chosen = {}
    for name, shape in vgg.needed(layers).items():
        if name not in arrays:
            raise DataError(f"has no {name}: it reaches {_reached(name)}, wanted are {', '.join(layers)[:200]}")
        if arrays[name].shape != shape:
            raise DataError(f"holds {name} of shape {str(arrays[name].shape)[:60]}, not {shape}: it is not VGG19's")
        chosen[name] = np.float32(arrays[name])
        if not np.isfinite(chosen[name]).all():
            raise DataError(f"holds values in {name} that are not finite; download it again")
    return chosen


def _reached(missing: str) -> str:
    layer = missing.partition("/")[0].replace("conv", "relu")
    index = vgg.LAYERS.index(layer) if layer in vgg.LAYERS else 0
    return vgg.LAYERS[index - 1] if index else "no layer"
