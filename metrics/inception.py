"""InceptionV3, batch norm folded into its convolutions, and the features it gives: the FID's (TensorFlow's graph of 2015-12-05),
and ImageNet's as Keras and torchvision published it (`metrics/inception_table.py` says how they differ).

`metrics/weights.py` reads the weights and says whose they are. Source: Szegedy et al., arXiv:1512.00567; Heusel et al.,
arXiv:1706.08500.
"""

import functools

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import resize
from metrics.inception_table import BLOCKS, POINT, SQUARE, STAGES, TAPS, VARIANTS, ends
from metrics.weights import Weights
from microscopy.scan import DataError

SIDE = 299
RESIZES = {"tf1": resize.tf1_bilinear, "clean": resize.pil_bicubic, "bilinear": resize.bilinear}
FASTER_ON_CPU = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""No fusions by YNNPACK, whose convolutions are slower here: 2 times the features of 768 and 2048 a second, 3 times those of 64."""
CHUNK_CPU, CHUNK = 8, 64
"""Images a device sees at a time, whatever the caller's number: another shape changes the last digits."""


def _conv(x, name: str, channels: int, size, stride: int = 1, padded: bool = True) -> jax.Array:
    """Returns a convolution of x by the layer `name` of the module that calls, in the dtype of x, without ReLU."""
    padding = [(side // 2, side // 2) if padded else (0, 0) for side in size]
    # Without HIGHEST a GPU multiplies float32 with 10 bits.
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return nn.Conv(channels, size, stride, padding, dtype=x.dtype, precision=precision, name=name)(x)


class Block(nn.Module):
    """One of BLOCKS by its name, with the pools of a network of VARIANTS."""

    network: str = "fid"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the branches' outputs (n, h', w', c'), side by side in the channels, of x (n, h, w, c)."""
        branches, channels = BLOCKS[self.name]
        variant, halving = VARIANTS[self.network], {} if channels else {"stride": 2, "padded": False}
        outputs = []
        for branch in branches:
            y = x
            for layer in branch[:-1]:
                y = nn.relu(_conv(y, *layer))
            outputs += [nn.relu(_conv(y, *layer, **halving)) for layer in ends(branch)]
        if not channels:
            pooled = nn.max_pool(x, SQUARE, (2, 2))
        elif self.name == "Mixed_7c" and variant.last_pool == "max":
            pooled = nn.relu(_conv(nn.max_pool(x, SQUARE, (1, 1), "SAME"), "branch_pool", channels, POINT))
        elif variant.counts_padding:
            pooled = nn.relu(_conv(nn.avg_pool(x, SQUARE, (1, 1), "SAME"), "branch_pool", channels, POINT))
        else:
            # This mean and a 1x1 convolution commute, bias and all; after the convolution there are fewer channels to average.
            fewer = _conv(x, "branch_pool", channels, POINT)
            pooled = nn.relu(nn.avg_pool(fewer, SQUARE, (1, 1), "SAME", count_include_pad=False))
        return jnp.concatenate([*outputs, pooled], -1)


class Inception(nn.Module):
    """The network as far as the deepest of `taps` (from TAPS) needs; computes in `dtype`, parameters and results are float32."""

    taps: tuple[str, ...] = TAPS
    dtype: jnp.dtype = jnp.float32
    network: str = "fid"

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """Returns {tap: float32 (n, 64 | 192 | 768 | 2048 | classes)} of images (n, h, w, 3) in [-1, 1], 75 px a side and more."""
        found, depth = {}, max(TAPS.index(tap) for tap in self.taps)
        x = images.astype(self.dtype)
        for stage, layers in enumerate(STAGES[: depth + 1]):
            for layer in layers:
                x = Block(self.network, name=layer)(x) if isinstance(layer, str) else nn.relu(_conv(x, *layer))
            x = nn.max_pool(x, SQUARE, (2, 2)) if stage < 2 else x
            found[TAPS[stage]] = x.astype(jnp.float32).mean((1, 2))
        if "logits" in self.taps:
            variant = VARIANTS[self.network]
            dense = nn.Dense(variant.num_logits, variant.fc_bias, precision=jax.lax.Precision.HIGHEST, name="fc")
            found["logits"] = dense(found["2048"])
        return {tap: found[tap] for tap in self.taps}


@functools.lru_cache(maxsize=32)
def layers(taps: tuple[str, ...], network: str = "fid") -> dict[str, tuple[int, ...]]:
    """Returns {`LAYER/kernel`, `LAYER/bias`: shape} of what `taps` need, named as in the files of weights."""
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    shapes = jax.eval_shape(Inception(taps, network=network).init, jax.random.key(0), images)["params"]
    flat = flax.traverse_util.flatten_dict(shapes)
    return {f"{'.'.join(path[:-1])}/{path[-1]}": leaf.shape for path, leaf in flat.items()}


def reached(weights: Weights) -> tuple[str, ...]:
    """Returns those of TAPS that `weights` suffice for, all of them for a whole file."""
    return tuple(tap for tap in TAPS if not _unfit(weights, (tap,)))


def _unfit(weights: Weights, taps: tuple[str, ...]) -> list[str]:
    return [name for name, shape in layers(taps, weights.network).items() if getattr(weights.arrays.get(name), "shape", None) != shape]


def parameters(weights: Weights, taps: tuple[str, ...]) -> dict:
    """Returns the variables {"params": ...} of `Inception(taps, network=weights.network)`, float32 on the host.

    Raises DataError for an unknown tap, and for weights that do not reach that far; the message names the first layer that is
    missing or has another shape, and the taps that can be had.
    """
    unknown = [str(tap) for tap in taps if tap not in TAPS]
    if unknown or not taps:
        raise DataError(f"features {', '.join(unknown) or '(none)'}: not one of {', '.join(TAPS)}.")
    if unfit := _unfit(weights, taps):
        able = reached(weights)
        wanted = [tap for tap in taps if tap not in able]
        what = "has another shape in" if unfit[0] in weights.arrays else "lacks"
        raise DataError(
            f"weights {weights.file}: the file {what} {unfit[0]} and so cannot give the features {', '.join(wanted)}, "
            f"only {', '.join(able) or 'none'}.\nTake the whole file (auto), or choose among those."
        )
    flat = {(*name.partition("/")[0].split("."), name.partition("/")[2]): weights.arrays[name] for name in layers(taps, weights.network)}
    return {"params": flax.traverse_util.unflatten_dict(flat)}


@functools.partial(jax.jit, static_argnames=("how", "network"))
def prepare(images: jax.Array, how: str = "tf1", network: str = "fid") -> jax.Array:
    """Returns float32 (n, 299, 299, 3) in about [-1, 1] of images (n, h, w, 1 or 3) in 0..255: resized, then (x - c) / c.

    c: 128 for the FID's network (its graph's preprocessing), 127.5 for ImageNet's. `how`: "tf1", the FID's own resize; "clean",
    antialiased and clipped to 0..255 (Parmar, Zhang, Zhu, CVPR 2022); "bilinear", pixel centres kept and antialiased where it
    reduces, as Pillow and torchvision's transforms do. Grey images become three equal channels.
    """
    resized, centre = RESIZES[how](images, SIDE, SIDE), VARIANTS[network].centre
    resized = jnp.clip(resized, 0, 255) if how == "clean" else resized
    return jnp.broadcast_to((resized - centre) / centre, (*resized.shape[:3], 3))


@functools.cache
def _network(taps: tuple[str, ...], dtype, network: str, platform: str):
    # Apart from `prepare`, so that images of another size do not compile it again.
    return jax.jit(Inception(taps, dtype, network).apply, compiler_options=FASTER_ON_CPU if platform == "cpu" else None)


def make_features(weights: Weights, taps: tuple[str, ...] = ("2048",), dtype=jnp.float32, how: str | None = None):
    """Returns a function of uint8 images that returns {tap: float32 (n, d)} on the host.

    It takes (n, h, w), (n, h, w, 1) or (n, h, w, 3), or a list of images (h, w), (h, w, 1) or (h, w, 3) of any sizes. They are spread
    over the visible devices in parts of a fixed size, the last one padded: an image's features do not depend on how many are given
    or where it stands, but for the last digit between lists of unequal sizes and images of one. `dtype`: float32, or bfloat16, whose
    features are off by 0.4, 0.6 and 1.4 % (rms, taps 64, 192 and 768, photographs of cells, CPU). `how`: see `prepare`; None is the
    network's own, tf1 for the FID's and bilinear for ImageNet's.
    DataError for weights that do not reach the taps, and, later, for images of another kind.
    """
    taps, devices, kind = tuple(taps), jax.local_devices(), weights.network
    variables, how = parameters(weights, taps), how or VARIANTS[kind].resize
    if how not in RESIZES:
        raise DataError(f"resize {how}: not one of {', '.join(RESIZES)}.")
    mesh = jax.sharding.Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    split, network = NamedSharding(mesh, PartitionSpec("data")), _network(taps, jnp.dtype(dtype), kind, devices[0].platform)
    variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    chunk = len(devices) * (CHUNK_CPU if devices[0].platform == "cpu" else CHUNK)

    def run(images: np.ndarray | list[np.ndarray]) -> dict[str, np.ndarray]:
        images, found = _checked(images), []
        for start in range(0, len(images), chunk):
            part = _padded(images[start : start + chunk], chunk, functools.partial(prepare, how=how, network=kind), split)
            found.append(network(variables, part))
            # One part may wait while one is computed; more would only fill the memory.
            jax.block_until_ready(found[-2:-1])
        return {tap: np.concatenate([np.asarray(part[tap]) for part in found])[: len(images)] for tap in taps}

    return run


def features(weights: Weights, images, taps: tuple[str, ...] = ("2048",), dtype=jnp.float32, how: str | None = None) -> dict:
    """Returns {tap: float32 (n, d)} of uint8 images; see `make_features`, which spares the second call the transfer of the weights."""
    return make_features(weights, taps, dtype, how)(images)


def _padded(images, chunk: int, prepared, split) -> jax.Array:
    """Returns the prepared images and blank ones up to `chunk`, spread over the devices."""
    if isinstance(images, np.ndarray):
        black = np.zeros((chunk - len(images), *images.shape[1:]), np.uint8)
        return prepared(jax.device_put(np.concatenate([images, black]), split))
    each = [prepared(image[None]) for image in images]
    return jax.device_put(jnp.concatenate(each + [jnp.zeros_like(each[0])] * (chunk - len(each))), split)


def _checked(images):
    """Returns uint8 (n, h, w, 1 or 3), or for a list of unequal sizes a list of (h, w, 1 or 3)."""
    if isinstance(images, list | tuple) and images:
        each = [_checked(np.asarray(image)[None])[0] for image in images]
        return np.stack(each) if len({image.shape for image in each}) == 1 else each
    images = np.asarray(images)
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise DataError(f"images of {images.dtype} {images.shape}: Inception takes uint8, (n, h, w) or (n, h, w, 3), at least one.")
    return images
