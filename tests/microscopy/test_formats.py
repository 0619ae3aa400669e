"""Files written bit by bit or by OpenCV come back exactly; everything else is one short DataError."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from microscopy.formats import decode_image, read_image
from microscopy.scan import DataError

LIMIT = 10**6


def noise(dtype, shape=(23, 31)):
    key = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return key.normal(size=shape).astype(dtype)
    return key.integers(np.iinfo(dtype).max, size=shape, dtype=dtype, endpoint=True)


def png(raw_rows, width, height, bits, colour, extra=b"", interlace=0):
    """A PNG assembled by hand from its unfiltered rows."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw_rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def save(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix, dtype", [(".png", "u1"), (".png", "u2"), (".tif", "u1"), (".tif", "u2"), (".tif", "f4")])
@pytest.mark.parametrize("shape", [(23, 31), (23, 31, 3), (1, 1), (2, 300)])
def test_every_depth_comes_back_bit_by_bit(tmp_path, suffix, dtype, shape):
    stored = noise(dtype, shape)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), stored[..., ::-1] if stored.ndim == 3 else stored)
    pixels = read_image(tmp_path / f"a{suffix}", max_pixels=LIMIT)
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels, stored)


def test_alpha_is_dropped_unchanged_and_noted_only_where_it_says_something(caplog):
    for suffix, dtype in ((".png", "u1"), (".png", "u2"), (".tif", "u1"), (".tif", "u2"), (".tif", "f4")):
        stored = noise(dtype, (23, 31, 4))
        ok, content = cv2.imencode(suffix, stored[..., [2, 1, 0, 3]])
        np.testing.assert_array_equal(decode_image(content.tobytes(), f"a{suffix}", max_pixels=LIMIT), stored[..., :3])
        assert f"a{suffix}: transparency" in caplog.text
        caplog.clear()
        stored[..., 3] = 1 if dtype == "f4" else np.iinfo(dtype).max
        ok, content = cv2.imencode(suffix, stored[..., [2, 1, 0, 3]])
        np.testing.assert_array_equal(decode_image(content.tobytes(), "a", max_pixels=LIMIT), stored[..., :3])
        assert caplog.text == ""


def test_png_grey_with_alpha_stays_grey():
    stored = noise("u1", (5, 7, 2))
    rows = b"".join(b"\0" + row.tobytes() for row in stored)
    np.testing.assert_array_equal(decode_image(png(rows, 7, 5, 8, 4), "a.png", max_pixels=LIMIT), stored[..., 0])


def test_png_palette_becomes_rgb():
    colours = noise("u1", (4, 3))
    indices = np.arange(20, dtype=np.uint8).reshape(4, 5) % 4
    rows = b"".join(b"\0" + row.tobytes() for row in indices)
    content = png(rows, 5, 4, 8, 3, chunk(b"PLTE", colours.tobytes()))
    np.testing.assert_array_equal(decode_image(content, "a.png", max_pixels=LIMIT), colours[indices])


@pytest.mark.parametrize("bits, step", [(1, 255), (2, 85), (4, 17)])
def test_png_of_few_bits_is_spread_over_the_grey_scale(bits, step):
    values = np.arange(16) % 2**bits
    row = np.packbits(np.stack([(values >> bit) & 1 for bit in reversed(range(bits))], 1).astype(np.uint8).ravel())
    pixels = decode_image(png(b"\0" + row.tobytes(), 16, 1, bits, 0), "a.png", max_pixels=LIMIT)
    np.testing.assert_array_equal(pixels, values[None] * step)


def test_png_interlaced():
    stored = noise("u1", (3, 3))
    passes = [stored[::8, ::8], stored[:0], stored[:0], stored[::4, 2::4][:1, :1], stored[2:3, ::2], stored[::2, 1::2], stored[1::2, :]]
    rows = b"".join(b"\0" + row.tobytes() for part in passes for row in part)
    np.testing.assert_array_equal(decode_image(png(rows, 3, 3, 8, 0, interlace=1), "a.png", max_pixels=LIMIT), stored)


def test_jpeg_comes_back_as_opencv_decodes_it_in_rgb_order():
    yy, xx = np.mgrid[:40, :56]
    stored = np.stack([xx * 4, yy * 5, 255 - xx * 3], -1).astype(np.uint8)
    ok, content = cv2.imencode(".jpg", stored[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    pixels = decode_image(content.tobytes() + b"bytes after the end", "a.jpg", max_pixels=LIMIT)
    np.testing.assert_array_equal(pixels, cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1])
    assert np.abs(pixels.astype(int) - stored).mean() < 3
    ok, content = cv2.imencode(".jpg", stored[..., 0])
    assert decode_image(content.tobytes(), "a.jpg", max_pixels=LIMIT).shape == (40, 56)


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "f4", ">f4"])
@pytest.mark.parametrize("order", "CF")
def test_npy_comes_back_bit_by_bit(tmp_path, dtype, order):
    stored = np.asarray(noise(np.dtype(dtype).newbyteorder("=")).astype(dtype), order=order)
    np.save(tmp_path / "a.npy", stored)
    pixels = read_image(tmp_path / "a.npy", max_pixels=LIMIT)
    assert pixels.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(pixels, stored)


@pytest.mark.parametrize("dtype", ["f2", "f8", "i2", "i4", "i8", "u8"])
def test_npy_of_other_numbers_becomes_float32(tmp_path, dtype):
    stored = (noise("f8") * 1000).astype("i2").astype(dtype) if dtype != "u8" else noise("u2").astype(dtype)
    np.save(tmp_path / "a.npy", stored)
    pixels = read_image(tmp_path / "a.npy", max_pixels=LIMIT)
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, stored)


