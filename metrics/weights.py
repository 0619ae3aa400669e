"""Weights of Inception: read from .npz, PyTorch, .safetensors or Keras files, batch norm folded in; found or downloaded for `auto`."""

import dataclasses
import hashlib
import http.client
import io
import os
import pathlib
import urllib.request
import zipfile
import zlib
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import tqdm

from metrics.hdf5_file import MAGIC, read_hdf5
from metrics.inception_table import VARIANTS
from metrics.keras_file import is_keras, to_state
from metrics.safetensors_file import read_safetensors
from metrics.torch_file import MAX_BYTES, OLD_MAGIC, read_torch
from microscopy.atomic import write_bytes
from microscopy.scan import DataError

FILE = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"
SHA256_PREFIX = "6726825d"
"""First digits of the file's SHA-256; the publisher's file name carries them, and more are not published."""
BATCH_NORM_EPSILON = 1e-3
IMAGENET_CLASSES = VARIANTS["imagenet-keras"].num_logits
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclasses.dataclass(frozen=True)
class Weights:
    """Float32 arrays by name, `LAYER/kernel` (kh, kw, in, out) and `LAYER/bias` (out,), the file they come from, its SHA-256, whose.

    `network` is one of metrics.inception_table.VARIANTS.
    """

    file: str
    sha256: str
    arrays: dict[str, np.ndarray]
    network: str = "fid"


def cached_file(name: str = FILE) -> pathlib.Path:
    """Returns where `auto` keeps a file of weights: in $XDG_CACHE_HOME/scanforge, or ~/.cache/scanforge; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    folder = pathlib.Path(root) if os.path.isabs(root) else pathlib.Path.home() / ".cache"
    return folder / "scanforge" / name


def load(source: str, network: str | None = None) -> Weights:
    """Returns the Weights of a file, or for `auto` of the FID network as its PyTorch port published it; `network` as for `read`.

    `auto` takes the file in the cache folder, else downloads it there (95 MB, https, first digits of SHA-256 compared). Raises
    DataError naming the file and the remedy; offline, what to put where. Source: github.com/mseitzer/pytorch-fid.
    """
    if source != "auto":
        return read(pathlib.Path(source), network)
    file = fetched(URL, SHA256_PREFIX, "the FID network")
    weights = read(file)
    check_published(file, weights.sha256, SHA256_PREFIX)
    return weights


def fetched(url: str, sha256_prefix: str, network: str) -> pathlib.Path:
    """Returns the file in the cache folder that `url` is the publisher's address of, after downloading it where it is absent.

    What comes is kept only if its SHA-256 begins with `sha256_prefix`. Raises DataError saying what to put where, with `network`'s name.
    """
    file = cached_file(url.rpartition("/")[2])
    if not file.is_file():
        _download(url, file, sha256_prefix, network)
    return file


def check_published(file: pathlib.Path, sha256: str, prefix: str) -> None:
    """Raises DataError where the SHA-256 of a cached file does not begin as its publisher says."""
    if not sha256.startswith(prefix):
        raise DataError(f"{file} is not the published file: its SHA-256 begins {sha256[:8]}, not {prefix}; delete it.")


def read(path: pathlib.Path, network: str | None = None) -> Weights:
    """Returns the Weights of a .npz, PyTorch (.pth, .pt), .safetensors or Keras .h5 file, told apart by content; batch norm is folded in.

    A file may hold only the first layers. Whose network it is (VARIANTS) shows in the names, Keras' or PyTorch's, and in the classes
    of `fc`, 1008 for the FID's and 1000 for ImageNet's; `network` says so where a file shows neither, or wrongly. Raises DataError
    naming the file where it cannot be read, holds no convolutions, holds values that are not finite, or asks for code to be run.
    """
    if network is not None and network not in VARIANTS:
        raise DataError(f"network {network}: not one of {', '.join(VARIANTS)}.")
    seen = []

    def convert(tensors):
        seen.append(_whose(tensors))
        return _layers(tensors)

    weights = read_with(path, convert)
    return dataclasses.replace(weights, network=network or seen[0])


def read_with(path: pathlib.Path, convert: Callable[[dict], dict[str, np.ndarray]], remedy: str = "name a file, or say auto") -> Weights:
    """Returns the Weights that convert({name: array as stored}) makes of a .npz, PyTorch, .safetensors or .h5 file, told apart by content.

    Raises DataError naming the file where it cannot be read or `convert` raises one (without the file's name).
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"is larger than {MAX_BYTES} bytes: these are no network's weights")
        content = path.read_bytes()
        arrays = convert(_tensors(content))
    except OSError as error:
        raise DataError(f"weights {path}: {error.strerror or error}; {remedy}.") from error
    except DataError as error:
        raise DataError(f"weights {path}: the file {error}.") from error
    return Weights(str(path), hashlib.sha256(content).hexdigest(), arrays)


