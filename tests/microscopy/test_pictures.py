import struct
import zlib

import cv2
import numpy as np
import pytest

from microscopy import pictures
from microscopy.scan import DataError


def paeth(left: int, up: int, corner: int) -> int:
    return min((left, up, corner), key=lambda value: abs(left + up - corner - value))


def decode_by_hand(content: bytes) -> np.ndarray:
    """Reads a PNG without OpenCV (PNG specification, sections 5 and 9): RGB order comes from the format itself."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, header = 8, b"", b""
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        body = content[at + 8 : at + 8 + length]
        header, packed = (body if kind == b"IHDR" else header), packed + (body if kind == b"IDAT" else b"")
        at += 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    channels, size = {0: 1, 2: 3}[colour], depth // 8
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).astype(int).reshape(height, 1 + width * channels * size)
    pixels, step = np.zeros((height, width * channels * size), int), channels * size
    for y in range(height):
        for x in range(pixels.shape[1]):
            left = pixels[y, x - step] if x >= step else 0
            up = pixels[y - 1, x] if y else 0
            corner = pixels[y - 1, x - step] if y and x >= step else 0
            guess = [0, left, up, (left + up) // 2, paeth(left, up, corner)][rows[y, 0]]
            pixels[y, x] = (rows[y, 1 + x] + guess) % 256
    pixels = pixels.astype(np.uint8).reshape(height, width, channels, size)
    return pixels.view(">u2")[..., 0].astype(np.uint16) if size == 2 else pixels[..., 0]


def noise(shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def test_to_uint8_rounds_clips_and_inverts_every_level():
    levels = np.arange(256)
    np.testing.assert_array_equal(pictures.to_uint8((levels / 127.5 - 1).astype(np.float32)), levels)
    np.testing.assert_array_equal(pictures.to_uint8(np.array([-7.0, -1.0, 1.0, 1.01, np.inf, -np.inf])), [0, 0, 255, 255, 255, 0])
    np.testing.assert_array_equal(pictures.to_uint8(np.array([10.4, 10.6]) / 127.5 - 1), [10, 11])
    with pytest.raises(DataError, match="NaN"):
        pictures.to_uint8(np.array([0.0, np.nan]))


@pytest.mark.parametrize("tail", [(), (1,), (3,)])
@pytest.mark.parametrize(
    ("count", "columns", "shape"), [(5, None, (2, 3)), (5, 2, (3, 2)), (1, None, (1, 1)), (2, 9, (1, 2)), (7, 1, (7, 1))]
)
def test_grid_holds_every_image_and_white_elsewhere(tail, count, columns, shape):
    images = noise((count, 4, 6, *tail), np.uint8) // 2
    picture = pictures.grid(images, columns)
    assert picture.shape == (shape[0] * 6 - 2, shape[1] * 8 - 2, *(tail if tail == (3,) else ()))
    seen = np.zeros(picture.shape, bool)
    for index in range(count):
        place = np.s_[index // shape[1] * 6 :, index % shape[1] * 8 :]
        np.testing.assert_array_equal(picture[place][:4, :6], images[index] if tail != (1,) else images[index, ..., 0])
        seen[place][:4, :6] = True
    assert (picture[~seen] == 255).all()


@pytest.mark.parametrize(("shape", "dtype"), [((2, 4, 4), float), ((4, 4), np.uint8), ((2, 4, 4, 2), np.uint8), ((0, 4, 4), np.uint8)])
def test_grid_refuses(shape, dtype):
    with pytest.raises(DataError, match="grid needs"):
        pictures.grid(np.zeros(shape, dtype))


def test_grid_refuses_negative_columns():
    with pytest.raises(DataError, match="column"):
        pictures.grid(np.zeros((2, 4, 4), np.uint8), -1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("tail", [(), (1,), (3,)])
def test_png_round_trip_is_bit_exact_and_rgb(dtype, tail, tmp_path):
    picture = noise((9, 7, *tail), dtype)
    path = pictures.write_png(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(decode_by_hand(path.read_bytes()).reshape(picture.shape), picture)
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read[..., ::-1] if tail == (3,) else read.reshape(picture.shape), picture)


def test_png_takes_views_and_is_the_same_file_twice():
    picture = noise((8, 8, 3), np.uint8)[::2, ::-1]
    assert pictures.encode_png(picture) == pictures.encode_png(picture.copy())
    np.testing.assert_array_equal(decode_by_hand(pictures.encode_png(picture)), picture)


@pytest.mark.parametrize("picture", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8), np.zeros(4, np.uint8)])
def test_png_refuses_and_leaves_no_file(picture, tmp_path):
    with pytest.raises(DataError, match="PNG holds"):
        pictures.write_png(tmp_path / "a.png", picture)
    assert not list(tmp_path.iterdir())
