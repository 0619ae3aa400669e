"""What is written with its pixel size comes back: through our readers, through gwyfile and tifffile."""

import io

import cv2
import numpy as np
import pytest
import tifffile

from microscopy.channels import to_nm
from microscopy.native import read_channels
from microscopy.scan import DataError
from microscopy.tiff_stack import read_stack
from microscopy.writing import encode_gwy, encode_tiff, encode_tiff_stack

KEY = np.random.default_rng(0)
HEIGHT = (KEY.normal(size=(40, 33)) * 10.0 ** KEY.integers(-6, 7, size=(40, 33))).astype(np.float32)


def test_gwy_comes_back_within_one_unit_in_the_last_place():
    (stored,) = read_channels(encode_gwy(HEIGHT, (0.5, 0.25), "Generated 1"), "a.gwy", max_pixels=2000)
    assert (stored.name, stored.unit) == ("Generated 1", "m")
    channel = to_nm(stored)
    apart = np.abs(channel.pixels.astype(np.float64) - HEIGHT) / np.spacing(np.abs(HEIGHT))
    assert apart.max() <= 1
    assert channel.nm_per_pixel == pytest.approx((0.5, 0.25), rel=1e-14)


def test_gwyfile_opens_gwy_with_the_same_values_and_size():
    gwyfile = pytest.importorskip("gwyfile", reason="pip install gwyfile (requirements-dev.txt)")
    content = encode_gwy(HEIGHT, (0.5, 0.25), "Height \u03bc")
    container = gwyfile.objects.GwyObject.fromfile(io.BytesIO(content))
    field = container["/0/data"]
    assert container["/0/data/title"] == "Height \u03bc" and container["/0/data/visible"] is True
    assert field.data.dtype == np.float64 and field.data.shape == HEIGHT.shape
    np.testing.assert_array_equal(field.data, HEIGHT.astype(np.float64) * 1e-9)
    assert (field.xreal, field.yreal) == pytest.approx((33 * 0.25e-9, 40 * 0.5e-9), rel=1e-15)
    assert field.si_unit_xy.unitstr == field.si_unit_z.unitstr == "m"
    np.testing.assert_array_equal((field.data * 1e9).astype(np.float32), HEIGHT)  # as doubles nothing is lost


def test_gwy_without_a_pixel_size_states_no_length():
    (channel,) = read_channels(encode_gwy(HEIGHT, None), "a.gwy", max_pixels=2000)
    assert channel.nm_per_pixel is None and channel.unit == "m"


@pytest.mark.parametrize("height", [HEIGHT[0], HEIGHT[..., None], np.full((2, 2), np.nan, np.float32)])
def test_gwy_of_what_is_no_height_map(height):
    with pytest.raises(DataError, match="finite heights"):
        encode_gwy(height, (1, 1))


def image(dtype, shape):
    return (
        HEIGHT[: shape[0], : shape[1]].copy()
        if dtype == "f4"
        else KEY.integers(np.iinfo(dtype).max, size=shape, dtype=dtype, endpoint=True)
    )


@pytest.mark.parametrize("dtype", ["f4", "u1", "u2"])
@pytest.mark.parametrize("shape", [(21, 30), (1, 1), (7, 5)])
def test_tiff_comes_back_bit_by_bit_with_its_scale(dtype, shape):
    pixels = image(dtype, shape)
    content = encode_tiff(pixels, (0.37, 12.5), "nm")
    (channel,) = read_channels(content, "a.tif", max_pixels=2000)
    np.testing.assert_array_equal(channel.pixels, pixels)
    assert channel.pixels.dtype == pixels.dtype and channel.unit == ("nm" if dtype == "f4" else "grey")
    assert channel.nm_per_pixel == pytest.approx((0.37, 12.5), rel=1e-9)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        np.testing.assert_array_equal(page.asarray(), pixels)
        assert file.imagej_metadata["unit"] == "nm" and file.imagej_metadata["vunit"] == "nm"
        x, y = (page.tags[tag].value for tag in ("XResolution", "YResolution"))
        assert (y[1] / y[0], x[1] / x[0]) == pytest.approx((0.37, 12.5), rel=1e-9)


def test_colour_and_grey_without_a_scale():
    colour = KEY.integers(255, size=(9, 8, 3), dtype=np.uint8)
    (channel,) = read_channels(encode_tiff(colour), "a.tif", max_pixels=2000)
    np.testing.assert_array_equal(channel.pixels, colour)
    assert channel.nm_per_pixel is None and channel.unit == "grey"
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(encode_tiff(colour))), colour)
    (channel,) = read_channels(encode_tiff(HEIGHT), "a.tif", max_pixels=2000)
    assert channel.unit == "grey" and channel.nm_per_pixel is None


@pytest.mark.parametrize("scale", [1e-6, 0.1, 1 / 3, 1.0, np.pi, 31.496062992125985, 1e4, 1e9])
def test_any_pixel_size_is_stated_closely(scale):
    (channel,) = read_channels(encode_tiff(HEIGHT, (scale, scale), "nm"), "a.tif", max_pixels=2000)
    assert channel.nm_per_pixel == pytest.approx((scale, scale), rel=1e-9)


@pytest.mark.parametrize("pixels", [HEIGHT.astype(np.float64), HEIGHT[0], np.zeros((2, 2, 4), np.uint8), np.zeros((0, 3), np.uint8)])
def test_tiff_of_what_it_does_not_hold(pixels):
    with pytest.raises(DataError, match="a TIFF holds"):
        encode_tiff(pixels)


def test_pixel_sizes_that_no_rational_states():
    with pytest.raises(DataError, match="cannot be stated"):
        encode_tiff(HEIGHT, (1e-12, 1e-12))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_stack_comes_back_page_by_page(tmp_path, dtype, count):
    planes = np.random.default_rng(0).uniform(0, 250, (count, 7, 9)).astype(dtype)
    (tmp_path / "a.tif").write_bytes(encode_tiff_stack(planes, (2.0, 3.0)))
    done, found = cv2.imreadmulti(str(tmp_path / "a.tif"), flags=cv2.IMREAD_UNCHANGED)
    assert done and np.array_equal(np.stack(found), planes)
    pages = read_stack(tmp_path / "a.tif", max_pixels=100, max_total=1000)
    assert np.array_equal(np.stack([page.pixels for page in pages]), planes)
    assert [page.nm_per_pixel for page in pages] == [pytest.approx((2.0, 3.0))] * count
    if count == 1:
        assert (tmp_path / "a.tif").read_bytes() == encode_tiff(planes[0], (2.0, 3.0))
    with pytest.raises(DataError, match="a stack is"):
        encode_tiff_stack(planes[0])
