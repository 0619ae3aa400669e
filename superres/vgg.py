"""VGG19's features (Simonyan and Zisserman 2015, arXiv:1409.1556), for the content loss and as a distance; the weights never train.

`superres/weights.py` reads them. Pure functions: the arrays are an argument, so that a task keeps them in `frozen`.
"""

import jax
import jax.numpy as jnp

_WIDTHS = (64, 128, 256, 512, 512)
_DEPTHS = (2, 2, 4, 4, 4)
CONVOLUTIONS = {
    f"conv{stage}_{index}": width
    for stage, (width, depth) in enumerate(zip(_WIDTHS, _DEPTHS, strict=True), 1)
    for index in range(1, depth + 1)
}
"""The sixteen convolutions in their order, with their numbers of maps."""
LAYERS = tuple(name.replace("conv", "relu") for name in CONVOLUTIONS)
"""relu1_1 ... relu5_4; relu2_2 and relu5_4 are VGG2,2 and VGG5,4 of Ledig et al. 2017."""
PADDINGS = ("zero", "reflect")


def needed(layers) -> dict[str, tuple[int, ...]]:
    """Returns {array name: shape} that `features` reads for these layers; ValueError where one is none of LAYERS."""
    if not layers or not set(layers) <= set(LAYERS):
        raise ValueError(f"layers {', '.join(layers)}: choose from {LAYERS[0]} ... {LAYERS[-1]}")
    shapes, maps = {"preprocess/kernel": (1, 1, 3, 3), "preprocess/bias": (3,)}, 3
    for name in list(CONVOLUTIONS)[: max(LAYERS.index(layer) for layer in layers) + 1]:
        shapes |= {f"{name}/kernel": (3, 3, maps, CONVOLUTIONS[name]), f"{name}/bias": (CONVOLUTIONS[name],)}
        maps = CONVOLUTIONS[name]
    return shapes


def features(arrays: dict[str, jax.Array], images: jax.Array, layers, padding: str = "zero", dtype=jnp.float32) -> dict[str, jax.Array]:
    """Returns {layer: float32 (n, h', w', maps)} of images (n, h, w, 1 or 3) in [-1, 1], grey repeated three times.

    h' is h halved, rounded down, at each of the four pools before it. `arrays` as of `needed(layers)`. `padding` of every convolution:
    "zero" is that of ImageNet's VGG19, "reflect" that of the style-transfer networks. Computes in `dtype`; ValueError for a name that
    is not there.
    """
    if padding not in PADDINGS:
        raise ValueError(f"padding {padding!r}: choose {', '.join(PADDINGS)}")
    deepest = max(LAYERS.index(layer) for layer in layers)
    # In float32: of a range of 255 bfloat16 keeps steps of one.
    unit = jnp.broadcast_to((images.astype(jnp.float32) + 1) / 2, (*images.shape[:3], 3))
    x = jnp.tensordot(unit, arrays["preprocess/kernel"][0, 0], 1, precision="highest") + arrays["preprocess/bias"].reshape(1, 1, 1, 3)
    x, found = x.astype(dtype), {}
    for index, (name, layer) in enumerate(zip(CONVOLUTIONS, LAYERS, strict=True)):
        if index > deepest:
            break
        if name.endswith("_1") and index:
            x = _halved(x)
        x = jax.nn.relu(_convolution(x, arrays[f"{name}/kernel"], arrays[f"{name}/bias"], padding))
        if layer in layers:
            found[layer] = x.astype(jnp.float32)
    return found


def _convolution(x, kernel, bias, padding: str):
    pads = ((0, 0), (0, 0)) if padding == "reflect" else ((1, 1), (1, 1))
    if padding == "reflect":
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    precision = "highest" if x.dtype == jnp.float32 else None
    y = jax.lax.conv_general_dilated(
        x, kernel.astype(x.dtype), (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=precision
    )
    return y + bias.astype(x.dtype).reshape(1, 1, 1, -1)


def _halved(x):
    """Returns the maximum of each 2x2 square; a last odd row or column is left out."""
    height, width = (size // 2 * 2 for size in x.shape[1:3])
    # Not nn.max_pool: its gradient takes XLA:CPU 30 times as long.
    top, bottom = x[:, 0:height:2, :width], x[:, 1:height:2, :width]
    rows = jnp.maximum(top, bottom)
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])
