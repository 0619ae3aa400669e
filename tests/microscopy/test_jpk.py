"""JPK scans written by tifffile with the private tags come back through their default calibration slot."""

import numpy as np
import pytest

from microscopy.channels import label
from microscopy.native import read_channels
from microscopy.scan import DataError
from tests.microscopy import native_writers as write

KEY = np.random.default_rng(7)
A, B = KEY.integers(-(2**30), 2**30, size=(2, 10, 8))
CHANNELS = [("height", 1, "m", -1e-15, 3e-6, A), ("height", 0, "m", -1e-15, 3e-6, B), ("phase", 0, "deg", 1e-7, 0.0, A)]


def read(content, max_pixels=1000):
    return read_channels(content, "a.jpk", max_pixels=max_pixels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("reflect", [0, 1])
def test_channels_with_direction_unit_and_scale(order, reflect):
    channels = read(write.jpk(CHANNELS, order=order, reflect=reflect))
    assert [(label(c), c.unit) for c in channels] == [("height backward", "m"), ("height forward", "m"), ("phase forward", "deg")]
    for channel, (*_, factor, offset, picture) in zip(channels, CHANNELS, strict=True):
        np.testing.assert_allclose(channel.pixels, picture * factor + offset, rtol=1e-6, atol=abs(offset) * 1e-6)
    assert channels[0].nm_per_pixel == pytest.approx((40, 100))


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint32, np.float32, np.float64])
def test_other_number_types(dtype):
    picture = np.abs(A) >> 16
    (channel,) = read(write.jpk([("height", 0, "m", 2.0, 1.0, picture)], dtype=dtype))
    np.testing.assert_allclose(channel.pixels, picture * 2.0 + 1.0, rtol=1e-6)


def test_raw_counts_and_names_that_come_twice():
    raw = {32897: (32897, "s", 0, "raw", True)}
    channels = read(write.jpk([("height", 0, "m", 2.0, 1.0, A), ("height", 0, "m", 2.0, 1.0, B)], changes=raw))
    assert [(c.name, c.unit) for c in channels] == [("height", ""), ("height 2", "")]
    np.testing.assert_array_equal(channels[1].pixels, B.astype(np.float32))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({32897: (32897, "s", 0, "volts", True)}, "calibration 'volts' is missing"),
        ({32979: (32979, "s", 0, "CubicScaling", True)}, "is CubicScaling"),
        ({32980: (32980, "d", 1, float("nan"), True)}, "damaged calibration"),
        ({32896: (32896, "i", 1, -5, True)}, "missing"),
        ({32896: (32896, "i", 1, 2**31 - 1, True)}, None),
        ({32848: (32848, "s", 0, "", True)}, "0 channels"),
    ],
)
def test_calibrations_that_cannot_be(changes, words):
    content = write.jpk(CHANNELS[:1], changes=changes)
    if words is None:
        assert read(content)[0].pixels.shape == (10, 8)
        return
    with pytest.raises(DataError, match=rf"^a\.jpk: .*{words}"):
        read(content)


def test_grids_and_sizes_that_cannot_be():
    for lengths, words in (((0.0, 1e-6), "a scan of 1e-06 x 0 m"), ((float("nan"), 1e-6), "a scan of 1e-06 x nan m")):
        with pytest.raises(DataError, match=words):
            read(write.jpk(CHANNELS, lengths=lengths))
    with pytest.raises(DataError, match="max_pixels"):
        read(write.jpk(CHANNELS), max_pixels=79)
    content = write.jpk(CHANNELS)
    for cut in [*range(8, len(content), 83), len(content) - 1]:
        with pytest.raises(DataError, match=r"^a\.jpk: "):
            read(content[:cut])
