"""TIFF files assembled by hand: every byte order and kind comes back exactly, and no tag is believed unchecked."""

import struct

import cv2
import numpy as np
import pytest

from microscopy.formats import decode_image
from microscopy.scan import DataError

LIMIT = 10**6


def noise(dtype, shape=(23, 31)):
    key = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return key.normal(size=shape).astype(dtype)
    return key.integers(np.iinfo(dtype).max, size=shape, dtype=dtype, endpoint=True)


def tiff(array, order="<", big=False, tags=(), photometric=1, bits=None, next_page=0):
    """An uncompressed one-strip TIFF assembled by hand; `array` is (h, w), (h, w, c) or its bytes with `tags` saying the rest."""
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    samples = 1 if array.ndim == 2 else array.shape[2]
    kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    start = 16 if big else 8
    bits = bits or array.dtype.itemsize * 8
    fields = {256: array.shape[1], 257: array.shape[0], 258: bits, 259: 1, 262: photometric, 273: start, 277: samples, 278: array.shape[0]}
    fields |= {279: len(data), 339: kind} | dict(tags)
    layout, word = ("HHQQ", "Q") if big else ("HHII", "I")
    kind_of = 16 if big else 4
    entries = b"".join(struct.pack(order + layout, tag, kind_of, 1, value) for tag, value in sorted(fields.items()))
    at = start + len(data)
    first = struct.pack(order + "HHHQ", 43, 8, 0, at) if big else struct.pack(order + "HI", 42, at)
    count = struct.pack(order + ("Q" if big else "H"), len(fields))
    return (b"II" if order == "<" else b"MM") + first + data + count + entries + struct.pack(order + word, next_page)


@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 32946])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_tiff_compressions_come_back_bit_by_bit(compression, dtype):
    for stored in (noise(dtype), noise(dtype, (23, 31, 3))):
        ok, content = cv2.imencode(".tif", stored[..., ::-1] if stored.ndim == 3 else stored, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
        assert ok
        np.testing.assert_array_equal(decode_image(content.tobytes(), "a.tif", max_pixels=LIMIT), stored)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
def test_tiff_of_both_byte_orders_and_sizes(order, big):
    for dtype in ("u1", "u2", "f4"):
        stored = noise(dtype)
        np.testing.assert_array_equal(decode_image(tiff(stored, order, big), "a.tif", max_pixels=LIMIT), stored)
    for dtype in ("i1", "i2", "f8"):
        stored = noise(dtype)
        pixels = decode_image(tiff(stored, order, big), "a.tif", max_pixels=LIMIT)
        assert pixels.dtype == np.float32
        np.testing.assert_array_equal(pixels, stored.astype(np.float32))


def test_tiff_of_32_bit_integers_is_read_where_float32_holds_it():
    stored = np.array([[0, 2**24, 77]], np.uint32)
    np.testing.assert_array_equal(decode_image(tiff(stored), "a.tif", max_pixels=LIMIT), stored)
    with pytest.raises(DataError, match=r"a\.tif: .*uint32.*float32"):
        decode_image(tiff(stored + 1), "a.tif", max_pixels=LIMIT)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_tiff_whose_zero_is_white_is_turned(dtype):
    stored = noise(dtype)
    np.testing.assert_array_equal(decode_image(tiff(stored, photometric=0), "a.tif", max_pixels=LIMIT), np.iinfo(dtype).max - stored)


def test_tiff_orientation_is_not_applied_and_strange_tags_are_left_out():
    stored = noise("u2")
    np.testing.assert_array_equal(decode_image(tiff(stored, tags={274: 6, 50432: 3}), "a.tif", max_pixels=LIMIT), stored)


def test_tiff_tiles():
    stored = noise("u2", (16, 32))
    tiles = np.concatenate([stored[:, :16].ravel(), stored[:, 16:].ravel()]).reshape(16, 32)
    content = bytearray(tiff(tiles, tags={322: 16, 323: 16, 324: 8, 325: 512}))
    # Two tiles need two offsets and two counts; they are put behind the directory and pointed to.
    at = len(content)
    content += struct.pack("<IIII", 8, 8 + 512, 512, 512)
    for tag, where in ((324, at), (325, at + 8)):
        entry = content.index(struct.pack("<HHI", tag, 4, 1))
        struct.pack_into("<II", content, entry + 4, 2, where)
    np.testing.assert_array_equal(decode_image(bytes(content), "a.tif", max_pixels=LIMIT), stored)


def test_nan_in_tiff_is_counted():
    stored = noise("f4")
    stored[2, 3] = np.nan
    stored[4, :2] = -np.inf
    with pytest.raises(DataError, match=r"a\.tif: holds 3 NaN or infinite values among 713"):
        decode_image(tiff(stored), "a.tif", max_pixels=LIMIT)


@pytest.mark.parametrize(
    "tags, words",
    [
        ({256: 0}, "0 x 23"),
        ({256: 2**31}, "max_pixels"),
        ({259: 2}, "compression 2"),
        ({273: 10**6}, "truncated"),
        ({279: 100}, "does not fill"),
        ({278: 5}, "incomplete"),
        ({277: 2}, "kind not read"),
        ({277: 9}, "samples"),
        ({322: 2**20, 323: 2**12, 324: 8, 325: 9}, "blocks"),
        ({322: 0, 323: 16}, "blocks"),
        ({322: 1, 323: 1}, "tag 324 is missing"),
        ({262: 5}, "photometric 5"),
        ({258: 12}, "12 bits"),
        ({339: 3}, "format 3"),
    ],
)
def test_tiff_tags_that_lie_are_refused(tags, words):
    with pytest.raises(DataError, match=rf"a\.tif: .*{words}"):
        decode_image(tiff(noise("u1"), tags=tags), "a.tif", max_pixels=LIMIT)


def test_tiff_of_several_pages_is_refused_and_a_preview_is_not():
    stored = noise("u1")
    content = tiff(stored)
    second = len(content)
    page = struct.pack("<HHHII", 1, 254, 4, 1, 0) + bytes(4)
    with pytest.raises(DataError, match="several pages"):
        decode_image(content[:-4] + struct.pack("<I", second) + page, "a.tif", max_pixels=LIMIT)
    preview = struct.pack("<HHHII", 1, 254, 4, 1, 1)
    whole = content[:-4] + struct.pack("<I", second) + preview
    np.testing.assert_array_equal(decode_image(whole + bytes(4), "a.tif", max_pixels=LIMIT), stored)
    with pytest.raises(DataError, match="several pages"):  # a chain that bites its tail
        decode_image(whole + struct.pack("<I", second), "a.tif", max_pixels=LIMIT)


def test_a_strip_declared_longer_than_the_image_takes_no_more_room():
    stored = noise("u1")
    for rows in (2**26, 2**32 - 1):
        np.testing.assert_array_equal(decode_image(tiff(stored, tags={278: rows}), "a.tif", max_pixels=LIMIT), stored)


def test_every_truncation_is_refused():
    for big in (False, True):
        content = tiff(noise("u1", (5, 7)), big=big)
        for size in range(len(content)):
            with pytest.raises(DataError, match=r"a\.tif"):
                decode_image(content[:size], "a.tif", max_pixels=LIMIT)
