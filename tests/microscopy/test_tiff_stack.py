"""TIFF stacks: pages of several writers bit by bit, scale and unit, and short errors for what is damaged."""

import struct

import cv2
import numpy as np
import pytest

from microscopy.scan import DataError
from microscopy.tiff_stack import num_pages, open_stack, read_page, read_stack
from microscopy.writing import encode_tiff

LIMITS = {"max_pixels": 10_000, "max_total": 100_000}


def pages(count=3, dtype=np.uint8, shape=(20, 30)):
    random = np.random.default_rng(0)
    return [random.uniform(0, 250, shape).astype(dtype) for _ in range(count)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("compression", [1, 5])
def test_pages_come_back_bit_by_bit_in_order(tmp_path, dtype, compression):
    images = pages(dtype=dtype)
    cv2.imwritemulti(str(tmp_path / "a.tif"), images, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    found = read_stack(tmp_path / "a.tif", **LIMITS)
    assert [channel.pixels.dtype for channel in found] == [dtype] * 3
    assert all(np.array_equal(channel.pixels, image) for channel, image in zip(found, images, strict=True))


def test_colours_are_rgb_and_one_page_is_a_stack_of_one(tmp_path):
    images = pages(2, shape=(8, 9, 3))
    cv2.imwritemulti(str(tmp_path / "a.tif"), [image[..., ::-1] for image in images])
    assert np.array_equal(read_stack(tmp_path / "a.tif", **LIMITS)[1].pixels, images[1])
    (tmp_path / "b.tif").write_bytes(encode_tiff(pages(1, np.float32)[0], (2.0, 3.0), "nm"))
    (alone,) = read_stack(tmp_path / "b.tif", **LIMITS)
    assert alone.unit == "nm" and alone.nm_per_pixel == pytest.approx((2.0, 3.0))


@pytest.mark.parametrize(
    "options", [{"bigtiff": True}, {"byteorder": ">"}, {"tile": (16, 16)}, {"rowsperstrip": 3}, {"compression": "zlib"}]
)
def test_other_layouts_are_read(tmp_path, options):
    tifffile = pytest.importorskip("tifffile")
    images = np.stack(pages(dtype=np.uint16))
    tifffile.imwrite(tmp_path / "a.tif", images, photometric="minisblack", **options)
    assert np.array_equal(np.stack([channel.pixels for channel in read_stack(tmp_path / "a.tif", **LIMITS)]), images)


def test_the_scale_stated_on_the_first_page_of_an_imagej_stack_holds_for_all(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    words = {"unit": "um", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", np.stack(pages()), imagej=True, resolution=(500.0, 500.0), metadata=words)
    found = read_stack(tmp_path / "a.tif", **LIMITS)
    assert [channel.nm_per_pixel for channel in found] == [pytest.approx((2.0, 2.0))] * 3


def test_a_smaller_copy_of_a_page_is_passed_over(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for image in pages(2):
            writer.write(image, photometric="minisblack", contiguous=False)
            writer.write(image[::2, ::2], subfiletype=1, photometric="minisblack", contiguous=False)
    assert [channel.pixels.shape for channel in read_stack(tmp_path / "a.tif", **LIMITS)] == [(20, 30)] * 2


def test_pages_are_counted_and_read_one_by_one(tmp_path):
    cv2.imwritemulti(str(tmp_path / "a.tif"), images := pages(dtype=np.uint16))
    (tmp_path / "b.tif").write_bytes(encode_tiff(images[0], (2.0, 3.0)))
    assert (num_pages(tmp_path / "a.tif"), num_pages(tmp_path / "b.tif"), num_pages(tmp_path / "none.tif")) == (3, 1, 1)
    (tmp_path / "c.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:1000])
    (tmp_path / "d.tif").write_bytes(b"")
    assert num_pages(tmp_path / "c.tif") == num_pages(tmp_path / "d.tif") == 1
    stack = open_stack(tmp_path / "a.tif", max_pixels=10_000)
    for number in (3, 1):
        assert np.array_equal(read_page(stack, number, "a.tif", max_pixels=10_000).pixels, images[number - 1])
    with pytest.raises(DataError, match=r"^a\.tif, page 2: has 30 x 20 pixels"):
        read_page(stack, 2, "a.tif", max_pixels=100)
    with pytest.raises(DataError, match=r"c\.tif: is truncated"):
        open_stack(tmp_path / "c.tif", max_pixels=10_000)


def test_what_cannot_be_read_is_one_short_error(tmp_path):
    path = tmp_path / "a.tif"
    cv2.imwritemulti(str(path), pages(), [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    whole = path.read_bytes()
    with pytest.raises(DataError, match="a.tif, page 1.*max_pixels"):
        read_stack(path, max_pixels=599, max_total=10_000)
    with pytest.raises(DataError, match="page 2.*max_pixels = 400"):
        read_stack(path, max_pixels=600, max_total=1000)
    rest = [whole[: len(whole) // 2], whole[:12], b"II*\0" + struct.pack("<I", 8) + bytes(2) + struct.pack("<I", 8), b"no tiff"]
    for content in rest:
        path.write_bytes(content)
        with pytest.raises(DataError, match="a.tif") as caught:
            read_stack(path, **LIMITS)
        assert len(str(caught.value).splitlines()) == 1


def test_pages_in_a_circle_end(tmp_path):
    cv2.imwritemulti(str(tmp_path / "a.tif"), pages(2), [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    content = bytearray((tmp_path / "a.tif").read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    (second,) = struct.unpack_from("<I", content, first + 2 + 12 * count)
    (count,) = struct.unpack_from("<H", content, second)
    struct.pack_into("<I", content, second + 2 + 12 * count, second)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(DataError, match="do not end"):
        read_stack(tmp_path / "a.tif", **LIMITS)
