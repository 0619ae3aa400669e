"""A published SRGAN generator for RGB in 0..1 as one of superres/networks.py for images in [-1, 1], of one channel or three.

The published layout is that of github.com/leftthomas/SRGAN, a state dict of PyTorch: block1, residual blocks, trunk, sub-pixel layers,
last convolution; output (tanh + 1)/2, which on [-1, 1] is the tanh alone. Nothing is approximated (float64 inside):

- range: the first kernel k sees (x + 1)/2, so it becomes k/2 and its bias gains sum(k)/2; the padding, 0 in 0..1, becomes -1;
- a bias before a batch norm goes into the norm's mean; a sub-pixel layer's maps are put in the order of `pixel_shuffle`;
- grey in: a picture repeated three times is the sum of the first kernel over its input channels;
- grey out: the mean of three tanh is no tanh of a mean, so the three maps stay and the network takes their mean (`output_mean`).
"""

import re

import flax.traverse_util
import numpy as np

from microscopy.scan import DataError
from superres.networks import SCALES

_NORM = ("weight", "bias", "running_mean", "running_var")
_EXPECTED = "needed is a state dict of github.com/leftthomas/SRGAN's generator"


def convert(state: dict[str, np.ndarray], channels: int) -> tuple[dict, dict, dict]:
    """Returns (fields of networks.Generator that fit, params, batch_stats as float32 trees) of a published state dict.

    `channels` 3 keeps RGB, 1 makes the network whose output on a grey picture is the RGB network's mean. Raises DataError without the
    file's name where an array is missing, too many or of a wrong shape.
    """
    state = {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}
    taken: set[str] = set()
    num_blocks = sum(bool(re.fullmatch(r"block\d+\.conv1\.weight", name)) for name in state)
    trunk, tail = f"block{num_blocks + 2}", f"block{num_blocks + 3}"
    num_up = sum(bool(re.fullmatch(rf"{tail}\.\d\.conv\.weight", name)) for name in state)
    if not num_blocks or not 1 <= num_up <= len(SCALES):
        raise DataError(f"has {num_blocks} residual blocks and {num_up} sub-pixel layers: {_EXPECTED}")
    params, stats = {}, {}

    def get(name, *shape):
        return _array(state, taken, name, shape)

    first, first_bias = _kernel(state, taken, "block1.0", 3)
    maps = first.shape[-1]
    params["first_conv"] = {"kernel": _grey(first / 2, channels), "bias": first_bias + first.sum((0, 1, 2)) / 2}
    params["first_prelu"] = {"slope": get("block1.1.weight", 1)[0]}
    for block in range(num_blocks):
        for part in (0, 1):
            kernel, bias = _kernel(state, taken, f"block{block + 2}.conv{part + 1}", maps, maps)
            gain, shift, mean, variance = (get(f"block{block + 2}.bn{part + 1}.{name}", maps) for name in _NORM)
            params[f"block{block}_conv{part}"] = {"kernel": kernel}
            params[f"block{block}_norm{part}"] = {"scale": gain, "bias": shift}
            stats[f"block{block}_norm{part}"] = {"mean": mean - bias, "var": variance}
        params[f"block{block}_prelu"] = {"slope": get(f"block{block + 2}.prelu.weight", 1)[0]}
    params["trunk_conv"] = dict(zip(("kernel", "bias"), _kernel(state, taken, f"{trunk}.0", maps, maps), strict=True))
    params["trunk_prelu"] = {"slope": get(f"{trunk}.1.weight", 1)[0]}
    for step in range(num_up):
        kernel, bias = _kernel(state, taken, f"{tail}.{step}.conv", maps, 4 * maps)
        params[f"up{step}_conv"] = {"kernel": _parts_outermost(kernel), "bias": _parts_outermost(bias)}
        params[f"up{step}_prelu"] = {"slope": get(f"{tail}.{step}.prelu.weight", 1)[0]}
    params["last_conv"] = dict(zip(("kernel", "bias"), _kernel(state, taken, f"{tail}.{num_up}", maps, 3), strict=True))
    if set(state) - taken:
        raise DataError(f"also holds {min(set(state) - taken)[:60]}: {_EXPECTED}")
    fields = {"scale": SCALES[num_up - 1], "channels": channels, "num_blocks": num_blocks, "num_maps": maps, "norm": "batch"}
    fields |= {"first_kernel": first.shape[0], "last_kernel": params["last_conv"]["kernel"].shape[0], "output": "tanh"}
    fields |= {"trunk_norm": False, "trunk_prelu": True, "output_mean": channels == 1, "pad_value": -1.0}
    return fields, _float32(params), _float32(stats)


def _array(state, taken, name: str, shape: tuple) -> np.ndarray:
    found = state.get(name)
    if found is None or found.shape != shape:
        there = "absent" if found is None else str(found.shape)[:60]
        raise DataError(f"holds {name} of shape {shape}: it is {there}; {_EXPECTED}")
    if not np.isfinite(found).all():
        raise DataError(f"holds values in {name} that are not finite; download it again")
    taken.add(name)
    return found.astype(np.float64)


def _kernel(state, taken, name: str, inputs: int, outputs: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns (kernel (k, k, inputs, outputs), bias (outputs,)) float64 of a convolution of any odd k."""
    found = state.get(f"{name}.weight", np.empty(0))
    size, outputs = (found.shape[-1], outputs or found.shape[0]) if found.ndim == 4 and found.shape[-1] % 2 else (3, outputs or 64)
    kernel = _array(state, taken, f"{name}.weight", (outputs, inputs, size, size))
    return kernel.transpose(2, 3, 1, 0), _array(state, taken, f"{name}.bias", (outputs,))


def _grey(kernel, channels: int):
    return kernel.sum(2, keepdims=True) if channels == 1 else kernel


def _parts_outermost(array):
    """Returns the maps (..., 4c) in `pixel_shuffle`'s order (4, c); PyTorch has (c, 4)."""
    return array.reshape(*array.shape[:-1], -1, 4).swapaxes(-1, -2).reshape(array.shape)


def _float32(tree: dict) -> dict:
    flat = flax.traverse_util.flatten_dict(tree)
    return flax.traverse_util.unflatten_dict({path: np.float32(array) for path, array in flat.items()})
