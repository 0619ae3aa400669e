"""Tensors out of .safetensors files written by hand from the format's description."""

import json
import struct

import numpy as np
import pytest

from metrics.safetensors_file import MAX_HEADER, read_safetensors
from microscopy.scan import DataError

SIX = np.arange(6, dtype=np.float32)
BODY = SIX.tobytes()


def written(header, body=BODY):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype="F32", shape=(2, 3), offsets=(0, 24)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_arrays_come_back():
    bits = (SIX.view(np.uint32) >> 16).astype("<u2")
    body = SIX.tobytes() + SIX.astype("<f2").tobytes() + bits.tobytes() + np.int64(7).tobytes()
    header = {"__metadata__": {"format": "pt"}, "a": entry(), "h": entry("F16", (6,), (24, 36)), "b": entry("BF16", (6,), (36, 48))}
    found = read_safetensors(written(header | {"n": entry("I64", (), (48, 56))}, body))
    assert list(found) == ["a", "h", "b", "n"] and found["n"] == 7
    np.testing.assert_array_equal(found["a"], SIX.reshape(2, 3))
    for name in "hb":
        np.testing.assert_array_equal(found[name].astype(np.float32), SIX)


WRONG = [
    (b"", "no .safetensors"),
    (struct.pack("<Q", MAX_HEADER + 1) + b" " * 99, "no .safetensors"),
    (written({"a": entry()})[:40], "no .safetensors"),
    (written({"a": entry()})[:-1], "does not fit"),
    (written({"a": entry(shape=(2, 4))}), "does not fit"),
    (written({"a": entry(shape=(-2, -3))}), "does not fit"),
    (written({"a": entry(offsets=(24, 0))}), "does not fit"),
    (written({"a": entry(offsets=(-4, 20))}), "does not fit"),
    (written({"a": entry(shape=(2.0, 3))}), "does not fit"),
    (written({"a": entry("F8_E4M3")}), "only F32"),
    (written({"a": {"dtype": "F32"}}), "damaged"),
    (written({"a": entry(offsets=(0, 12, 24))}), "damaged"),
    (written([1]), "damaged"),
    (written(b"{" * 100000), "damaged"),
    (written(b"\xff"), "damaged"),
]


@pytest.mark.parametrize(("content", "reason"), WRONG)
def test_what_does_not_fit_is_refused(content, reason):
    with pytest.raises(DataError, match=reason):
        read_safetensors(content)