@pytest.mark.parametrize(
    "array, words",
    [
        (np.zeros((2, 2, 2)), "3 dimensions"),
        (np.zeros(3), "1 dimensions"),
        (np.zeros((0, 5)), "0 pixels"),
        (np.zeros((2, 2), bool), "bool"),
        (np.zeros((2, 2), complex), "integers or floats"),
        (np.array([[None, {}]]), "integers or floats"),
        (np.zeros((2, 2), [("a", "f4")]), "integers or floats"),
        (np.array([[2**24 + 1]]), "float32"),
        (np.array([[np.nan, 1, np.inf]]), "2 NaN or infinite values among 3"),
        (np.array([[1e300, 1]]), "1 NaN or infinite values among 2"),
    ],
)
def test_npy_that_is_no_scan_is_refused(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=rf"a\.npy: .*({words})"):
        read_image(tmp_path / "a.npy", max_pixels=LIMIT)


def test_the_limit_is_on_pixels_and_holds_for_every_format(tmp_path):
    stored = noise("u1", (10, 10))
    for suffix in (".png", ".jpg", ".tif"):
        cv2.imwrite(str(tmp_path / f"a{suffix}"), stored)
    np.save(tmp_path / "a.npy", stored)
    for suffix in (".png", ".jpg", ".tif", ".npy"):
        assert read_image(tmp_path / f"a{suffix}", max_pixels=100).shape == (10, 10)
        with pytest.raises(DataError, match=rf"a\{suffix}: has 10 x 10 pixels.*max_pixels = 99"):
            read_image(tmp_path / f"a{suffix}", max_pixels=99)


def test_every_truncation_is_refused():
    stored = noise("u1", (12, 9, 3))
    contents = {suffix: cv2.imencode(suffix, stored)[1].tobytes() for suffix in (".png", ".jpg", ".tif")}
    for name, content in contents.items():
        for size in range(len(content)):
            with pytest.raises(DataError, match=name):
                decode_image(content[:size], name, max_pixels=LIMIT)
        decode_image(content, name, max_pixels=LIMIT)


def test_every_flipped_bit_of_a_png_is_refused_or_harmless():
    stored = noise("u1", (6, 5))
    content = cv2.imencode(".png", stored)[1].tobytes()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DataError, match=r"a\.png"):
            decode_image(bytes(damaged), "a.png", max_pixels=LIMIT)


def test_png_with_sound_checksums_but_too_few_or_too_many_rows_is_refused():
    rows = b"\0\1\2\3" * 4
    assert decode_image(png(rows, 3, 4, 8, 0), "a.png", max_pixels=LIMIT).shape == (4, 3)
    for wrong in (rows[:-4], rows[:-1], rows + rows, b""):
        with pytest.raises(DataError, match=r"a\.png: .*does not fill"):
            decode_image(png(wrong, 3, 4, 8, 0), "a.png", max_pixels=LIMIT)
    with pytest.raises(DataError, match="animated"):
        decode_image(png(rows, 3, 4, 8, 0, chunk(b"acTL", bytes(8))), "a.png", max_pixels=LIMIT)


def test_jpeg_of_rare_kinds_and_with_two_frames_are_refused():
    content = cv2.imencode(".jpg", noise("u1", (16, 16)))[1].tobytes()
    frame = content.index(b"\xff\xc0")
    with pytest.raises(DataError, match="rare kind"):
        decode_image(content[: frame + 1] + b"\xc3" + content[frame + 2 :], "a.jpg", max_pixels=LIMIT)
    bomb = b"\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00"
    with pytest.raises(DataError, match="more than one image"):
        decode_image(content[:-2] + bomb + content[-2:], "a.jpg", max_pixels=LIMIT)
    with pytest.raises(DataError, match="without pixel data"):
        decode_image(content[:2] + content[-2:], "a.jpg", max_pixels=LIMIT)
    with pytest.raises(DataError, match=r"65535 x 65535.*max_pixels"):
        decode_image(content[:2] + bomb + content[-2:], "a.jpg", max_pixels=LIMIT)


def test_what_is_no_image_file_is_refused_and_named(tmp_path, monkeypatch):
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone")
    save(tmp_path / "text.png", b"x,y\n1,2\n")
    save(tmp_path / "really.png", b"BM" + bytes(100))
    cases = {"empty": "empty", "folder": "directory", "pipe": "regular", "broken": "No such file", "missing": "No such file"}
    for stem, words in (cases | {"text": "another kind", "really": "BMP"}).items():
        with pytest.raises(DataError, match=rf"{stem}\.png: .*{words}") as caught:
            read_image(tmp_path / f"{stem}.png", max_pixels=LIMIT)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(DataError, match="null"):
        read_image("a\0b.png", max_pixels=LIMIT)
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(10**9)
    with pytest.raises(DataError, match=r"sparse\.png: has 1000000000 bytes"):
        read_image(tmp_path / "sparse.png", max_pixels=LIMIT)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DataError, match=r"text\.png: .*Permission denied.*permissions"):
        read_image(tmp_path / "text.png", max_pixels=LIMIT)


def test_the_suffix_does_not_decide(tmp_path):
    stored = noise("u2")
    save(tmp_path / "a.jpg", cv2.imencode(".png", stored)[1].tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg", max_pixels=LIMIT), stored)
