"""Tensors of a .safetensors file: a length, a JSON header of that length, numbers."""

import json
import math
import struct

import jax.numpy as jnp
import numpy as np

from microscopy.scan import DataError

MAX_HEADER = 2**24
DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(jnp.bfloat16), "I64": np.dtype("<i8")}
"""What is read; I64 because PyTorch's batch norms count their batches in it."""


def read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """Returns {name: array} of a .safetensors file, dtypes as stored (F32, F16, BF16, I64).

    Raises DataError without the file's name where the header is longer than the file or 16 MiB, is no such JSON, or where an
    entry has another dtype or does not fit its bytes. Source: github.com/huggingface/safetensors, README, "Format".
    """
    (length,) = struct.unpack_from("<Q", content) if len(content) >= 8 else (MAX_HEADER + 1,)
    if length > min(MAX_HEADER, len(content) - 8):
        raise DataError("is no .safetensors file, or a truncated one; download it again")
    try:
        header = json.loads(content[8 : 8 + length])
        entries = {
            name: (entry["dtype"], entry["shape"], entry["data_offsets"]) for name, entry in header.items() if name != "__metadata__"
        }
        return {name: _array(content, 8 + length, name, *entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError("has a damaged .safetensors header; download it again") from error


def _array(content: bytes, base: int, name: str, dtype: str, shape: list, offsets: list) -> np.ndarray:
    if dtype not in DTYPES:
        raise DataError(f"holds {name[:60]} as {str(dtype)[:20]}; only {', '.join(DTYPES)} are read: convert it")
    start, end = offsets
    whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
    if not whole or end > len(content) - base or math.prod(shape) * DTYPES[dtype].itemsize != end - start:
        raise DataError(f"holds {name[:60]} of shape {str(shape)[:40]}, which does not fit its bytes; download it again")
    return np.frombuffer(content[base + start : base + end], DTYPES[dtype]).reshape(shape).copy()