def fold(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns {`LAYER/kernel`, `LAYER/bias`: float32} of a PyTorch state dict of `LAYER.conv` and `LAYER.bn`, and of `fc`.

    The batch norm's scale goes into the kernel, in float64: kernel g / sqrt(var + 0.001), bias b - mean g / sqrt(var + 0.001).
    The bias of `fc` is ImageNet's only: the FID's logits have none. The head for training (AuxLogits) is left out.
    Raises DataError without the file's name where one of a layer's five arrays is missing or does not fit.
    """
    arrays = {}
    for layer in (name.removesuffix(".conv.weight") for name in state if name.endswith(".conv.weight")):
        if layer.startswith("AuxLogits"):
            continue
        kernel = state[f"{layer}.conv.weight"].astype(np.float64)
        norm = [state[f"{layer}.bn.{part}"].astype(np.float64) for part in _BATCH_NORM if f"{layer}.bn.{part}" in state]
        if kernel.ndim != 4 or len(norm) != 4 or any(part.shape != kernel.shape[:1] for part in norm):
            raise DataError(f"holds no complete batch norm for {layer[:60]}; save the whole state_dict()")
        gain, shift, mean, variance = norm
        gain = gain / np.sqrt(np.maximum(variance, 0) + BATCH_NORM_EPSILON)
        arrays[f"{layer}/kernel"] = np.float32(kernel.transpose(2, 3, 1, 0) * gain)
        arrays[f"{layer}/bias"] = np.float32(shift - mean * gain)
    if "fc.weight" in state:
        arrays["fc/kernel"] = np.float32(state["fc.weight"].T)
        if "fc.bias" in state and state["fc.bias"].size == IMAGENET_CLASSES:
            arrays["fc/bias"] = np.float32(state["fc.bias"])
    return arrays


def _whose(tensors: dict[str, np.ndarray]) -> str:
    if is_keras(tensors):
        return "imagenet-keras"
    classes = [array.size for name, array in tensors.items() if name in ("fc.bias", "fc/bias")]
    classes += [size for name, array in tensors.items() if name in ("fc.weight", "fc/kernel") for size in array.shape]
    found = IMAGENET_CLASSES in classes or any(name.startswith("AuxLogits") for name in tensors)
    return "imagenet-torchvision" if found else "fid"


def _tensors(content: bytes) -> dict[str, np.ndarray]:
    if content.startswith(OLD_MAGIC):
        return read_torch(content)
    if content.startswith(b"PK\x03\x04"):
        return _read_npz(content) if _holds_arrays(content) else read_torch(content)
    if content[8:9] == b"{":
        return read_safetensors(content)
    if content.startswith(MAGIC):
        return read_hdf5(content)
    raise DataError("is neither .npz, nor a PyTorch file of tensors, nor .safetensors, nor Keras' .h5")


def _holds_arrays(content: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError("is a truncated zip archive; download it again") from error
    if sum(sizes.values()) > MAX_BYTES:
        raise DataError(f"unpacks to more than {MAX_BYTES} bytes: these are no network's weights")
    return all(name.endswith(".npy") for name in sizes)


def _read_npz(content: bytes) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, SyntaxError) as error:
        raise DataError("is a damaged .npz file; copy it again") from error


def _layers(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    tensors = {name: array for name, array in tensors.items() if array.dtype.kind in "fiu" or array.dtype == jnp.bfloat16}
    folded = any(name.endswith("/kernel") for name in tensors)
    if is_keras(tensors):
        arrays = fold(to_state(tensors))
    else:
        arrays = {name: np.float32(array) for name, array in tensors.items() if "/" in name} if folded else fold(tensors)
    if not arrays:
        raise DataError("holds no convolutions (LAYER/kernel, or LAYER.conv.weight with LAYER.bn): it is another network's")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise DataError(f"holds values in {name[:60]} that are not finite; download it again")
    return arrays


def _download(url: str, file: pathlib.Path, sha256_prefix: str, network: str) -> None:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            content = _received(answer, file.name)
        found = hashlib.sha256(content).hexdigest()
        if not found.startswith(sha256_prefix):
            raise OSError(f"what came has SHA-256 {found[:8]}..., not {sha256_prefix}...")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, content)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"weights auto: cannot download {network} ({error}).\nFetch {url}\nand put it at {file}, or name a file of weights."
        ) from error


def _received(answer, name: str) -> bytes:
    content = bytearray()
    with tqdm.tqdm(desc=name, unit="B", unit_scale=True) as bar:
        while part := answer.read(2**20):
            content += part
            bar.update(len(part))
            if len(content) > MAX_BYTES:
                raise OSError("the answer does not end")
    return bytes(content)
