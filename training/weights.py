"""Weights a run is begun with (`config.init_from`): of another workdir, or of a file that tools.export_weights wrote."""

import hashlib
import io
import json
import pathlib
import re
import struct
import zipfile
import zlib

import jax
import ml_collections
import numpy as np

from microscopy.atomic import write_bytes
from training import checkpoints, lineage
from training import workdir as workdirs
from training.errors import ConfigError, RunError

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAX_HEADER = 2**24
SCANS = "lineage.json"
"""Name, in a weights file, of the scans behind the weights."""


def read(source: str) -> tuple[dict[str, np.ndarray], dict]:
    """Returns ({name: array}, entry of lineage.json's `upstream`) for WORKDIR, WORKDIR@last, WORKDIR@best, WORKDIR@STEP or a .npz file.

    ConfigError or RunError name `config.init_from` where there is no such thing, or where it cannot be read.
    """
    path = pathlib.Path(source)
    if path.is_file():
        return _of_file(path)
    named = "@" in path.name and not path.is_dir()
    place, which = source.rsplit("@", 1) if named else (source, "last")
    if not pathlib.Path(place).is_dir():
        raise ConfigError(f"config.init_from={source}: neither a workdir nor a file of weights.")
    step = checkpoints.choose(place, which, f"config.init_from={place}@")
    manifest = checkpoints.verify(place, step)
    scans = lineage.behind(lineage.read(place))
    return checkpoints.restore_arrays(place, str(step)), lineage.of_weights(place, step, manifest["sha256"], scans)


def write(path: pathlib.Path, arrays: dict[str, np.ndarray], scans: list[dict]) -> int:
    """Returns the size in bytes of the compressed .npz file it writes: {name: array}, and the scans they were trained on."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, **{SCANS: np.frombuffer(json.dumps(scans).encode(), np.uint8)})
    write_bytes(path, buffer.getvalue())
    return buffer.tell()


def _of_file(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        scans = json.loads(arrays.pop(SCANS).tobytes())
        if not all(isinstance(scan[name], str) for scan in scans for name in ("sha256", "split")):
            raise ValueError("its list of scans is no such list")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(
            f"config.init_from={path}: no file of weights ({'not an .npz file' if 'pickle' in reason else reason}).\n"
            "python -m tools.export_weights --workdir=W --output=FILE.npz writes one."
        ) from error
    return arrays, lineage.of_weights(str(path), None, hashlib.sha256(path.read_bytes()).hexdigest(), scans)


def read_metadata(path) -> dict[str, str]:
    """Returns the texts in a .safetensors file's `__metadata__`, tensors unread; RunError where it is no such file or has none."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            metadata = json.loads(file.read(length))["__metadata__"] if length <= MAX_HEADER else None
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("no metadata")
        return metadata
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise RunError(f"{path}: no model of --mode=export, or a damaged one; export it again.") from error


def config_of(path) -> ml_collections.ConfigDict:
    """Returns the config in a one-file model; RunError where there is none, or its task is no module of this program."""
    try:
        config = workdirs.as_config(json.loads(read_metadata(path)["config"]))
        known = bool(re.fullmatch(r"\w+\.\w+", config.task)) and (ROOT / config.task.replace(".", "/")).with_suffix(".py").is_file()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{path}: no model of --mode=export, or a damaged one; export it again.") from error
    if not known:
        raise RunError(f"{path}: is of {str(config.task)[:60]!r}, which is no method here; use the version that exported it.")
    return config


def take(imported: dict[str, np.ndarray], prefix: str, like):
    """Returns the tree `like` filled from `imported` under `prefix`; ConfigError naming the first array that does not fit."""

    def leaf(path, old):
        name = f"{prefix}/{jax.tree_util.keystr(path, simple=True, separator='/')}"
        if name not in imported or imported[name].shape != old.shape:
            there = imported[name].shape if name in imported else "absent"
            raise ConfigError(f"config.init_from: {name} is {there} there and {old.shape} here; the networks differ.")
        return jax.numpy.asarray(imported[name], old.dtype)

    return jax.tree_util.tree_map_with_path(leaf, like)
