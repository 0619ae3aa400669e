"""Features of image sets on disk, found again by what they were computed from: pixels, weights, layer, resize, map of values."""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import zipfile
import zlib

import numpy as np

from metrics import weights
from microscopy.atomic import write_bytes
from microscopy.scan import Scan

VERSION = 1
"""Of the extraction: raise it when the same images give other features."""
MAX_BYTES = 2 * 2**30


def default_folder() -> pathlib.Path:
    """Returns where features are kept unless said otherwise: $XDG_CACHE_HOME/scanforge/features, or ~/.cache/scanforge/features."""
    return weights.cached_file().parent / "features"


def key(scans: list[Scan], facts: dict) -> str:
    """Returns the SHA-256 (hex) over VERSION, `facts` (plain JSON values) and each image's type, shape and pixels, in order.

    Pixels, not files: a reader that changed, another channel or a line cut off give other pixels from the same file.
    """
    digest = hashlib.sha256(json.dumps([VERSION, len(scans), facts], sort_keys=True).encode())
    for scan in scans:
        digest.update(f"{scan.pixels.dtype.str}{scan.pixels.shape}".encode())
        digest.update(np.ascontiguousarray(scan.pixels))
    return digest.hexdigest()


def load(place: pathlib.Path | None, name: str, num_rows: int) -> np.ndarray | None:
    """Returns the features (n, d), float32, kept under the key `name`, and notes their use; None where there are none that fit."""
    if place is None:
        return None
    path = place / f"{name}.npz"
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            found, stamp = stored["features"], str(stored["key"])
    except (OSError, ValueError, KeyError, EOFError, SyntaxError, AttributeError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None
    sound = stamp == name and found.dtype == np.float32 and found.ndim == 2 and len(found) == num_rows and np.isfinite(found).all()
    with contextlib.suppress(OSError):
        os.utime(path)
    return found if sound else None


def store(place: pathlib.Path | None, name: str, features: np.ndarray, max_bytes: int = MAX_BYTES) -> bool:
    """Returns whether the features were kept, whole or not at all; then those used longest ago go until `max_bytes` are left.

    A full or write-protected disk is no error: features can be computed again.
    """
    if place is None:
        return False
    buffer = io.BytesIO()
    np.savez(buffer, features=np.float32(features), key=np.array(name))
    try:
        place.mkdir(parents=True, exist_ok=True)
        write_bytes(place / f"{name}.npz", buffer.getvalue())
        _prune(place, max_bytes)
    except OSError:
        return False
    return True


def _prune(place: pathlib.Path, max_bytes: int) -> None:
    files = sorted(((path.stat().st_mtime_ns, path.stat().st_size, path) for path in place.glob("*.npz")), reverse=True)
    total = 0
    for _, size, path in files:
        total += size
        if total > max_bytes:
            path.unlink(missing_ok=True)
