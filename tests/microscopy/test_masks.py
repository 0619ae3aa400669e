"""Mask files keep their numbers; binary ones are split like SciPy splits them."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import scipy.ndimage

from microscopy.masks import as_ids, as_instances, decode_mask, read_mask
from microscopy.scan import DataError

LIMIT = 10**6


@pytest.mark.parametrize("suffix, dtype", [(".png", "u1"), (".png", "u2"), (".tif", "u1"), (".tif", "u2"), (".tif", "u4"), (".tif", "i4")])
def test_numbers_come_back_as_stored(tmp_path, suffix, dtype):
    ids = np.random.default_rng(0).integers(np.iinfo(dtype).max if dtype != "u4" else 2**31, size=(9, 14), dtype=dtype)
    cv2.imwrite(str(tmp_path / f"m{suffix}"), ids)
    mask = read_mask(tmp_path / f"m{suffix}", max_pixels=LIMIT)
    assert mask.dtype == np.int32
    np.testing.assert_array_equal(mask, ids)


@pytest.mark.parametrize("dtype", ["?", "i8", "f4"])
def test_npy_masks(tmp_path, dtype):
    ids = (np.arange(12).reshape(3, 4) % 5).astype(dtype)
    np.save(tmp_path / "m.npy", ids)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.npy", max_pixels=LIMIT), ids)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_png_gives_its_indices(bits):
    indices = (np.arange(16) % 2**bits).astype(np.uint8)
    row = np.packbits(np.stack([(indices >> bit) & 1 for bit in reversed(range(bits))], 1).ravel()).tobytes()
    colours = np.random.default_rng(0).integers(256, size=(2**bits, 3), dtype=np.uint8)  # colours must not matter
    parts = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 1, bits, 3, 0, 0, 0)) + chunk(b"PLTE", colours.tobytes())
    content = b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode_mask(content, "m.png", max_pixels=LIMIT)[0], indices)


def test_equal_channels_are_grey_and_alpha_is_dropped():
    ids = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for channels in (3, 4):
        content = cv2.imencode(".png", np.repeat(ids[..., None], channels, -1))[1].tobytes()
        np.testing.assert_array_equal(decode_mask(content, "m.png", max_pixels=LIMIT), ids)


@pytest.mark.parametrize(
    "array, words",
    [
        (np.array([[0.5, 1]]), "fractions"),
        (np.array([[np.nan, 1]]), "fractions"),
        (np.array([[np.inf, 1]]), "2147483647"),
        (np.array([[-1, 1]]), "2147483647"),
        (np.array([[2**31, 1]]), "2147483647"),
        (np.array([[[1, 2, 3]]]), "coloured"),
        (np.zeros((0, 3)), "shape"),
        (np.zeros(3), "shape"),
    ],
)
def test_what_is_no_map_of_ids_is_refused(array, words):
    with pytest.raises(DataError, match=words):
        as_ids(array)


def test_jpeg_masks_are_refused():
    content = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes()
    with pytest.raises(DataError, match=r"m\.jpg: is a JPEG, which changes"):
        decode_mask(content, "m.jpg", max_pixels=LIMIT)


@pytest.mark.parametrize("value", [1, 255, 65535])
def test_binary_masks_are_split_into_regions_connected_over_edges_and_corners(value):
    binary = (np.random.default_rng(1).random((40, 50)) < 0.3).astype(np.int32) * value
    instances = as_instances(binary)
    expected, number = scipy.ndimage.label(binary, np.ones((3, 3)))
    assert instances.dtype == np.int32 and instances.max() == number > 50
    pairs = np.unique(np.stack([instances.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == number + 1  # the same regions, whatever their numbers


def test_numbered_maps_and_empty_ones_stay():
    for ids in (np.array([[0, 128, 255, 128]]), np.array([[2, 0, 2]]), np.array([[0, 1, 2, 1]]), np.zeros((2, 2), int)):
        np.testing.assert_array_equal(as_instances(ids.astype(np.int32)), ids)
