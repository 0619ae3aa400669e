"""Nanonis files written line by line as the tip travels come back as the picture."""

import numpy as np
import pytest

from microscopy.channels import label
from microscopy.nanonis import read_sxm
from microscopy.scan import DataError
from tests.microscopy import native_writers as write

KEY = np.random.default_rng(0)
Z, ZB, C, CB = KEY.normal(size=(4, 6, 9)).astype(np.float32) * np.float32(1e-9)
BOTH = [
    ("Z", "m", "both", (Z, ZB)),
    ("Current", "A", "both", (C, CB)),
    ("LI Demod 1 X", "V", "forward", (C,)),
    ("Phase", "\u00b0", "backward", (CB,)),
]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_all_channels_and_directions_come_back_as_the_picture(direction):
    channels = read_sxm(write.sxm(BOTH, direction=direction), 100)
    assert [label(c) for c in channels] == [
        "Z forward", "Z backward", "Current forward", "Current backward", "LI Demod 1 X forward", "Phase backward",
    ]  # fmt: skip
    for channel, picture in zip(channels, (Z, ZB, C, CB, C, CB), strict=True):
        np.testing.assert_array_equal(channel.pixels, picture)
        assert channel.pixels.dtype == np.float32 and channel.pixels.flags["C_CONTIGUOUS"]
    assert [c.unit for c in channels] == ["m", "m", "A", "A", "V", "deg"]
    assert channels[0].nm_per_pixel == pytest.approx((10 / 6, 20 / 9)) and channels[0].bias == -0.4


@pytest.mark.parametrize("direction, rows", [("down", slice(4, None)), ("up", slice(0, 2))])
def test_lines_not_scanned_stay_nan_where_they_are_in_the_picture(direction, rows):
    picture = Z.copy()
    picture[rows] = np.nan
    channel = read_sxm(write.sxm([("Z", "m", "forward", (picture,))], direction=direction), 100)[0]
    np.testing.assert_array_equal(channel.pixels, picture)


def test_a_bias_that_is_no_number_is_left_out():
    assert read_sxm(write.sxm(BOTH, bias="swept"), 100)[0].bias is None


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"pixels": "2147483648       2147483648"}, "more than max_pixels"),
        ({"pixels": "-9       6"}, "SCAN_PIXELS as '-9'"),
        ({"pixels": "0       6"}, "declares 0 x 6 pixels"),
        ({"pixels": "9"}, "SCAN_PIXELS is '9'"),
        ({"pixels": "12       6"}, "pixels of 4 of its 6 images"),
        ({"pixels": "4       6"}, "720 bytes more than 6 images of 4 x 6 pixels"),
        ({"range_m": (float("nan"), 1e-8)}, "SCAN_RANGE as 'NAN'"),
        ({"range_m": (0.0, 1e-8)}, "a scan of 0 x 1e-08 m"),
        ({"range_m": (-1e-8, 1e-8)}, "a scan of -1e-08"),
        ({"range_m": (1e305, 1e305)}, "a scan of 1e"),
        ({"direction": "sideways"}, "SCAN_DIR is 'sideways'"),
        ({"kind": "FLOAT            LSBFIRST"}, "not FLOAT MSBFIRST"),
    ],
)
def test_headers_that_cannot_be(changes, words):
    with pytest.raises(DataError, match=words):
        read_sxm(write.sxm(BOTH, **changes), 100)


def test_damaged_tables_and_truncated_files():
    content = write.sxm(BOTH)
    for cut, words in ((200, "no end of header"), (len(content) - 1, "pixels of 5 of its 6 images"), (content.find(b"\x1a\x04"), "no end")):
        with pytest.raises(DataError, match=words):
            read_sxm(content[:cut], 100)
    for old, new, words in (
        (b"\tboth", b"\tnone", "damaged line in DATA_INFO"),
        (b"\tChannel\tName", b"\tChannel\tTitle", "other columns"),
        (b":SCAN_DIR:", b":SCAN_WAY:", "without SCAN_DIR"),
        (b"\t14\tZ", b"\t14\t", "damaged line"),
    ):
        with pytest.raises(DataError, match=words):
            read_sxm(content.replace(old, new, 1), 100)
