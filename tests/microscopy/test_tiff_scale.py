"""Pixel sizes that TIFF files state in words, as tifffile writes them; a resolution for print is none."""

import io

import numpy as np
import pytest
import tifffile

from microscopy.native import read_channels
from microscopy.tiff_scale import stated_scale

PIXELS = np.random.default_rng(0).normal(size=(9, 12)).astype(np.float32)


def tiff(pixels=PIXELS, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def imagej(unit, resolution=(4.0, 2.0), pixels=PIXELS, **metadata):
    return tiff(pixels, imagej=True, resolution=resolution, metadata={"unit": unit, **metadata})


@pytest.mark.parametrize("unit, factor", [("nm", 1), ("um", 1e3), ("\\u00B5m", 1e3), ("micron", 1e3), ("mm", 1e6), ("pm", 1e-3)])
def test_imagej_states_pixels_per_unit(unit, factor):
    (y, x), value_unit = stated_scale(imagej(unit))
    assert (y, x) == pytest.approx((factor / 2, factor / 4)) and value_unit == ""


@pytest.mark.parametrize("unit", ["pixel", "inch", "cm", "", "parsec"])
def test_imagej_without_a_length_states_none(unit):
    assert stated_scale(imagej(unit)) == (None, "")


def test_imagej_with_another_unit_along_y_and_for_values():
    scale, unit = stated_scale(imagej("um", yunit="nm", vunit="nm"))
    assert scale == pytest.approx((0.5, 250)) and unit == "nm"


@pytest.mark.parametrize("unit, factor", [("\u00b5m", 1e3), ("nm", 1), ("\u00c5", 0.1), (None, 1e3)])
def test_ome_states_physical_sizes(unit, factor):
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    units = {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit} if unit else {}
    content = tiff(ome=True, metadata={"axes": "YX", **sizes, **units})
    scale, _ = stated_scale(content)
    assert scale == pytest.approx((0.5 * factor, 0.25 * factor))
    (channel,) = read_channels(content, "a.ome.tif", max_pixels=1000)
    assert channel.nm_per_pixel == scale and channel.unit == "grey"
    np.testing.assert_array_equal(channel.pixels, PIXELS)


def test_ome_without_sizes_or_with_units_that_are_no_length():
    assert stated_scale(tiff(ome=True, metadata={"axes": "YX"}))[0] is None
    reference = {"PhysicalSizeX": 1, "PhysicalSizeY": 1, "PhysicalSizeXUnit": "pixel", "PhysicalSizeYUnit": "pixel"}
    assert stated_scale(tiff(ome=True, metadata={"axes": "YX", **reference}))[0] is None
    for text in (
        '<OME><Pixels PhysicalSizeX="0" PhysicalSizeY="1"/>',
        "<OME><Pixels PhysicalSizeX='nan' PhysicalSizeY='1' />",
        "<OME><Pixels ",
    ):
        assert stated_scale(tiff(description=text, metadata=None)) == (None, "")


@pytest.mark.parametrize("dpi", [72, 96, 300, 2540])
@pytest.mark.parametrize("unit", ["INCH", "CENTIMETER", "NONE"])
def test_a_print_resolution_is_no_scale(dpi, unit):
    content = tiff(resolution=(dpi, dpi), resolutionunit=unit, metadata=None, description="made for print, 1 nm = 1 pixel")
    assert stated_scale(content) == (None, "")
    assert read_channels(content, "a.tif", max_pixels=1000)[0].nm_per_pixel is None


def test_values_take_their_unit_only_where_they_are_measured():
    assert read_channels(imagej("nm", vunit="nm"), "a.tif", max_pixels=1000)[0].unit == "nm"
    (channel,) = read_channels(imagej("nm", vunit="nm", pixels=(PIXELS * 9).astype(np.uint8)), "a.tif", max_pixels=1000)
    assert channel.unit == "grey" and channel.nm_per_pixel == pytest.approx((0.5, 0.25))
