"""The InceptionV3 of the FID (TensorFlow's graph of 2015-12-05), batch norm folded into its convolutions, and the features it gives.

It differs from the ImageNet network in its pools: average pools do not count the padding, and the pool branch of Mixed_7c is a
maximum. `metrics/weights.py` reads its weights. Source: Szegedy et al., arXiv:1512.00567; Heusel et al., arXiv:1706.08500.
"""

import functools

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import resize
from metrics.weights import Weights
from microscopy.scan import DataError

SIDE = 299
TAPS = ("64", "192", "768", "2048", "logits")
"""Means over space after the first and second max pool, Mixed_6e and Mixed_7c; `logits`: the last times the kernel of `fc`."""
RESIZES = {"tf1": resize.tf1_bilinear, "clean": resize.pil_bicubic}
NUM_LOGITS = 1008
CHUNK_CPU, CHUNK = 8, 64
"""Images a device sees at a time, whatever the caller's number: another shape changes the last digits."""

_POINT, _SQUARE, _FIVE, _ROW, _COLUMN, _LOW, _TALL = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1), (1, 3), (3, 1)


def _double(first: int, last: int) -> tuple:
    return (("branch3x3dbl_1", first, _POINT), ("branch3x3dbl_2", last, _SQUARE), ("branch3x3dbl_3", last, _SQUARE))


def _block_5(pool: int) -> tuple:
    five = (("branch5x5_1", 48, _POINT), ("branch5x5_2", 64, _FIVE))
    return ((("branch1x1", 64, _POINT),), five, _double(64, 96)), nn.avg_pool, pool


def _block_6(middle: int) -> tuple:
    seven = (("branch7x7_1", middle, _POINT), ("branch7x7_2", middle, _ROW), ("branch7x7_3", 192, _COLUMN))
    sizes = ((middle, _POINT), (middle, _COLUMN), (middle, _ROW), (middle, _COLUMN), (192, _ROW))
    double = tuple((f"branch7x7dbl_{place}", *size) for place, size in enumerate(sizes, 1))
    return ((("branch1x1", 192, _POINT),), seven, double), nn.avg_pool, 192


def _block_7(pool) -> tuple:
    three = (("branch3x3_1", 384, _POINT), (("branch3x3_2a", 384, _LOW), ("branch3x3_2b", 384, _TALL)))
    double = (*_double(448, 384)[:2], (("branch3x3dbl_3a", 384, _LOW), ("branch3x3dbl_3b", 384, _TALL)))
    return ((("branch1x1", 320, _POINT),), three, double), pool, 192


_SEVEN = (("branch7x7x3_1", 192, _POINT), ("branch7x7x3_2", 192, _ROW), ("branch7x7x3_3", 192, _COLUMN), ("branch7x7x3_4", 192, _SQUARE))

# (branches, pool, channels of the pool branch); no channels: a block that halves the size. A branch is a chain of (name,
# channels, kernel); one that ends in two convolutions of the same input has both in its last place.
BLOCKS = {
    "Mixed_5b": _block_5(32),
    "Mixed_5c": _block_5(64),
    "Mixed_5d": _block_5(64),
    "Mixed_6a": (((("branch3x3", 384, _SQUARE),), _double(64, 96)), nn.max_pool, 0),
    "Mixed_6b": _block_6(128),
    "Mixed_6c": _block_6(160),
    "Mixed_6d": _block_6(160),
    "Mixed_6e": _block_6(192),
    "Mixed_7a": (((("branch3x3_1", 192, _POINT), ("branch3x3_2", 320, _SQUARE)), _SEVEN), nn.max_pool, 0),
    "Mixed_7b": _block_7(nn.avg_pool),
    "Mixed_7c": _block_7(nn.max_pool),
}


def _conv(x, name: str, channels: int, size, stride: int = 1, padded: bool = True) -> jax.Array:
    """Returns a convolution of x by the layer `name` of the module that calls, in the dtype of x, without ReLU."""
    padding = [(side // 2, side // 2) if padded else (0, 0) for side in size]
    # Without HIGHEST a GPU multiplies float32 with 10 bits.
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return nn.Conv(channels, size, stride, padding, dtype=x.dtype, precision=precision, name=name)(x)


class Block(nn.Module):
    """One of BLOCKS by its name."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the branches' outputs (n, h', w', c'), side by side in the channels, of x (n, h, w, c)."""
        branches, pool, channels = BLOCKS[self.name]
        halving = {} if channels else {"stride": 2, "padded": False}
        outputs = []
        for *chain, last in branches:
            y = x
            for layer in chain:
                y = nn.relu(_conv(y, *layer))
            ends = last if isinstance(last[0], tuple) else (last,)
            outputs += [nn.relu(_conv(y, *layer, **halving)) for layer in ends]
        if not channels:
            pooled = nn.max_pool(x, _SQUARE, (2, 2))
        elif pool is nn.max_pool:
            pooled = nn.relu(_conv(nn.max_pool(x, _SQUARE, (1, 1), "SAME"), "branch_pool", channels, _POINT))
        else:
            # Mean and 1x1 convolution commute; after the convolution there are fewer channels to average.
            fewer = _conv(x, "branch_pool", channels, _POINT)
            pooled = nn.relu(nn.avg_pool(fewer, _SQUARE, (1, 1), "SAME", count_include_pad=False))
        return jnp.concatenate([*outputs, pooled], -1)


class Inception(nn.Module):
    """The network as far as the deepest of `taps` (from TAPS) needs; computes in `dtype`, parameters and results are float32."""

    taps: tuple[str, ...] = TAPS
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """Returns {tap: float32 (n, 64 | 192 | 768 | 2048 | 1008)} of images (n, h, w, 3) in [-1, 1], 75 px a side and more."""
        found, depth = {}, max(TAPS.index(tap) for tap in self.taps)
        x = images.astype(self.dtype)
        for stage, layers in enumerate(_STAGES[: depth + 1]):
            for layer in layers:
                x = Block(name=layer)(x) if isinstance(layer, str) else nn.relu(_conv(x, *layer))
            x = nn.max_pool(x, _SQUARE, (2, 2)) if stage < 2 else x
            found[TAPS[stage]] = x.astype(jnp.float32).mean((1, 2))
        if "logits" in self.taps:
            dense = nn.Dense(NUM_LOGITS, use_bias=False, precision=jax.lax.Precision.HIGHEST, name="fc")
            found["logits"] = dense(found["2048"])
        return {tap: found[tap] for tap in self.taps}


# What lies before each tap; layers of the stem are (name, channels, kernel, stride, padded).
_STAGES = (
    (
        ("Conv2d_1a_3x3", 32, _SQUARE, 2, False),
        ("Conv2d_2a_3x3", 32, _SQUARE, 1, False),
        ("Conv2d_2b_3x3", 64, _SQUARE),
    ),
    (("Conv2d_3b_1x1", 80, _POINT), ("Conv2d_4a_3x3", 192, _SQUARE, 1, False)),
    tuple(BLOCKS)[:8],
    tuple(BLOCKS)[8:],
)


@functools.lru_cache(maxsize=32)
def layers(taps: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Returns {`LAYER/kernel`, `LAYER/bias`: shape} of what `taps` need, named as in the files of weights."""
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    shapes = jax.eval_shape(Inception(taps).init, jax.random.key(0), images)["params"]
    flat = flax.traverse_util.flatten_dict(shapes)
    return {f"{'.'.join(path[:-1])}/{path[-1]}": leaf.shape for path, leaf in flat.items()}


def reached(weights: Weights) -> tuple[str, ...]:
    """Returns those of TAPS that `weights` suffice for, all of them for a whole file."""
    return tuple(tap for tap in TAPS if not _unfit(weights, (tap,)))


def _unfit(weights: Weights, taps: tuple[str, ...]) -> list[str]:
    return [name for name, shape in layers(taps).items() if getattr(weights.arrays.get(name), "shape", None) != shape]


def parameters(weights: Weights, taps: tuple[str, ...]) -> dict:
    """Returns the variables {"params": ...} of `Inception(taps)`, float32 on the host.

    Raises DataError for an unknown tap, for the ImageNet network's weights, and for weights that do not reach that far; the
    message names the first layer that is missing or has another shape, and the taps that can be had.
    """
    unknown = [str(tap) for tap in taps if tap not in TAPS]
    if unknown or not taps:
        raise DataError(f"features {', '.join(unknown) or '(none)'}: not one of {', '.join(TAPS)}.")
    if any(name.startswith("AuxLogits") for name in weights.arrays):
        raise DataError(f"weights {weights.file}: the ImageNet network, not the FID's of 2015-12-05; say auto for that.")
    if unfit := _unfit(weights, taps):
        able = reached(weights)
        wanted = [tap for tap in taps if tap not in able]
        what = "has another shape in" if unfit[0] in weights.arrays else "lacks"
        raise DataError(
            f"weights {weights.file}: the file {what} {unfit[0]} and so cannot give the features {', '.join(wanted)}, "
            f"only {', '.join(able) or 'none'}.\nTake the whole file (auto), or choose among those."
        )
    flat = {(*name.partition("/")[0].split("."), name.partition("/")[2]): weights.arrays[name] for name in layers(taps)}
    return {"params": flax.traverse_util.unflatten_dict(flat)}


@functools.partial(jax.jit, static_argnames="how")
def prepare(images: jax.Array, how: str = "tf1") -> jax.Array:
    """Returns float32 (n, 299, 299, 3) in about [-1, 1] of images (n, h, w, 1 or 3) in 0..255: resized, then (x - 128) / 128.

    `how`: "tf1", the FID's own resize, or "clean", antialiased and clipped to 0..255 (Parmar, Zhang, Zhu, CVPR 2022). Grey
    images become three equal channels. Source: the preprocessing in the graph of 2015-12-05.
    """
    resized = RESIZES[how](images, SIDE, SIDE)
    resized = jnp.clip(resized, 0, 255) if how == "clean" else resized
    return jnp.broadcast_to((resized - 128) / 128, (*resized.shape[:3], 3))


@functools.cache
def _network(taps: tuple[str, ...], dtype):
    # Apart from `prepare`, so that images of another size do not compile it again.
    return jax.jit(Inception(taps, dtype).apply)


def make_features(weights: Weights, taps: tuple[str, ...] = ("2048",), dtype=jnp.float32, how: str = "tf1"):
    """Returns a function of uint8 images (n, h, w), (n, h, w, 1) or (n, h, w, 3) that returns {tap: float32 (n, d)} on the host.

    The images are spread over the visible devices in parts of a fixed size, the last one padded: an image's features do not depend
    on how many are given or where it stands. `dtype`: float32, or bfloat16, whose features are off by 0.4, 0.5 and 1.3 % (rms, taps
    64, 192 and 768, photographs of cells, CPU). `how`: see `prepare`. DataError for weights that do not reach the taps, and, later,
    for images of another kind.
    """
    taps, devices = tuple(taps), jax.local_devices()
    variables = parameters(weights, taps)
    if how not in RESIZES:
        raise DataError(f"resize {how}: not one of {', '.join(RESIZES)}.")
    mesh = jax.sharding.Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    split, network = NamedSharding(mesh, PartitionSpec("data")), _network(taps, jnp.dtype(dtype))
    variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    chunk = len(devices) * (CHUNK_CPU if devices[0].platform == "cpu" else CHUNK)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        images, found = _checked(images), []
        for start in range(0, len(images), chunk):
            part = images[start : start + chunk]
            padded = np.concatenate([part, np.zeros((chunk - len(part), *part.shape[1:]), np.uint8)])
            found.append(network(variables, prepare(jax.device_put(padded, split), how=how)))
            # One part may wait while one is computed; more would only fill the memory.
            jax.block_until_ready(found[-2:-1])
        return {tap: np.concatenate([np.asarray(part[tap]) for part in found])[: len(images)] for tap in taps}

    return run


def features(weights: Weights, images: np.ndarray, taps: tuple[str, ...] = ("2048",), dtype=jnp.float32, how: str = "tf1") -> dict:
    """Returns {tap: float32 (n, d)} of uint8 images; see `make_features`, which spares the second call the transfer of the weights."""
    return make_features(weights, taps, dtype, how)(images)


def _checked(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise DataError(f"images of {images.dtype} {images.shape}: Inception takes uint8, (n, h, w) or (n, h, w, 3), at least one.")
    return images
